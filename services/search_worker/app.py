"""The composition root of the search worker."""

from __future__ import annotations

from forebay.jobs import JobKind
from forebay.process import Process
from forebay.requests import SearchRequest
from forebay.settings import load
from forebay.worker.runtime import WorkerSpec, run_worker
from search_worker.handler import open_handler
from search_worker.settings import SearchSettings


async def main(process: Process) -> None:
    """Work until a stop signal."""
    settings = load(SearchSettings)
    async with open_handler(settings) as handler:
        await run_worker(
            process, WorkerSpec(JobKind.SEARCH, SearchRequest, handler, settings, settings.backoff)
        )
