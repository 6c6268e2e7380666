"""`forebay audit`: was everything kept that callers were promised?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from forebay.audit.calls import ProviderCall, read_calls
from forebay.audit.ledger import Answer, read_ledger
from forebay.audit.reading import look_until_terminal
from forebay.audit.verdict import Audit, Broken, accepted_jobs, judge
from forebay.cli.patience import run_patiently
from forebay.cli.tables import AsJson, wide
from forebay.errors import ConfigurationError, StoreUnavailable
from forebay.settings import StoreSettings, load
from forebay.store.mongo import open_store

STORE_AWAY = 3
"""The exit code when the store does not answer."""
MOST_NAMED = 20
"""Offenders that are named of each promise; `--json` names all."""

_Calls = Annotated[
    Path | None,
    typer.Option("--calls", metavar="FILE", help="What reached the providers, JSON lines."),
]
_Wait = Annotated[
    float,
    typer.Option(
        "--wait", min=0, metavar="SECONDS", help="How long to wait until every job is terminal."
    ),
]


def audit(
    ledger: Annotated[Path, typer.Argument(help="What callers were answered, JSON lines.")],
    *,
    calls: _Calls = None,
    wait: _Wait = 0,
    as_json: AsJson = False,
) -> None:
    """Compare what callers were told with what the store holds; nothing is changed.

    Reads FOREBAY_MONGODB_URL. Ends with 0 if every promise was kept, with 1 if one is broken or a
    job is still open, with 2 if the ledger or a setting is not right, with 3 if the store does not
    answer.
    """
    answers = read_ledger(ledger)
    if not accepted_jobs(answers):
        raise ConfigurationError(f"{ledger} has no accepted job: there is nothing to judge")
    called = None if calls is None else read_calls(calls)
    settings = load(StoreSettings)
    try:
        found = run_patiently(lambda: _judge(settings, answers, called, wait), 0)
    except StoreUnavailable as away:
        # Not 1: a store that is away for a moment must not look like a promise that was broken.
        sys.stderr.write(f"forebay: nothing was judged: {away}\n")
        raise typer.Exit(STORE_AWAY) from None
    if as_json:
        sys.stdout.write(json.dumps(found.as_json(), indent=2) + "\n")
    else:
        _show(found)
        if len(found.lost) == found.accepted:
            sys.stderr.write(
                f"forebay: not one of the jobs is in the database {settings.mongodb_database}; is "
                "FOREBAY_MONGODB_DATABASE the right one?\n"
            )
    if not found.held:
        raise typer.Exit(1)


async def _judge(
    settings: StoreSettings, answers: list[Answer], calls: list[ProviderCall] | None, wait_s: float
) -> Audit:
    async with open_store(settings) as store:
        seen = await look_until_terminal(store, accepted_jobs(answers), wait_s)
    return judge(answers, seen.values(), calls, datetime.now(UTC))


def _show(found: Audit) -> None:
    console = Console(highlight=False)
    console.print(_counts(found))
    for what in Broken:
        told = [f"{one.name}: {one.detail}" for one in found.broken.get(what, ())]
        _name(console, what, told)
    _name(console, "open", found.open)
    _name(console, "not proven", found.unproven)
    console.print(_conclusion(found))


def _counts(found: Audit) -> Table:
    table = Table("what", "count", wide("of them"))
    submissions = f"{found.refused} refused, {found.unknown} of unknown outcome"
    states = ", ".join(f"{count} {state}" for state, count in found.by_state.items())
    table.add_row("answers in the ledger", str(found.answers), submissions)
    table.add_row("accepted", str(found.accepted), states)
    table.add_row("terminal", str(found.terminal), "")
    table.add_row("open", _alarm(len(found.open)), "")
    if found.forgotten:
        table.add_row("forgotten", str(found.forgotten), "their end was told, their retention over")
    if found.unproven:
        table.add_row("not proven", _alarm(len(found.unproven)), "gone, and nobody saw their end")
    for what in Broken:
        if what in found.broken:
            table.add_row(what, _alarm(len(found.broken[what])), "")
        else:
            table.add_row(what, "-", "not judged without --calls")
    return table


def _alarm(number: int) -> str:
    return f"[bold red]{number}[/bold red]" if number else "0"


def _name(console: Console, what: str, told: Sequence[str]) -> None:
    if not told:
        return
    console.print(f"\n[bold]{what}[/bold]")
    rest = len(told) - MOST_NAMED
    for line in [*told[:MOST_NAMED], *([f"and {rest} more"] if rest > 0 else [])]:
        # As it is and unbroken, to be copied: a key is a caller's text.
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _conclusion(found: Audit) -> str:
    if found.held:
        return "Everything that was promised was kept."
    broken = [f"{what}: {len(found.broken[what])}" for what in Broken if found.broken.get(what)]
    if found.open:
        broken.append(f"still open: {len(found.open)}")
    if found.unproven:
        broken.append(
            f"not proven: {len(found.unproven)}, gone after their retention or from another "
            "database; audit within the retention, or have callers ask for the end"
        )
    return f"[bold red]Not kept: {'; '.join(broken)}.[/bold red]"
