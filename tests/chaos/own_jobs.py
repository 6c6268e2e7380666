"""Jobs of a test's own choosing, beside the steady load: with directives, limits and keys.

Each is in the callers' ledger like every other, so the audit judges it too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import count
from typing import Any

from forebay.errors import StoreUnavailable
from forebay.jobs import Job
from forebay.testing.polling import until

from .prober import Probe
from .scene import Scene

Body = dict[str, Any]
PAGE = 1000
"""Jobs asked for at once: one question for tens of thousands is larger than the store takes."""
_numbers = count()


def directive(**words: object) -> str:
    """What the simulated providers are asked to do: `[simulate status=500 times=2]`."""
    said = (name if value is True else f"{name}={value}" for name, value in words.items())
    return f"[simulate {' '.join(said)}]" if words else ""


def search(**words: object) -> Body:
    """A search with that directive; no two are alike."""
    query = f"weir {next(_numbers)} {directive(**words)}"
    return {"kind": "search", "input": {"query": query}}


def llm(**words: object) -> Body:
    """A conversation with that directive; no two are alike."""
    message = {"role": "user", "content": f"Sluice {next(_numbers)}? {directive(**words)}"}
    return {"kind": "llm", "input": {"model": "small", "messages": [message]}}


def crawl(here: Scene, path: str) -> Body:
    """One page of the simulated site."""
    return {"kind": "crawl", "input": {"url": f"{here.stack.site_url}{path}"}}


async def submitted(here: Scene, *bodies: Body) -> list[str]:
    """Submit all at once, each until it is accepted, under keys of their own; the jobs' ids."""
    submit, numbers = here.callers.submit_to, (next(_numbers) for _ in bodies)
    return await asyncio.gather(
        *(submit("/v1/jobs", body, f"own-{n}") for body, n in zip(bodies, numbers, strict=True))
    )


def enter(here: Scene, probes: Iterable[Probe]) -> None:
    """Put what a prober was answered into the ledger."""
    ledger = here.callers.ledger.file
    for probe in probes:
        said = {"kind": "search", "key": probe.key, "job_id": probe.job_id}
        ledger.note("POST", "/v1/search", probe.status, **said)


async def jobs_of(here: Scene, ids: Iterable[str]) -> dict[str, Job]:
    """What the store holds of these; raises `StoreUnavailable` while it is away."""
    wanted = [*ids]
    return {
        job.id: job
        for first in range(0, len(wanted), PAGE)
        for job in await here.store.look_up(wanted[first : first + PAGE])
    }


async def ended(here: Scene, ids: Iterable[str], within_s: float = 60.0) -> dict[str, Job]:
    """These jobs, once each has its end."""
    wanted = [*ids]
    found: dict[str, Job] = {}

    async def all_ended() -> bool:
        try:
            found.update(await jobs_of(here, wanted))
        except StoreUnavailable:
            return False
        return len(found) == len(wanted) and all(job.done for job in found.values())

    await until(all_ended, within_s)
    return found


async def calls_of(here: Scene, job_id: str) -> list[dict[str, Any]]:
    """The job's calls as its provider saw them, in order."""
    said = await here.callers.get(f"{here.stack.providers_url}/_calls?job={job_id}")
    calls: list[dict[str, Any]] = said["calls"]
    return calls


async def in_flight(here: Scene, kind: str) -> int:
    """How many calls of that kind are under way at the providers."""
    return int((await _stats(here))[kind]["in_flight"])


async def calls_cut(here: Scene) -> dict[str, int]:
    """How many calls of each kind were left by their caller before the provider had answered."""
    return {kind: said["client_gone"] for kind, said in (await _stats(here)).items()}


async def _stats(here: Scene) -> dict[str, Any]:
    stats: dict[str, Any] = await here.callers.get(f"{here.stack.providers_url}/_stats")
    return stats
