"""Callers who wait for something: for how long they may, and when they have left."""

from __future__ import annotations

import asyncio
import re

from starlette.requests import Request
from starlette.types import Receive

from forebay.tasks import end
from ingress.dependencies import Services, caller_of

# RFC 7240: preferences stand between commas, and one that makes no sense is ignored.
_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)


def preferred_wait_s(request: Request, most_s: float) -> float:
    """What `Prefer: wait=n` asks for, in seconds, at most `most_s`; 0 when it asks for nothing."""
    asked = _WAIT.search(",".join(request.headers.getlist("prefer")))
    return min(float(asked[1]), most_s) if asked else 0.0


async def until_done(request: Request, services: Services, job_id: str, wait_s: float) -> bool:
    """Wait for the end of the job, or of the time, or of the caller's patience.

    False, and at once, when too many wait already.
    """
    with services.places.taken(caller_of(request)) as has_place:
        if has_place:
            await _until_done(request, services, job_id, wait_s)
        return has_place


async def _until_done(request: Request, services: Services, job_id: str, wait_s: float) -> None:
    finished = asyncio.create_task(services.waiting.until(job_id, wait_s))
    left = asyncio.create_task(until_left(request.receive))
    try:
        await asyncio.wait((finished, left), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(finished, left)


async def until_left(receive: Receive) -> None:
    """Wait until the caller closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
