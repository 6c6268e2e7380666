"""`forebay ...`: the operators' verbs. Each calls one function and shows what it said."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from forebay import __version__
from forebay.broker.management import Change, Item, TopologySettings, declare, open_management
from forebay.broker.topology import Topology, forebay_topology
from forebay.errors import ConfigurationError, ForebayError
from forebay.settings import load

app = typer.Typer(
    name="forebay", help="Forebay, for operators.", no_args_is_help=True, add_completion=False
)
topology_app = typer.Typer(
    help="What must be in RabbitMQ: vhost, exchanges, queues, policies, users.",
    no_args_is_help=True,
)
app.add_typer(topology_app, name="topology")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_STYLES = {Change.CREATED: "green", Change.CHANGED: "yellow", Change.CONFLICT: "bold red"}


@app.callback()
def forebay() -> None:
    """Forebay, for operators."""


@app.command()
def version() -> None:
    """Print the version."""
    Console().print(__version__)


@topology_app.command("apply")
def apply(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, do not do it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make RabbitMQ's topology what this version needs; safe to repeat.

    Reads FOREBAY_RABBITMQ_MANAGEMENT_URL and FOREBAY_TOPOLOGY_<ROLE>_PASSWORD.
    """
    items = asyncio.run(_apply(load(TopologySettings), dry_run=dry_run))
    if as_json:
        sys.stdout.write(json.dumps([asdict(item) for item in items], indent=2) + "\n")
    else:
        _show_items(items, dry_run=dry_run)
    if any(item.change is Change.CONFLICT for item in items):
        raise typer.Exit(1)


async def _apply(settings: TopologySettings, *, dry_run: bool) -> list[Item]:
    async with open_management(settings) as client:
        return await declare(client, forebay_topology(), settings.passwords(), dry_run=dry_run)


def _show_items(items: Sequence[Item], *, dry_run: bool) -> None:
    table = Table("what", _wide("name"), "would be" if dry_run else "is now", _wide("detail"))
    for item in items:
        style = _STYLES.get(item.change, "dim")
        table.add_row(item.what, item.name, f"[{style}]{item.change}[/{style}]", item.detail)
    console = Console()
    console.print(table)
    counts = Counter(item.change for item in items)
    console.print(", ".join(f"{count} {change}" for change, count in counts.items()))


@topology_app.command("show")
def show(*, as_json: AsJson = False) -> None:
    """Show the topology of this version, without asking any broker."""
    topology = forebay_topology()
    if as_json:
        sys.stdout.write(json.dumps(asdict(topology), indent=2) + "\n")
        return
    console = Console()
    for table in _tables(topology):
        console.print(table)


def _tables(topology: Topology) -> list[Table]:
    policies = Table(
        _wide("policy"), _wide("for queues like"), _wide("definition"),
        title=f"vhost {topology.vhost}",
    )  # fmt: skip
    for policy in topology.policies:
        definition = ", ".join(f"{name}={value}" for name, value in policy.definition.items())
        policies.add_row(policy.name, policy.pattern, definition)
    queues = Table("queue", "type", "gets")
    for queue in topology.queues:
        keys = [
            f"{one.exchange} {one.routing_key}"
            for one in topology.bindings
            if one.queue == queue.name
        ]
        queues.add_row(queue.name, queue.type, "\n".join(keys))
    users = Table("user", _wide("may write"), _wide("may read"), "tags")
    for user in topology.users:
        users.add_row(user.name, user.write, user.read, " ".join(user.tags))
    return [policies, queues, users]


def _wide(header: str) -> Column:
    """A column that folds what does not fit: a name cut short is no name."""
    return Column(header, overflow="fold")


def main() -> None:
    """Run a verb; a setting that is missing or wrong exits 2, any other trouble 1."""
    try:
        app()
    except ConfigurationError as error:
        sys.stderr.write(f"forebay: {error}\n")
        sys.exit(2)
    except ForebayError as error:
        sys.stderr.write(f"forebay: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
