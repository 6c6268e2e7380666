"""The composition root of the LLM worker."""

from __future__ import annotations

from forebay.jobs import JobKind
from forebay.process import Process
from forebay.requests import LlmRequest
from forebay.settings import load
from forebay.worker.runtime import WorkerSpec, run_worker
from llm_worker.handler import open_handler
from llm_worker.settings import LlmSettings


async def main(process: Process) -> None:
    """Work until a stop signal."""
    settings = load(LlmSettings)
    async with open_handler(settings) as handler:
        await run_worker(
            process, WorkerSpec(JobKind.LLM, LlmRequest, handler, settings, settings.backoff)
        )
