"""Brave Search API, `GET /res/v1/web/search` (api-dashboard.search.brave.com, Web Search)."""

from __future__ import annotations

import html
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from forebay.requests import Freshness, SearchRequest
from search_worker.providers import ProviderName, WireRequest, with_site
from search_worker.results import Hit, SearchResults, collect

_MOST_RESULTS = 20
_FRESHNESS = {
    Freshness.DAY: "pd",
    Freshness.WEEK: "pw",
    Freshness.MONTH: "pm",
    Freshness.YEAR: "py",
}
# Brave's `search_lang` is a closed list; these of it are not plain two-letter codes.
_LANGUAGES = {
    "en-gb": "en-gb",
    "ja": "jp",
    "no": "nb",
    "nn": "nb",
    "pt": "pt-pt",
    "pt-br": "pt-br",
    "zh": "zh-hans",
    "zh-hant": "zh-hant",
    "zh-hk": "zh-hant",
    "zh-tw": "zh-hant",
}
# Brave's words for: not within what we pay for.
_PLAN_CODES = frozenset({"SUBSCRIPTION_NOT_FOUND", "OPTION_NOT_IN_PLAN", "QUOTA_LIMITED"})
_MARKS = re.compile(r"</?strong>")


class _Result(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    title: str | None = None
    url: str | None = None
    description: str | None = None
    page_age: str | None = None
    age: str | None = None


class _Web(BaseModel):
    results: list[_Result] = []


class _Answer(BaseModel):
    # A search without a match has no `web` at all, so the type is what makes it an answer.
    type: Literal["search"]
    web: _Web | None = None


class _Error(BaseModel):
    code: str = ""


class _Refusal(BaseModel):
    # Brave's reference shows a list, its servers send one object: both are read.
    error: _Error | None = None
    errors: list[_Error] = []

    @property
    def codes(self) -> set[str]:
        return {error.code for error in [*self.errors, *([self.error] if self.error else [])]}


class Brave:
    """The Brave Search API."""

    name = ProviderName.BRAVE.value

    def __init__(self, url: str, key: SecretStr | None) -> None:
        self._url = url.rstrip("/")
        self._key = key

    @property
    def missing_setting(self) -> str | None:
        """It needs a subscription token."""
        return None if self._key else "FOREBAY_SEARCH_BRAVE_API_KEY"

    def build(self, request: SearchRequest) -> WireRequest:
        """At most 20 results a call."""
        params: dict[str, str | int] = {
            "q": with_site(request),
            "count": min(request.limit, _MOST_RESULTS),
            "result_filter": "web",
            "text_decorations": "false",
        }
        if request.language is not None:
            params["search_lang"] = _language(request.language)
        if request.region is not None:
            params["country"] = request.region.upper()
        if request.freshness is not None:
            params["freshness"] = _FRESHNESS[request.freshness]
        token = self._key.get_secret_value() if self._key else ""
        headers = {"X-Subscription-Token": token, "Accept": "application/json"}
        return WireRequest("GET", f"{self._url}/res/v1/web/search", params, headers)

    def parse(self, body: bytes, request: SearchRequest) -> SearchResults:
        """Brave escapes HTML and may mark words although it is asked not to."""
        web = _Answer.model_validate_json(body).web or _Web()
        hits = (
            Hit(
                title=_plain(result.title),
                url=result.url,
                snippet=_plain(result.description),
                published=result.page_age or result.age,
            )
            for result in web.results
        )
        return collect(request, self.name, hits)

    def account_problem(self, status: int, body: bytes) -> str | None:
        """Brave refuses a bad token with 422, the status of a bad request too."""
        if status < 400:
            return None
        try:
            codes = _Refusal.model_validate_json(body).codes
        except ValidationError:
            return None
        if "SUBSCRIPTION_TOKEN_INVALID" in codes:
            return "brave refused our key; an operator must check FOREBAY_SEARCH_BRAVE_API_KEY."
        if codes & _PLAN_CODES:
            return (
                f"brave answered {status}: our plan does not cover it; an operator must raise it."
            )
        return None


def _language(tag: str) -> str:
    lower = tag.lower()
    plain = lower.partition("-")[0]
    return _LANGUAGES.get(lower) or _LANGUAGES.get(plain, plain)


def _plain(text: str | None) -> str | None:
    return None if text is None else html.unescape(_MARKS.sub("", text))
