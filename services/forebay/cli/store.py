"""`forebay store ...`: what must be in MongoDB."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from forebay.cli.patience import Wait, run_patiently
from forebay.cli.tables import wide
from forebay.settings import StoreSettings, load
from forebay.store.indexes import INDEXES
from forebay.store.initiation import InitiationSettings, initiate
from forebay.store.mongo import PREPARE_S, open_store

store_app = typer.Typer(help="What must be in MongoDB: indexes, users.", no_args_is_help=True)

_INDEXES_S = Annotated[
    float,
    typer.Option(
        "--within", min=1, metavar="SECONDS",
        help="How long building the indexes may take; long where millions of jobs are kept.",
    ),
]  # fmt: skip


@store_app.command("apply")
def apply(*, wait: Wait = 0, within: _INDEXES_S = PREPARE_S) -> None:
    """Check that MongoDB is fit for what is promised, and make the indexes; safe to repeat.

    Reads FOREBAY_MONGODB_URL. The processes do the same when they start; done before an upgrade,
    they need not wait for a new index on many jobs.
    """
    settings = load(StoreSettings)

    async def attempt() -> None:
        async with open_store(settings) as store:
            await store.prepare(within)

    run_patiently(attempt, wait)
    Console().print(f"The store is fit, and its {len(INDEXES)} indexes are there.")


@store_app.command("initiate")
def initiate_(*, wait: Wait = 0) -> None:
    """Make fresh MongoDB servers of our own a replica set, and its users; safe to repeat.

    Reads FOREBAY_MONGODB_MEMBERS, FOREBAY_MONGODB_KEYFILE_SECRET, FOREBAY_MONGODB_APP_PASSWORD and
    FOREBAY_MONGODB_ADMIN_PASSWORD. A managed MongoDB does not need it.
    """
    settings = load(InitiationSettings)
    table = Table("what", wide("name"), wide("is now"))
    for step in run_patiently(lambda: initiate(settings), wait):
        table.add_row(step.what, step.name, step.change)
    Console().print(table)
