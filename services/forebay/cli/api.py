"""How a verb reaches the public HTTP API, as any caller could; and running such a verb."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import typer
from pydantic import AfterValidator, Field

from forebay.cli import ENDED_BY_CTRL_C
from forebay.cli.patience import run_patiently
from forebay.client import Client, ClientError, Forbidden, Unauthenticated, Unreachable
from forebay.settings import ApiKey, EndpointUrl, SettingsGroup, load

Answer = TypeVar("Answer")


def _without_path(url: str) -> str:
    if urlsplit(url).path not in {"", "/"}:
        raise ValueError("it must be the address alone, such as http://127.0.0.1:8080")
    return url


class ApiSettings(SettingsGroup):
    """How the verbs that speak to the API reach it."""

    url: Annotated[EndpointUrl, AfterValidator(_without_path)] = "http://127.0.0.1:8080"
    """The ingress, without a path."""
    url_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """How long one answer of it may be silent, in seconds; waits come on top."""
    url_patience_s: Annotated[float, Field(ge=0)] = 5.0
    """How long a verb tries again while it is away or overloaded, in seconds."""
    api_key: ApiKey | None = None
    """The caller's API key, if the service asks for one."""


def call(act: Callable[[Client], Awaitable[Answer]]) -> Answer:
    """Run a verb on the API; Ctrl-C ends it quietly."""
    settings = load(ApiSettings)
    try:
        return run_patiently(lambda: _called(settings, act), 0)
    except KeyboardInterrupt:
        raise typer.Exit(ENDED_BY_CTRL_C) from None


async def _called(settings: ApiSettings, act: Callable[[Client], Awaitable[Answer]]) -> Answer:
    async with Client(
        settings.url,
        settings.api_key.get_secret_value() if settings.api_key else None,
        timeout_s=settings.url_timeout_s,
        patience_s=settings.url_patience_s,
    ) as client:
        return await act(client)


def advice(error: ClientError) -> str:
    """What to do about it, as a part of a sentence; empty where its own words say so."""
    match error:
        case Unreachable():
            return "; FOREBAY_URL is where the ingress is"
        case Unauthenticated() | Forbidden():
            return "; FOREBAY_API_KEY is the key that is sent"
        case _:
            return ""
