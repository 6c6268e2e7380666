"""`forebay batch ...`: many jobs at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from forebay.cli import NOT_SUCCEEDED
from forebay.cli.api import call
from forebay.cli.options import BatchId, Key, States, Timeout, WaitFor, given
from forebay.cli.tables import AsJson, say_json, show_fields
from forebay.client import Batch, Client

batch_app = typer.Typer(help="Many jobs at once.", no_args_is_help=True)

MOST_SHOWN = 20
"""Refused items that are shown; `--json` has all."""


class OnInvalid(StrEnum):
    """What becomes of a batch with items that are not valid."""

    REJECT = "reject"
    SKIP = "skip"


@batch_app.command()
def submit(
    file: Annotated[str, typer.Argument(help="A job a line, as JSON; - for stdin.")],
    *,
    on_invalid: Annotated[
        OnInvalid, typer.Option("--on-invalid", help="reject all, or skip the bad ones.")
    ] = OnInvalid.REJECT,
    key: Key = None,
    wait: WaitFor = None,
    as_json: AsJson = False,
) -> None:
    """Submit a file of jobs, up to 10 000.

    A line is as in the API: {"kind": "search", "input": {"query": "weir"}, "custom_id": "a"}
    """
    lines = _lines(file)

    async def sent(client: Client) -> Batch:
        batch = await client.submit_batch(lines, on_invalid=on_invalid.value, idempotency_key=key)
        if wait is None:
            return batch
        sys.stderr.write(f"{batch.id}\n")
        return await client.wait_batch(batch, wait)

    batch = call(sent)
    show_batch(batch, as_json=as_json)
    if wait is not None:
        _require_success(batch)


@batch_app.command()
def get(batch_id: BatchId, *, as_json: AsJson = False) -> None:
    """Show a batch as it is now."""
    show_batch(call(lambda client: client.batch(batch_id)), as_json=as_json)


@batch_app.command()
def wait(batch_id: BatchId, *, timeout: Timeout = None, as_json: AsJson = False) -> None:
    """Wait until every job of a batch is done, and show it.

    Ends with 4 if one did not succeed, with 5 if they were not done in time.
    """
    batch = call(lambda client: client.wait_batch(batch_id, timeout))
    show_batch(batch, as_json=as_json)
    _require_success(batch)


@batch_app.command()
def results(batch_id: BatchId) -> None:
    """Print a line of JSON for each job as it is now, in the order in which they were sent."""

    async def print_all(client: Client) -> None:
        async for line in client.batch_results(batch_id):
            sys.stdout.write(json.dumps(line.as_json()) + "\n")

    call(print_all)


@batch_app.command()
def cancel(batch_id: BatchId, *, as_json: AsJson = False) -> None:
    """Stop every job of a batch that is not done."""
    show_batch(call(lambda client: client.cancel_batch(batch_id)), as_json=as_json)


@batch_app.command()
def retry(batch_id: BatchId, *, state: States = None, as_json: AsJson = False) -> None:
    """Run again the jobs of a batch that failed or expired, or that are in --state."""
    states = given(state=state)
    show_batch(call(lambda client: client.retry_batch(batch_id, **states)), as_json=as_json)


def show_batch(batch: Batch, *, as_json: bool) -> None:
    """A batch, and what is wrong with the items that were refused."""
    if as_json:
        say_json(batch.as_json())
        return
    refused = [(f"item {one.index}", one.error) for one in batch.errors[:MOST_SHOWN]]
    more = len(batch.errors) - len(refused)
    show_fields(
        [
            ("id", batch.id),
            ("done", "yes" if batch.done else "no"),
            ("jobs", batch.accepted),
            *batch.counts.items(),
            ("removed", batch.removed or None),
            ("refused", batch.rejected or None),
            *refused,
            ("", f"and {more} more" if more else None),
        ]
    )


def _lines(file: str) -> Iterator[bytes]:
    """The lines of the file that hold something; raises `BadParameter`."""
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from None
    lines = [line for line in text.split(b"\n") if line.strip()]
    if not lines:
        raise typer.BadParameter("there is no line in it")
    return iter(lines)


def _require_success(batch: Batch) -> None:
    if not batch.succeeded:
        raise typer.Exit(NOT_SUCCEEDED)
