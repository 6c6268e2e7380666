"""Search jobs: pick the search API, call it once, store what it found in one shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from forebay.http import build_client, call_id
from forebay.jobs import Job
from forebay.outcomes import Failed, Outcome
from forebay.progress import Write, unheard
from forebay.requests import SearchRequest
from forebay.worker.choice import choose
from search_worker.exchange import Exchange
from search_worker.providers import ProviderName, SearchProvider
from search_worker.providers.brave import Brave
from search_worker.providers.searxng import SearXNG
from search_worker.providers.serper import Serper
from search_worker.providers.tavily import Tavily
from search_worker.settings import SearchSettings


class SearchHandler:
    """The handler of search jobs.

    Args:
        providers: by the name that `provider.order` uses.
        default: for jobs that name none.
    """

    def __init__(
        self, exchange: Exchange, providers: Mapping[str, SearchProvider], default: ProviderName
    ) -> None:
        self._exchange = exchange
        self._providers = providers
        self._default = default

    async def handle(self, job: Job, request: SearchRequest, _: Write = unheard, /) -> Outcome:
        """One call at most; no call when no provider can be called."""
        provider = choose(self._providers, job.provider, self._default)
        if isinstance(provider, Failed):
            return provider
        return await self._exchange.call(provider, request, call_id(job))


def search_providers(settings: SearchSettings) -> dict[str, SearchProvider]:
    """Every adapter, also those that lack a setting: asked for, they say which."""
    adapters: tuple[SearchProvider, ...] = (
        SearXNG(settings.searxng_url),
        Brave(settings.brave_url, settings.brave_api_key),
        Tavily(settings.tavily_url, settings.tavily_api_key),
        Serper(settings.serper_url, settings.serper_api_key),
    )
    return {adapter.name: adapter for adapter in adapters}


@asynccontextmanager
async def open_handler(settings: SearchSettings) -> AsyncIterator[SearchHandler]:
    """The handler with its client, closed at the end."""
    async with build_client(
        concurrency=settings.concurrency, timeout_s=settings.timeout_s
    ) as client:
        exchange = Exchange(client, settings.max_response_bytes)
        yield SearchHandler(exchange, search_providers(settings), settings.provider)
