"""`python -m crawler_worker`: the process that digests crawl jobs."""

from __future__ import annotations

from forebay.starting import start

if __name__ == "__main__":
    start("crawler_worker", "crawler_worker.app")
