"""`forebay dead ...`: jobs whose attempts ran out, and how they run again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from forebay.cli.api import call
from forebay.cli.options import Kind
from forebay.cli.tables import AsJson
from forebay.client import Attempt, Client, Conflict, Job, JobFilter, NotFound, Problem

dead_app = typer.Typer(
    help="Jobs whose attempts ran out: look at them, run them again.", no_args_is_help=True
)

_Kind = Annotated[Kind | None, typer.Option("--kind", help="Only jobs of this kind.")]
_Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Jobs at most.")]
_Ids = Annotated[list[str] | None, typer.Argument(metavar="JOB_ID", help="Which jobs.")]
_All = Annotated[bool, typer.Option("--all", help="Every job whose attempts ran out.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say it, do not do it.")]


class Replay(StrEnum):
    """What became of the wish to run a job again."""

    QUEUED = "queued"
    NOT_FOUND = "not found"
    NOT_TERMINAL = "not terminal"
    RUN_AGAIN = "already run again: somebody else did so meanwhile"
    SUCCEEDED = "left alone: it has succeeded, and running it again would lose its result"


_REFUSALS = {"not_terminal": Replay.NOT_TERMINAL, "other_generation": Replay.RUN_AGAIN}
"""What the API's problems of a replay mean, by their code."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """A job that may be run again.

    Attributes:
        replay: what running it again would come to.
        job: as it was seen; None when there is no such job.
    """

    job_id: str
    replay: Replay
    job: Job | None = None


@dead_app.command("list")
def list_(*, kind: _Kind = None, limit: _Limit = 50, as_json: AsJson = False) -> None:
    """Show jobs whose attempts ran out, the newest first, with what their last attempt met."""
    jobs = call(lambda client: _newest(client, kind, limit))
    if as_json:
        sys.stdout.write(json.dumps([job.as_json() for job in jobs], indent=2) + "\n")
        return
    console = Console(highlight=False)
    for job in jobs:
        for line in _told(job):
            # Unbroken, to be copied; what a provider said is no markup.
            console.print(line, markup=False, soft_wrap=True)
    shown = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    console.print(shown if len(jobs) < limit else f"{shown}, maybe more")


async def _newest(client: Client, kind: Kind | None, limit: int) -> list[Job]:
    found: list[Job] = []
    async for job in _dead(client, kind):
        found.append(job)
        if len(found) == limit:
            break
    return found


def _dead(client: Client, kind: Kind | None) -> AsyncIterator[Job]:
    """Jobs whose attempts ran out, with each attempt, the newest first."""
    filters: JobFilter = {"dead_lettered": True, "include": "attempts"}
    if kind is not None:
        filters["kind"] = kind
    return client.iterate(**filters)


def _told(job: Job) -> Iterator[str]:
    tries = f"{job.attempts} of {job.max_attempts} attempts"
    yield f"{job.id}  {job.kind}  {tries}  failed {job.as_json().get('finished_at')}"
    yield f"    {_error(job.error)}"
    if job.history:
        last = job.history[-1]
        yield f"    attempt {last.n}: {last.outcome}{_met(last)}"


def _met(attempt: Attempt) -> str:
    who = f" by {attempt.provider}" if attempt.provider else ""
    return f"{who}, {_error(attempt.error)}" if attempt.error else who


def _error(error: Problem | None) -> str:
    return "no error" if error is None else f"{error.code}: {error.detail}"


@dead_app.command("replay")
def replay(
    job_ids: _Ids = None,
    *,
    every: _All = False,
    kind: _Kind = None,
    dry_run: _DryRun = False,
) -> None:
    """Run jobs again, with all their attempts and without their former time limits.

    Named by their ids, or with --all every job whose attempts ran out. A job that somebody else ran
    again meanwhile is left alone. Ends with 0 if all of them are queued, with 1 if one is not.
    """
    ids = job_ids or []
    if bool(ids) == every:
        raise typer.BadParameter("name jobs by their ids, or say --all")
    if kind is not None and not every:
        raise typer.BadParameter("--kind goes with --all")
    counts: Counter[Replay] = Counter()
    try:
        call(lambda client: _replay(client, ids, kind, counts, dry_run=dry_run))
    finally:
        # Said in any case: after trouble in the middle, how far it came.
        said = ", ".join(f"{count} {what.partition(':')[0]}" for what, count in counts.items())
        Console(highlight=False).print(f"{'Would be: ' * dry_run}{said or 'nothing to replay'}")
    if counts.keys() - {Replay.QUEUED}:
        raise typer.Exit(1)


async def _replay(
    client: Client,
    job_ids: list[str],
    kind: Kind | None,
    counts: Counter[Replay],
    *,
    dry_run: bool,
) -> None:
    async for seen in _chosen(client, job_ids, kind):
        promising = seen.replay is Replay.QUEUED and not dry_run
        became = await _again(client, seen) if promising else seen.replay
        counts[became] += 1
        sys.stdout.write(f"{seen.job_id}  {became}\n")
        sys.stdout.flush()


async def _chosen(client: Client, job_ids: list[str], kind: Kind | None) -> AsyncIterator[Prospect]:
    """Each job and what a replay would come to; without ids, every job that is dead."""
    for job_id in job_ids:
        try:
            yield _prospect(await client.get(job_id))
        except NotFound:
            yield Prospect(job_id, Replay.NOT_FOUND)
    if not job_ids:
        async for job in _dead(client, kind):
            yield _prospect(job)


def _prospect(job: Job) -> Prospect:
    if job.succeeded:
        return Prospect(job.id, Replay.SUCCEEDED, job)
    return Prospect(job.id, Replay.QUEUED if job.done else Replay.NOT_TERMINAL, job)


async def _again(client: Client, seen: Prospect) -> Replay:
    """Run a terminal job again, if nobody did since it was seen."""
    try:
        await client.retry(seen.job or seen.job_id)
    except NotFound:
        return Replay.NOT_FOUND
    except Conflict as refused:
        refusal = _REFUSALS.get(refused.code)
        if refusal is None:
            raise
        return refusal
    return Replay.QUEUED
