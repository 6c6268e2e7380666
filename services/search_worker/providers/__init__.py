"""The search APIs the worker can speak to, one adapter each.

An adapter is pure: it says what to send and reads what came back. The call itself, with its
limits and failures, is in `search_worker.exchange`, once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from forebay.requests import SearchRequest
from search_worker.results import SearchResults


class ProviderName(StrEnum):
    """The names for `provider.order` and FOREBAY_SEARCH_PROVIDER."""

    SEARXNG = "searxng"
    BRAVE = "brave"
    TAVILY = "tavily"
    SERPER = "serper"


@dataclass(frozen=True, slots=True)
class WireRequest:
    """What to send; headers and body stay out of the repr because a key is among them."""

    method: Literal["GET", "POST"]
    url: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Mapping[str, Any] | None = field(default=None, repr=False)


class SearchProvider(Protocol):
    """One search API."""

    @property
    def name(self) -> str:
        """Its name in requests, results and history."""

    @property
    def missing_setting(self) -> str | None:
        """The setting without which it cannot be called, or None when it is complete."""

    def build(self, request: SearchRequest) -> WireRequest:
        """Say it in this API's words."""

    def parse(self, body: bytes, request: SearchRequest) -> SearchResults:
        """Read a good answer; raises `Unreadable` or `ValueError` for anything else."""

    def account_problem(self, status: int, body: bytes) -> str | None:
        """What is wrong with our account, if that is why it refused; None if the status says it."""


def with_site(request: SearchRequest) -> str:
    """The query with the `site:` operator, for APIs that have no parameter for it."""
    return f"{request.query} site:{request.site}" if request.site else request.query
