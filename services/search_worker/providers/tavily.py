"""Tavily, `POST /search` (docs.tavily.com, Tavily Search)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr

from forebay.requests import SearchRequest
from search_worker.providers import ProviderName, WireRequest
from search_worker.providers.tavily_countries import COUNTRIES
from search_worker.results import Hit, SearchResults, collect

_MOST_RESULTS = 20
# Not in any RFC: Tavily's own statuses for a plan or a pay-as-you-go limit that is used up.
_LIMIT_STATUSES = frozenset({432, 433})


class _Result(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    title: str | None = None
    url: str | None = None
    content: str | None = None
    published_date: str | None = None


class _Answer(BaseModel):
    results: list[_Result]


class Tavily:
    """The Tavily API."""

    name = ProviderName.TAVILY.value

    def __init__(self, url: str, key: SecretStr | None) -> None:
        self._url = url.rstrip("/")
        self._key = key

    @property
    def missing_setting(self) -> str | None:
        """It needs a key."""
        return None if self._key else "FOREBAY_SEARCH_TAVILY_API_KEY"

    def build(self, request: SearchRequest) -> WireRequest:
        """The basic depth: one credit a call, and at most 20 results."""
        body: dict[str, Any] = {
            "query": request.query,
            "max_results": min(request.limit, _MOST_RESULTS),
            "search_depth": "basic",
            "topic": "general",
        }
        country = _country(request)
        if country is not None:
            body["country"] = country
        if request.freshness is not None:
            body["time_range"] = request.freshness.value
        if request.site is not None:
            body["include_domains"] = [request.site]
        key = self._key.get_secret_value() if self._key else ""
        headers = {"Authorization": f"Bearer {key}"}
        return WireRequest("POST", f"{self._url}/search", headers=headers, json=body)

    def parse(self, body: bytes, request: SearchRequest) -> SearchResults:
        """Tavily knows no language, and not every country."""
        answer = _Answer.model_validate_json(body)
        hits = (
            Hit(title=r.title, url=r.url, snippet=r.content, published=r.published_date)
            for r in answer.results
        )
        lost = [
            *(["language"] if request.language is not None else []),
            *(["region"] if request.region is not None and _country(request) is None else []),
        ]
        return collect(request, self.name, hits).model_copy(update={"not_applied": tuple(lost)})

    def account_problem(self, status: int, body: bytes) -> str | None:  # noqa: ARG002 - protocol
        """Tavily has statuses of its own for limits of the plan."""
        if status not in _LIMIT_STATUSES:
            return None
        return f"tavily answered {status}: the plan's limit is used up; an operator must raise it."


def _country(request: SearchRequest) -> str | None:
    return COUNTRIES.get(request.region.upper()) if request.region is not None else None
