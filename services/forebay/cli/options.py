"""The options that several of the callers' verbs share."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from forebay.client import WebhookTarget
from forebay.jobs import JobKind, JobState, Lane


class Kind(StrEnum):
    """The kinds that a caller can submit; typer takes no list of `CallerKind`'s literals."""

    SEARCH = JobKind.SEARCH.value
    CRAWL = JobKind.CRAWL.value
    LLM = JobKind.LLM.value


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter("a time with its offset, such as 2026-11-22T10:02:00Z")
    return moment


def _object(text: str) -> dict[str, Any]:
    """A JSON object: as it is, from `@file`, or from the standard input for `-`."""
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"the file cannot be read: {error}") from None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter('a JSON object, such as \'{"query": "weir"}\'')
    return value


def _target(url: str) -> WebhookTarget:
    return {"url": url}


JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="Which job.")]
BatchId = Annotated[str, typer.Argument(metavar="BATCH_ID", help="Which batch.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", min=0, metavar="SECONDS", help="How long at most; else to the end."),
]
Input = Annotated[
    Any,
    typer.Argument(metavar="JSON", parser=_object, help="The input; @FILE, or - for stdin."),
]
WaitFor = Annotated[
    float | None,
    typer.Option("--wait", min=0, metavar="SECONDS", help="Wait for the end, so long at most."),
]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="TEXT", help="The Idempotency-Key; the same is the same job."),
]
WebhookUrl = Annotated[
    Any,
    typer.Option("--webhook", parser=_target, metavar="URL", help="Tell this URL of its end."),
]
LaneOf = Annotated[Lane, typer.Option("--lane", help="Who goes first.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Your own word; may be repeated.")]
Metadata = Annotated[
    Any, typer.Option("--metadata", parser=_object, metavar="JSON", help="Your own object.")
]
MaxAttempts = Annotated[
    int | None, typer.Option("--max-attempts", min=1, metavar="N", help="Calls at most.")
]


def moment(name: str, help_: str) -> Any:
    """An option that is a time."""
    return typer.Option(name, parser=_moment, metavar="TIME", help=help_)


States = Annotated[
    list[JobState] | None, typer.Option("--state", help="In this state; may be repeated.")
]
Kinds = Annotated[list[Kind] | None, typer.Option("--kind", help="Of this kind; may be repeated.")]
FilterTags = Annotated[
    list[str] | None, typer.Option("--tag", help="With this tag; may be repeated.")
]
Providers = Annotated[
    list[str] | None, typer.Option("--provider", help="That called it; may be repeated.")
]
ErrorCodes = Annotated[
    list[str] | None, typer.Option("--error-code", help="With this error; may be repeated.")
]
CreatedAfter = Annotated[Any, moment("--created-after", "Created then or later.")]
CreatedBefore = Annotated[Any, moment("--created-before", "Created before.")]


def given(**options: Any) -> dict[str, Any]:
    """Those that were said."""
    return {name: value for name, value in options.items() if value is not None and value != []}
