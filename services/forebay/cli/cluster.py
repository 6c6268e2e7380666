"""`forebay secrets ...` and `forebay k8s ...`: what a deployment needs before it can start."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from forebay.cli.patience import Wait, run_patiently
from forebay.cli.tables import wide
from forebay.cluster.folders import Folders
from forebay.cluster.kubernetes import Account, open_cluster
from forebay.cluster.manifests import fresh_manifests
from forebay.cluster.secrets import SECRETS, Made, fill

secrets_app = typer.Typer(help="Secrets as files, for compose.", no_args_is_help=True)
k8s_app = typer.Typer(help="What Kubernetes needs.", no_args_is_help=True)

_NAMESPACE = "forebay"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0o400 <= mode <= 0o777:
        raise typer.BadParameter("a file mode in octal, such as 0444, that lets the owner read")
    return mode


def _namespace(text: str | None) -> str | None:
    if text is not None and not _NAME.fullmatch(text):
        raise typer.BadParameter("lower case letters, digits and `-`, at most 63")
    return text


@secrets_app.command("init")
def init(
    directory: Annotated[Path, typer.Argument(help="Where the folders go.")],
    *,
    mode: Annotated[
        int, typer.Option(parser=_mode, metavar="MODE", help="Of each file: 0444 for all to read.")
    ] = "0400",  # type: ignore[assignment] # typer parses the default too
) -> None:
    """Make a folder of files for each secret that is missing; one that is there is never changed.

    Passwords are random. What is made fits what is there already.
    """
    _show(run_patiently(lambda: fill(Folders(directory, mode)), 0))


@k8s_app.command("init-secrets")
def init_secrets(
    *,
    namespace: Annotated[
        str | None,
        typer.Option(
            callback=_namespace,
            help="Where the Secrets and the servers are.",
            show_default=f"{_NAMESPACE}; with --apply the pod's own",
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Make those that are missing; works in a pod.")
    ] = False,
    wait: Wait = 0,
) -> None:
    """Print every Secret with new random values, or with --apply make those that are missing.

    Printed, they are for `kubectl create -f -`. With --apply one that is there is never changed,
    and what is made fits it.
    """
    if not apply:
        sys.stdout.write(fresh_manifests(namespace or _NAMESPACE))
        return
    account = Account.of_pod()
    _show(run_patiently(lambda: fill_cluster(account, namespace), wait))


async def fill_cluster(account: Account, namespace: str | None) -> Mapping[str, Made]:
    """`fill` a namespace, the account's own when none is said; raises what both raise."""
    where = namespace or account.namespace()
    async with open_cluster(account, where) as cluster:
        return await fill(cluster, where)


def _show(made: Mapping[str, Made]) -> None:
    table = Table("secret", "is now", wide("purpose"))
    for secret in SECRETS:
        table.add_row(secret.name, made[secret.name], secret.purpose)
    Console().print(table)
