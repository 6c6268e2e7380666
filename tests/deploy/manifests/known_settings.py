"""Every setting of every process, by the name of its variable, and what a container makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from forebay.jobs import JobKind
from forebay.settings import SECRETS_DIR, SettingsGroup, WorkerSettings
from scripts.reference_pages import settings_groups
from tests.deploy.manifests.objects import Container, environment
from tests.deploy.manifests.rendering import Render

NOBODY = "FOREBAY_NOBODY_SETS_THIS_"
"""In place of a group's prefix: what is set where the tests run must not be read."""
Group = TypeVar("Group", bound=SettingsGroup)

WORKERS = {
    "search_worker": JobKind.SEARCH,
    "crawler_worker": JobKind.CRAWL,
    "llm_worker": JobKind.LLM,
    "webhook_worker": JobKind.WEBHOOK,
}
"""The kind of a worker's jobs, by its module."""


@cache
def groups() -> tuple[type[SettingsGroup], ...]:
    """Every settings group there is."""
    return tuple(settings_groups())


def variable(group: type[SettingsGroup], field: str) -> str:
    """The name of a setting's variable."""
    return f"{group.model_config.get('env_prefix', '')}{field}".upper()


@cache
def known() -> Mapping[str, tuple[type[SettingsGroup], str]]:
    """Every variable that means something, and where it is read."""
    return {
        variable(group, field): (group, field) for group in groups() for field in group.model_fields
    }


def is_known(name: str) -> bool:
    """Whether some process or verb reads this variable."""
    return name in known() or name == SECRETS_DIR


def is_secret(name: str) -> bool:
    """Whether a setting's value must not be shown."""
    if name not in known():
        return False
    group, field = known()[name]
    return _holds_secret(group.model_fields[field])


def _holds_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)


def worker_group(module: str) -> type[WorkerSettings]:
    """The settings of a worker, by the module that is run."""
    (group,) = (
        one
        for one in groups()
        if one.__module__.startswith(f"{module}.") and issubclass(one, WorkerSettings)
    )
    return group


def given(group: type[SettingsGroup], env: Mapping[str, str]) -> dict[str, str]:
    """The group's fields as an environment has them; empty ones count as not set."""
    return {
        field: text for field in group.model_fields if (text := env.get(variable(group, field)))
    }


def refused(group: type[SettingsGroup], env: Mapping[str, str]) -> list[str]:
    """Why a group does not take an environment; what is needed and comes as a file is left out."""
    try:
        group(_env_prefix=NOBODY, **given(group, env))
    except ValidationError as invalid:
        return [
            f"{variable(group, str(error['loc'][0])) if error['loc'] else group.__name__}: "
            f"{error['msg']}"
            for error in invalid.errors(include_url=False)
            if error["type"] != "missing"
        ]
    return []


def in_container(render: Render, container: Container, group: type[Group]) -> Group:
    """A group as a container's environment has it, with made-up secrets."""
    needed = {
        name: SecretStr("amqp://user:word@host:5672/vhost")
        for name, field in group.model_fields.items()
        if field.is_required()
    }
    fields: dict[str, Any] = {**needed, **given(group, environment(render, container))}
    return group(_env_prefix=NOBODY, **fields)
