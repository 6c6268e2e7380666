"""All verbs of `forebay ...`, and what exit code each kind of trouble has."""

from __future__ import annotations

import asyncio
import sys

import typer
from rich.console import Console

from forebay import __version__
from forebay.cli import ENDED_BY_SIGTERM
from forebay.cli.audit import audit
from forebay.cli.cluster import k8s_app, secrets_app
from forebay.cli.dead import dead_app
from forebay.cli.store import store_app
from forebay.cli.topology import topology_app
from forebay.errors import ConfigurationError, ForebayError

app = typer.Typer(
    name="forebay", help="Forebay, for operators.", no_args_is_help=True, add_completion=False
)
app.add_typer(topology_app, name="topology")
app.add_typer(store_app, name="store")
app.add_typer(secrets_app, name="secrets")
app.add_typer(k8s_app, name="k8s")
app.add_typer(dead_app, name="dead")
app.command("audit")(audit)


@app.callback()
def forebay() -> None:
    """Forebay, for operators."""


@app.command()
def version() -> None:
    """Print the version."""
    Console().print(__version__)


def run() -> None:
    """Run a verb and end the process with its exit code."""
    try:
        app()
    except ConfigurationError as error:
        sys.stderr.write(f"forebay: {error}\n")
        sys.exit(2)
    except ForebayError as error:
        sys.stderr.write(f"forebay: {error}\n")
        sys.exit(1)
    except asyncio.CancelledError:
        sys.exit(ENDED_BY_SIGTERM)
