"""`forebay dead ...`: jobs whose attempts ran out, and how they run again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import typer
from rich.console import Console

from forebay.cli.api import Api, ApiSettings, Prospect, Replay, Shown, open_api, prospect_of
from forebay.cli.patience import run_patiently
from forebay.cli.tables import AsJson
from forebay.jobs import JobKind
from forebay.settings import load

dead_app = typer.Typer(
    help="Jobs whose attempts ran out: look at them, run them again.", no_args_is_help=True
)

_Kind = Annotated[JobKind | None, typer.Option("--kind", help="Only jobs of this kind.")]
_Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Jobs at most.")]
_Ids = Annotated[list[str] | None, typer.Argument(metavar="JOB_ID", help="Which jobs.")]
_All = Annotated[bool, typer.Option("--all", help="Every job whose attempts ran out.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Say it, do not do it.")]


@dead_app.command("list")
def list_(*, kind: _Kind = None, limit: _Limit = 50, as_json: AsJson = False) -> None:
    """Show jobs whose attempts ran out, the newest first, with what their last attempt met.

    Reads FOREBAY_URL, the address of the ingress.
    """
    settings = load(ApiSettings)
    jobs = run_patiently(lambda: _newest(settings, kind, limit), 0)
    if as_json:
        sys.stdout.write(json.dumps(jobs, indent=2) + "\n")
        return
    console = Console(highlight=False)
    for job in jobs:
        for line in _told(job):
            # Unbroken, to be copied; what a provider said is no markup.
            console.print(line, markup=False, soft_wrap=True)
    shown = "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
    console.print(shown if len(jobs) < limit else f"{shown}, maybe more")


async def _newest(settings: ApiSettings, kind: JobKind | None, limit: int) -> list[Shown]:
    found: list[Shown] = []
    async with open_api(settings) as api:
        async for job in api.dead(kind):
            found.append(job)
            if len(found) == limit:
                break
    return found


def _told(job: Shown) -> Iterator[str]:
    tries = f"{job['attempts']} of {job['max_attempts']} attempts"
    yield f"{job['id']}  {job['kind']}  {tries}  failed {job['finished_at']}"
    yield f"    {_error(job['error'])}"
    attempts = job["history"]
    if attempts:
        last = attempts[-1]
        yield f"    attempt {last['n']}: {last['outcome']}{_met(last)}"


def _met(attempt: Shown) -> str:
    who = f" by {attempt['provider']}" if attempt["provider"] else ""
    return f"{who}, {_error(attempt['error'])}" if attempt["error"] else who


def _error(error: Shown | None) -> str:
    return "no error" if error is None else f"{error['code']}: {error['detail']}"


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
    again meanwhile is left alone. Reads FOREBAY_URL. Ends with 0 if all of them are queued, with 1
    if one is not.
    """
    ids = job_ids or []
    if bool(ids) == every:
        raise typer.BadParameter("name jobs by their ids, or say --all")
    if kind is not None and not every:
        raise typer.BadParameter("--kind goes with --all")
    settings = load(ApiSettings)
    counts: Counter[Replay] = Counter()
    try:
        run_patiently(lambda: _replay(settings, ids, kind, counts, dry_run=dry_run), 0)
    finally:
        # Said in any case: after trouble in the middle, how far it came.
        said = ", ".join(f"{count} {what.partition(':')[0]}" for what, count in counts.items())
        Console(highlight=False).print(f"{'Would be: ' * dry_run}{said or 'nothing to replay'}")
    if counts.keys() - {Replay.QUEUED}:
        raise typer.Exit(1)


async def _replay(
    settings: ApiSettings,
    job_ids: list[str],
    kind: JobKind | None,
    counts: Counter[Replay],
    *,
    dry_run: bool,
) -> None:
    async with open_api(settings) as api:
        async for seen in _chosen(api, job_ids, kind):
            promising = seen.replay is Replay.QUEUED and not dry_run
            became = await api.replay(seen) if promising else seen.replay
            counts[became] += 1
            sys.stdout.write(f"{seen.job_id}  {became}\n")
            sys.stdout.flush()


async def _chosen(api: Api, job_ids: list[str], kind: JobKind | None) -> AsyncIterator[Prospect]:
    """Each job and what a replay would come to; without ids, every job that is dead."""
    for job_id in job_ids:
        yield await api.prospect(job_id)
    if not job_ids:
        async for job in api.dead(kind):
            yield prospect_of(job)
