"""SearXNG, `GET /search?format=json` (docs.searxng.org, Search API)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, FiniteFloat

from forebay.errors import Unreadable
from forebay.requests import SearchRequest
from search_worker.providers import ProviderName, WireRequest, with_site
from search_worker.results import Hit, SearchResults, collect

_MOST_NAMES = 5


class _Result(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    url: str | None = None
    title: str | None = None
    content: str | None = None
    publishedDate: str | None = None  # noqa: N815 - SearXNG's own name


class _Answer(BaseModel):
    results: list[_Result]
    number_of_results: FiniteFloat | None = None
    # Pairs of an engine's name and what ailed it.
    unresponsive_engines: list[list[str | None]] = []


class SearXNG:
    """A SearXNG instance of the operator's own."""

    name = ProviderName.SEARXNG.value

    def __init__(self, url: str | None) -> None:
        self._url = (url or "").rstrip("/")

    @property
    def missing_setting(self) -> str | None:
        """It needs to know where; there is no key."""
        return None if self._url else "FOREBAY_SEARCH_SEARXNG_URL"

    def build(self, request: SearchRequest) -> WireRequest:
        """SearXNG cannot be told how many results: a page has what its engines gave."""
        params: dict[str, str | int] = {"q": with_site(request), "format": "json", "pageno": 1}
        language = _language(request)
        if language is not None:
            params["language"] = language
        if request.freshness is not None:
            params["time_range"] = request.freshness.value
        return WireRequest("GET", f"{self._url}/search", params)

    def parse(self, body: bytes, request: SearchRequest) -> SearchResults:
        """No result while engines failed is a failure: nobody looked, so nothing was found out."""
        answer = _Answer.model_validate_json(body)
        if not answer.results and answer.unresponsive_engines:
            named = [str(engine[0])[:40] for engine in answer.unresponsive_engines if engine]
            names = ", ".join(named[:_MOST_NAMES])
            raise Unreadable(f"no results, because engines of it did not answer ({names})")
        hits = (
            Hit(title=r.title, url=r.url, snippet=r.content, published=r.publishedDate)
            for r in answer.results
        )
        found = collect(request, self.name, hits)
        # SearXNG says 0 when its engines do not count.
        total = int(answer.number_of_results or 0) or None
        region_lost = request.region is not None and request.language is None
        return found.model_copy(
            update={"total": total, "not_applied": ("region",) if region_lost else ()}
        )

    def account_problem(self, status: int, body: bytes) -> str | None:  # noqa: ARG002 - protocol
        """An instance answers 403 to a format it has not switched on, and to what it limits."""
        if status != 403:
            return None
        return (
            "searxng answered 403: an operator must add `json` to `search.formats` in the "
            "instance's settings.yml, or exempt us from its limiter."
        )


def _language(request: SearchRequest) -> str | None:
    """SearXNG's locale, `de` or `de-CH`; a region alone has no place in it."""
    if request.language is None or request.region is None:
        return request.language
    return f"{request.language.partition('-')[0]}-{request.region.upper()}"
