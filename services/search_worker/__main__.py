"""`python -m search_worker`: the process that digests search jobs."""

from __future__ import annotations

from forebay.starting import start

if __name__ == "__main__":
    start("search_worker", "search_worker.app")
