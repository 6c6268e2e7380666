"""All verbs of `forebay ...`, and what exit code each kind of trouble has."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from forebay import __version__
from forebay.cli import ENDED_BY_SIGTERM, NOT_DONE, NOT_SUCCEEDED
from forebay.cli import jobs as of_jobs
from forebay.cli import submit as of_submissions
from forebay.cli.api import advice
from forebay.cli.audit import audit
from forebay.cli.batch import batch_app
from forebay.cli.cluster import k8s_app, secrets_app
from forebay.cli.dead import dead_app
from forebay.cli.keys import keys_app
from forebay.cli.store import store_app
from forebay.cli.topology import topology_app
from forebay.cli.webhooks import webhooks_app
from forebay.client import ClientError, JobFailed, NotDone
from forebay.errors import ConfigurationError, ForebayError

CALLERS, OPERATORS = "For callers", "For operators"


class Verbs(TyperGroup):
    """All verbs; says what is wrong with an option as we would."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override] # typer's own is private
        """Run the verb; an option that makes no sense raises `typer.BadParameter`."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as wrong:
            # typer reads options with pydantic, whose name for the trouble is of no use here.
            wrong.message = wrong.message.removeprefix("Value error, ")
            raise


app = typer.Typer(name="forebay", cls=Verbs, no_args_is_help=True, add_completion=False)
for verb in (
    *(of_submissions.submit, of_submissions.search, of_submissions.crawl, of_submissions.llm),
    *(of_jobs.get, of_jobs.wait, of_jobs.result, of_jobs.stream),
    *(of_jobs.cancel, of_jobs.retry, of_jobs.delete, of_jobs.replay),
):
    app.command(rich_help_panel=CALLERS)(verb)
app.add_typer(of_jobs.jobs_app, name="jobs", rich_help_panel=CALLERS)
app.add_typer(batch_app, name="batch", rich_help_panel=CALLERS)
app.add_typer(webhooks_app, name="webhooks", rich_help_panel=CALLERS)
app.add_typer(topology_app, name="topology", rich_help_panel=OPERATORS)
app.add_typer(store_app, name="store", rich_help_panel=OPERATORS)
app.add_typer(keys_app, name="keys", rich_help_panel=OPERATORS)
app.add_typer(secrets_app, name="secrets", rich_help_panel=OPERATORS)
app.add_typer(k8s_app, name="k8s", rich_help_panel=OPERATORS)
app.add_typer(dead_app, name="dead", rich_help_panel=OPERATORS)
app.command("audit", rich_help_panel=OPERATORS)(audit)


@app.callback()
def forebay() -> None:
    """Forebay: slow API calls accepted at once and digested behind.

    FOREBAY_URL is where the ingress is, FOREBAY_API_KEY the key if it asks.

    Ends with 0: done, 1: could not be done, 2: a wrong option or setting,
    4: it did not succeed, 5: it was not done in time, 130: Ctrl-C.
    """


@app.command(rich_help_panel=OPERATORS)
def version() -> None:
    """Print the version."""
    Console().print(__version__)


def run(words: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and end with its exit code; the words of the command line if none are given."""
    try:
        app(words)
        sys.exit()
    except ConfigurationError as error:
        sys.stderr.write(f"forebay: {error}\n")
        sys.exit(2)
    except ClientError as error:
        sys.stderr.write(f"forebay: {error}{advice(error)}\n")
        sys.exit({JobFailed: NOT_SUCCEEDED, NotDone: NOT_DONE}.get(type(error), 1))
    except ForebayError as error:
        sys.stderr.write(f"forebay: {error}\n")
        sys.exit(1)
    except asyncio.CancelledError:
        sys.exit(ENDED_BY_SIGTERM)
