"""Which verbs `forebay` has."""

from __future__ import annotations

from typer import Typer

from forebay.cli.verbs import app


def verbs_of(panel: str) -> list[tuple[str, ...]]:
    """The words of each verb that the help shows on this panel."""

    def names(group: Typer) -> list[str]:
        return [
            command.name or str(command.callback and command.callback.__name__)
            for command in group.registered_commands
            if group is not app or command.rich_help_panel == panel
        ]

    groups = [one for one in app.registered_groups if one.rich_help_panel == panel]
    return [(name,) for name in names(app)] + [
        (str(group.name), name)
        for group in groups
        if group.typer_instance is not None
        for name in names(group.typer_instance)
    ]
