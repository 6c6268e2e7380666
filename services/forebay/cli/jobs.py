"""`forebay get`, `wait`, `result`, `stream`, `cancel`, `retry`, `delete`, `jobs list`, `replay`."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from forebay.cli import NOT_SUCCEEDED
from forebay.cli.api import call
from forebay.cli.batch import show_batch
from forebay.cli.options import (
    CreatedAfter,
    CreatedBefore,
    ErrorCodes,
    FilterTags,
    JobId,
    Kinds,
    Providers,
    States,
    Timeout,
    given,
)
from forebay.cli.tables import AsJson, age, say_json, show_fields, show_rows
from forebay.client import Attempt, Client, Job, JobFailed, Moved, Output, Problem, Reset
from forebay.client.events import JobEvent

jobs_app = typer.Typer(help="Many jobs.", no_args_is_help=True)


def get(
    job_id: JobId,
    *,
    attempts: Annotated[bool, typer.Option("--attempts", help="With each attempt.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a job as it is now."""
    show_job(call(lambda client: client.get(job_id, attempts=attempts)), as_json=as_json)


def wait(job_id: JobId, *, timeout: Timeout = None, as_json: AsJson = False) -> None:
    """Wait until a job is done, and show it.

    Ends with 4 if it did not succeed, with 5 if it was not done in time.
    """
    job = call(lambda client: client.wait(job_id, timeout))
    show_job(job, as_json=as_json)
    if not job.succeeded:
        raise typer.Exit(NOT_SUCCEEDED)


def result(job_id: JobId, *, timeout: Timeout = None, as_json: AsJson = False) -> None:
    """Wait until a job is done, and print its result.

    Ends with 4 if it did not succeed, with 5 if it was not done in time.
    """

    async def ended(client: Client) -> Job:
        job = await client.wait(job_id, timeout)
        if job.succeeded and job.result is None:
            await client.result(job)  # raises: it is kept no longer
        return job

    show_result(call(ended), as_json=as_json)


