"""What the demo shows: a live table on a terminal, plain lines elsewhere, a summary at the end."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from forebay.local.demo_calls import Receipt
from forebay.local.demo_figures import KINDS, Jobs, spread
from forebay.local.screen import say

_WAITING = frozenset({"scheduled", "queued"})
_WIDTH = 88


class Progress:
    """Shows each look at the jobs while entered."""

    def __init__(self, receipts: Sequence[Receipt]) -> None:
        self._receipts = receipts
        self._live = Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else None
        self._said = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, jobs: Jobs, elapsed_s: float) -> None:
        """One look; where nothing moved since the last line, nothing is said."""
        rows = [_row(kind, self._receipts, jobs) for kind in KINDS]
        if self._live is not None:
            self._live.update(_table(rows, elapsed_s), refresh=True)
            return
        line = " | ".join(
            f"{row['kind']}: waiting {row['waiting']}, running {row['running']}, "
            f"done {row['done']}, retried {row['retried']}"
            for row in rows
        )
        if line != self._said:
            say(f"{elapsed_s:5.1f} s  {line}")
            self._said = line


def _row(kind: str, receipts: Sequence[Receipt], jobs: Jobs) -> dict[str, Any]:
    mine = [job for job in jobs if job["kind"] == kind]
    states = Counter(str(job["state"]) for job in mine)
    accepts = [one for one in receipts if one.kind == kind and one.status == 202]
    latency = spread([one.ms for one in accepts])
    return {
        "kind": kind,
        "accepted": len(accepts),
        "waiting": sum(n for state, n in states.items() if state in _WAITING),
        "running": states["running"],
        "retrying": states["retrying"],
        "done": sum(bool(job["done"]) for job in mine),
        "retried": sum(max(0, job["attempts"] - 1) for job in mine),
        "p50 ms": latency["p50"],
        "p99 ms": latency["p99"],
    }


def _table(rows: Sequence[Mapping[str, Any]], elapsed_s: float) -> Table:
    # Narrow enough for 80 columns.
    title = f"{elapsed_s:.1f} s since the requests"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "kind" else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


def summary(found: Mapping[str, Any], broken: Sequence[str]) -> list[str]:
    """The story in a few lines."""
    return [
        "",
        *_accepting(found),
        "The work behind is slower, because no worker calls its provider more than it may:",
        *(
            f"  {kind:<7}{one['submitted']:>4} jobs,{one['calls']:>4} calls, at most "
            f"{one['most_calls_at_once']} at once (allowed: {one['concurrency']})"
            for kind, one in found["by_kind"].items()
        ),
        *_digesting(found),
        "",
        *(f"NOT as promised: {sentence}" for sentence in broken),
        *(() if broken else ("All as promised.",)),
    ]


def _accepting(found: Mapping[str, Any]) -> list[str]:
    accept, submitted, accepted = found["accept_ms"], found["submitted"], found["accepted"]
    times = f"{accept['p50']:.0f} ms, 99 % within {accept['p99']:.0f} ms"
    return [
        f"{submitted} callers asked at the same moment; {accepted} got their 202 and a job id,",
        f"half of them within {times}, the last after {accept['max']:.0f} ms.",
    ]


def _digesting(found: Mapping[str, Any]) -> list[str]:
    errors, calls, retries = (
        found[name] for name in ("calls_answered_with_an_error", "calls", "retries")
    )
    left = found["submitted"] - found["terminal"]
    ends = f"{found['succeeded']} succeeded, {found['failed']} failed, {left} are not done"
    return [
        f"The providers answered {errors} of {calls} calls with an error; {retries} retries.",
        f"After {found['digest_s']:.1f} s: {ends}.",
    ]


def in_short(job: Mapping[str, Any]) -> list[str]:
    """One finished job and its result, in a few lines."""
    result = job["result"] or {}
    match job["kind"]:
        case "search":
            lines = [f"{hit['position']}. {hit['title']}" for hit in result["results"][:3]]
            about = f"“{result['query']}”, {len(result['results'])} results"
        case "crawl":
            page = result["pages"][0]
            lines = [line for line in page["markdown"].splitlines() if line.strip()][:3]
            about = f"{page['final_url']}, “{page['title']}”, {len(page['links'])} links"
        case _:
            lines = [str(result["content"])]
            usage = job["usage"] or {}
            about = f"{result['model']}, {usage.get('output_tokens', 0)} tokens"
    head = f"{job['kind']} job {job['id']}, attempt {job['attempts']}: {about}"
    return [head, *(f"    {_cut(line)}" for line in lines)]


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
