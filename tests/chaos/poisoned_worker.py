"""A real worker whose handler dies with its whole process on some inputs: `python -m ...`.

The runtime is the product's own. Only the call is made up: it takes a moment, and the poison kills
the process in the middle of it, as an input does that exhausts the memory.
"""

from __future__ import annotations

import asyncio
import os
import signal

from forebay.jobs import Job, JobKind
from forebay.outcomes import Call, Outcome, Succeeded
from forebay.process import Process, run
from forebay.progress import Write
from forebay.requests import SearchRequest
from forebay.settings import ProviderWorkerSettings
from forebay.worker.runtime import WorkerSpec, run_worker

POISON = "poison"
"""What the poisonous inputs begin with."""
CONCURRENCY = 20
LEASE_S = 3.0
CALL_S = 2.0
"""The poison kills in the middle of its call: whoever began up to a second before it or after it is
then in the middle of his own, on a busy machine too."""
AGAIN_S = 0.5


class Handler:
    """Answers everything, but for a poison."""

    async def handle(self, job: Job, request: SearchRequest, _: Write, /) -> Outcome:
        # Who was beside a poison runs again one at a time: there is nobody to be long for.
        half_s = (CALL_S if job.attempts == 1 else AGAIN_S) / 2
        await asyncio.sleep(half_s)
        if request.query.startswith(POISON):
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(half_s)
        return Succeeded('{"ok": true}', Call("made up"))


async def main(process: Process) -> None:
    """Work until a stop signal."""
    settings = ProviderWorkerSettings(concurrency=CONCURRENCY, lease_s=LEASE_S, grace_s=5)
    await run_worker(
        process, WorkerSpec(JobKind.SEARCH, SearchRequest, Handler(), settings, settings.backoff)
    )


if __name__ == "__main__":
    run("search_worker", main)
