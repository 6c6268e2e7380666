"""The runtime that every worker shares: consume, claim, limit, call, store, settle, drain."""

from __future__ import annotations

from typing import Protocol, TypeVar

from forebay.jobs import Job
from forebay.outcomes import Outcome
from forebay.progress import Write

Request_contra = TypeVar("Request_contra", contravariant=True)


class Handler(Protocol[Request_contra]):
    """Calls the provider for one job; the only part in which the workers differ.

    It answers with an `Outcome` whatever the provider does, and lets `asyncio.CancelledError` pass
    (timeout, lost lease, shutdown). It calls the provider at most once a `handle`: client and SDK
    retries are off, because attempts are counted by the store.
    """

    async def handle(self, job: Job, request: Request_contra, write: Write, /) -> Outcome:
        """Do the job's call.

        Args:
            job: as it was claimed.
            request: its input, validated.
            write: takes the text of the answer while the provider writes it; the pieces together
                are the text that is stored, or nothing of it was written.
        """
