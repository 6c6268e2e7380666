"""The jobs of a ledger as the store holds them: in pages, and again until they are at their end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator

from forebay.audit.verdict import Seen
from forebay.errors import StoreUnavailable
from forebay.store import JobStore

PAGE = 1000
"""Jobs in one query."""
LOOK_EVERY_S = 1.0


async def look(store: JobStore, job_ids: Collection[str]) -> dict[str, Seen]:
    """What the store holds of these jobs, by id; raises `StoreUnavailable`."""
    found: dict[str, Seen] = {}
    for page in _pages([*job_ids]):
        found |= {job.id: Seen.of(job) for job in await store.look_up(page)}
    return found


async def look_until_terminal(
    store: JobStore, job_ids: Collection[str], wait_s: float
) -> dict[str, Seen]:
    """The same, once none is open or untold any more, or when `wait_s` seconds are over.

    A store that does not answer is asked again for as long. One look at least is made; only what
    was open is looked at again, because what is not there does not come.
    """
    until = time.monotonic() + wait_s
    found: dict[str, Seen] = {}
    ask_for: Collection[str] = job_ids
    while True:
        try:
            found |= await look(store, ask_for)
        except StoreUnavailable:
            if time.monotonic() >= until:
                raise
        else:
            ask_for = [job_id for job_id in ask_for if _open(found.get(job_id))]
            if not ask_for or time.monotonic() >= until:
                return found
        await asyncio.sleep(min(LOOK_EVERY_S, max(until - time.monotonic(), 0)))


def _open(job: Seen | None) -> bool:
    return job is not None and (job.untold or not job.state.terminal)


def _pages(job_ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(job_ids), PAGE):
        yield job_ids[start : start + PAGE]