def stream(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Follow a job: what an LLM writes on stdout, what happens on stderr.

    With --json each event is a line. Ends with 4 if the job does not succeed.
    """
    call(lambda client: follow(client, job_id, as_json=as_json))


def cancel(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Stop a job; one that is done stays as it ended."""
    show_job(call(lambda client: client.cancel(job_id)), as_json=as_json)


def retry(job_id: JobId, *, as_json: AsJson = False) -> None:
    """Run a job again that is done, under its id."""
    show_job(call(lambda client: client.retry(job_id)), as_json=as_json)


def delete(job_id: JobId) -> None:
    """Forget a job that is done, with its result."""
    call(lambda client: client.delete(job_id))
    sys.stdout.write(f"{job_id} is deleted\n")


@jobs_app.command("list")
def list_(
    *,
    state: States = None,
    kind: Kinds = None,
    tag: FilterTags = None,
    provider: Providers = None,
    error_code: ErrorCodes = None,
    batch: Annotated[
        str | None, typer.Option("--batch", metavar="BATCH_ID", help="Of this batch.")
    ] = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Jobs at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first. All filters must hold; of one with several values, any."""
    filters: Any = given(
        state=state, kind=kind, tag=tag, provider=provider, error_code=error_code, batch_id=batch,
        created_after=created_after, created_before=created_before,
        order="oldest" if oldest else None,
    )  # fmt: skip

    async def found(client: Client) -> list[Job]:
        jobs: list[Job] = []
        async for job in client.iterate(**filters):
            jobs.append(job)
            if len(jobs) == limit:
                break
        return jobs

    jobs = call(found)
    if as_json:
        say_json([job.as_json() for job in jobs])
    else:
        show_rows("id", "kind", "state", "age", "error", rows=map(_row, jobs))


def replay(
    *,
    state: States = None,
    kind: Kinds = None,
    tag: FilterTags = None,
    provider: Providers = None,
    error_code: ErrorCodes = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Jobs at most.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, do not do it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run again, as a batch, what a filter names: what failed, if no state is said."""
    filters: Any = given(
        state=state, kind=kind, tag=tag, provider=provider, error_code=error_code,
        created_after=created_after, created_before=created_before, limit=limit,
    )  # fmt: skip
    if not dry_run:
        show_batch(call(lambda client: client.replay(**filters)), as_json=as_json)
        return
    preview = call(lambda client: client.replay(dry_run=True, **filters))
    if as_json:
        say_json(preview.as_json())
        return
    for job_id in preview.job_ids:
        sys.stdout.write(f"{job_id}\n")
    more = ", and more than run again at once" if preview.has_more else ""
    sys.stdout.write(f"Would run again: {preview.matched}{more}\n")


def show_job(job: Job, *, as_json: bool) -> None:
    """What is known of a job, without its result."""
    if as_json:
        say_json(job.as_json())
        return
    rows = [
        ("id", job.id),
        ("kind", job.kind),
        ("state", job.state),
        ("waits for", job.wait and job.wait.reason),
        ("lane", job.lane),
        ("attempts", f"{job.attempts} of {job.max_attempts}"),
        ("provider", job.provider),
        ("batch", job.batch_id),
        ("tags", ", ".join(job.tags)),
        ("error", _error(job.error)),
        *((f"attempt {one.n}", _attempt(one)) for one in job.history or ()),
    ]
    show_fields(rows)


def _attempt(attempt: Attempt) -> str:
    error = f", {_error(attempt.error)}" if attempt.error else ""
    by = f" by {attempt.provider}" if attempt.provider else ""
    return f"{attempt.outcome}{by} in {attempt.provider_ms} ms{error}"


def _error(error: Problem | None) -> str | None:
    return None if error is None else f"{error.code}: {error.detail}"


def show_result(job: Job, *, as_json: bool) -> None:
    """The result, as text where it is one; raises `JobFailed` when there is none."""
    if not job.succeeded:
        raise JobFailed(job)
    content = job.result.get("content") if isinstance(job.result, dict) else None
    if job.kind == "llm" and isinstance(content, str) and not as_json:
        _write(f"{content}\n")
    else:
        say_json(job.result)


async def follow(client: Client, job_id: str, *, as_json: bool) -> Job:
    """Print the events of a job to its end; raises `JobFailed`."""
    async with client.stream(job_id) as events:
        async for event in events:
            _tell(event, as_json=as_json, ends_a_line=bool(events.text))
        job = events.job if events.job is not None else await client.get(job_id)
    if not job.succeeded:
        raise JobFailed(job)
    return job


def _tell(event: JobEvent, *, as_json: bool, ends_a_line: bool) -> None:
    match event:
        case _ if as_json:
            sys.stdout.write(json.dumps(_line(event)) + "\n")
        case Output():
            _write(event.text)
        case Reset():
            # What was written cannot be taken back on a terminal.
            _write("\n")
            sys.stderr.write("job.output.reset: a new attempt begins anew\n")
        case Moved():
            if event.job.done and ends_a_line:
                # Both may go to one terminal: the text ends before it is said how.
                _write("\n")
                sys.stdout.flush()
            sys.stderr.write(f"{event.type}\n")
    sys.stdout.flush()


def _line(event: JobEvent) -> dict[str, Any]:
    match event:
        case Output():
            data = {"index": event.index, "delta": event.text}
            return {"id": event.id, "event": "job.output.delta", "data": data}
        case Reset():
            return {"id": event.id, "event": "job.output.reset"}
        case Moved():
            return {"id": event.id, "event": event.type, "data": event.job.as_json()}


def _write(text: str) -> None:
    # A text may hold what the terminal's encoding cannot say.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _row(job: Job) -> tuple[str, ...]:
    return job.id, job.kind, job.state, age(job.created_at), job.error.code if job.error else ""
