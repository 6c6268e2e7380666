"""`python -m llm_worker`: the process that digests llm jobs."""

from __future__ import annotations

from forebay.starting import start

if __name__ == "__main__":
    start("llm_worker", "llm_worker.app")
