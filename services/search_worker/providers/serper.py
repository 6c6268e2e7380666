"""Serper, `POST /search`: Google's results as JSON (serper.dev)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr

from forebay.requests import Freshness, SearchRequest
from search_worker.providers import ProviderName, WireRequest, with_site
from search_worker.results import Hit, SearchResults, collect

# Google's own parameter for "not older than".
_FRESHNESS = {
    Freshness.DAY: "qdr:d",
    Freshness.WEEK: "qdr:w",
    Freshness.MONTH: "qdr:m",
    Freshness.YEAR: "qdr:y",
}


class _Result(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    title: str | None = None
    link: str | None = None
    snippet: str | None = None
    date: str | None = None


class _Answer(BaseModel):
    # Repeated in every answer, also in one without a match, which has no `organic`.
    searchParameters: dict[str, Any]  # noqa: N815 - Serper's own name
    organic: list[_Result] = []


class Serper:
    """The Serper API."""

    name = ProviderName.SERPER.value

    def __init__(self, url: str, key: SecretStr | None) -> None:
        self._url = url.rstrip("/")
        self._key = key

    @property
    def missing_setting(self) -> str | None:
        """It needs a key."""
        return None if self._key else "FOREBAY_SEARCH_SERPER_API_KEY"

    def build(self, request: SearchRequest) -> WireRequest:
        """More than 10 results cost a second credit."""
        body: dict[str, str | int] = {"q": with_site(request), "num": request.limit}
        if request.language is not None:
            body["hl"] = request.language.lower()
        if request.region is not None:
            body["gl"] = request.region.lower()
        if request.freshness is not None:
            body["tbs"] = _FRESHNESS[request.freshness]
        key = self._key.get_secret_value() if self._key else ""
        return WireRequest("POST", f"{self._url}/search", headers={"X-API-KEY": key}, json=body)

    def parse(self, body: bytes, request: SearchRequest) -> SearchResults:
        """Only the organic results; boxes and questions are not pages."""
        answer = _Answer.model_validate_json(body)
        hits = (
            Hit(title=r.title, url=r.link, snippet=r.snippet, published=r.date)
            for r in answer.organic
        )
        return collect(request, self.name, hits)

    def account_problem(self, status: int, body: bytes) -> str | None:
        """A key without credits is refused with 400, the status of a bad request too."""
        if status == 400 and b"credits" in body:
            return "serper answered 400: no credits are left; an operator must buy some."
        return None
