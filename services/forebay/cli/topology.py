"""`forebay topology ...`: what must be in RabbitMQ."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from forebay.broker.management import Change, Item, TopologySettings, declare, open_management
from forebay.broker.topology import Topology, forebay_topology
from forebay.cli.patience import Wait, run_patiently
from forebay.cli.tables import AsJson, wide
from forebay.settings import load

topology_app = typer.Typer(
    help="What must be in RabbitMQ: vhost, exchanges, queues, policies, users.",
    no_args_is_help=True,
)

_STYLES = {Change.CREATED: "green", Change.CHANGED: "yellow", Change.CONFLICT: "bold red"}


@topology_app.command("apply")
def apply(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, do not do it.")] = False,
    as_json: AsJson = False,
    wait: Wait = 0,
) -> None:
    """Make RabbitMQ's topology what this version needs; safe to repeat.

    Reads FOREBAY_RABBITMQ_MANAGEMENT_URL and FOREBAY_TOPOLOGY_<ROLE>_PASSWORD.
    """
    settings = load(TopologySettings)
    items = run_patiently(lambda: _apply(settings, dry_run=dry_run), wait)
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
    table = Table("what", wide("name"), "would be" if dry_run else "is now", wide("detail"))
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
        wide("policy"), wide("for queues like"), wide("definition"),
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
    users = Table("user", wide("may write"), wide("may read"), "tags")
    for user in topology.users:
        users.add_row(user.name, user.write, user.read, " ".join(user.tags))
    return [policies, queues, users]
