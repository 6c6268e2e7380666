"""What the search worker can be told; every name begins with `FOREBAY_SEARCH_`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from forebay.settings import ApiKey, EndpointUrl, ProviderWorkerSettings
from search_worker.providers import ProviderName


class SearchSettings(ProviderWorkerSettings):
    """How the search worker digests its jobs, and with which search APIs.

    The process starts without any key; a job for a search API whose key is missing fails with
    `provider_auth` and names the setting.
    """

    # An empty value is how compose files and manifests spell "not set".
    model_config = SettingsConfigDict(env_prefix="FOREBAY_SEARCH_", env_ignore_empty=True)

    provider: ProviderName = ProviderName.SEARXNG
    """The search API for jobs that name none."""
    max_response_bytes: Annotated[int, Field(ge=1024)] = 4 * 1024 * 1024
    """Largest answer of a search API, in bytes; a page of 50 results is well under 1 MiB."""
    searxng_url: EndpointUrl | None = None
    """Base URL of a SearXNG instance with `json` among its `search.formats`; it has no key."""
    brave_url: EndpointUrl = "https://api.search.brave.com"
    """Base URL of the Brave Search API."""
    brave_api_key: ApiKey | None = None
    """Subscription token of the Brave Search API."""
    tavily_url: EndpointUrl = "https://api.tavily.com"
    """Base URL of Tavily."""
    tavily_api_key: ApiKey | None = None
    """API key of Tavily."""
    serper_url: EndpointUrl = "https://google.serper.dev"
    """Base URL of Serper."""
    serper_api_key: ApiKey | None = None
    """API key of Serper."""
