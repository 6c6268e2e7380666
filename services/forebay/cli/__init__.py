"""`forebay ...`: the operators' verbs. Each calls one function and shows what it said.

Exit codes: 0 done, 1 it could not be done, 2 a setting or an option is missing or wrong.
"""

from __future__ import annotations

import asyncio
import sys

import typer
from rich.console import Console

from forebay import __version__
from forebay.cli.cluster import k8s_app, secrets_app
from forebay.cli.store import store_app
from forebay.cli.topology import topology_app
from forebay.errors import ConfigurationError, ForebayError

_ENDED_BY_SIGTERM = 143

app = typer.Typer(
    name="forebay", help="Forebay, for operators.", no_args_is_help=True, add_completion=False
)
app.add_typer(topology_app, name="topology")
app.add_typer(store_app, name="store")
app.add_typer(secrets_app, name="secrets")
app.add_typer(k8s_app, name="k8s")


@app.callback()
def forebay() -> None:
    """Forebay, for operators."""


@app.command()
def version() -> None:
    """Print the version."""
    Console().print(__version__)


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
    except asyncio.CancelledError:
        sys.exit(_ENDED_BY_SIGTERM)
