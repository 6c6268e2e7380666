"""What a crawler process can be told, besides what every worker can; docs/providers.md has more."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from forebay.settings import ApiKey, EndpointUrl, ProviderWorkerSettings, SettingsGroup

FIRECRAWL_CLOUD = "https://api.firecrawl.dev"


class CrawlProvider(StrEnum):
    """Who fetches the pages."""

    FETCH = "fetch"
    """This process itself."""
    FIRECRAWL = "firecrawl"
    """A crawler API in the shape of Firecrawl's."""


class CrawlerSettings(ProviderWorkerSettings):
    """How the crawler digests its jobs."""

    model_config = SettingsConfigDict(env_prefix="FOREBAY_CRAWLER_", env_ignore_empty=True)

    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Upper bound of one job's attempt. A job that follows links stops a tenth earlier and keeps
    what it has."""
    provider: CrawlProvider = CrawlProvider.FETCH
    """Who fetches when the job does not say."""
    identify_job: bool = False
    """Send `X-Request-ID` (job and attempt) to the sites too; a crawler API always gets it."""
    extract_threads: Annotated[int, Field(ge=1, le=64)] = 2
    """Pages turned into markdown and text at the same time; it is processor work, so about one per
    core."""
    max_result_bytes: Annotated[int, Field(ge=65_536)] = 12 * 1024 * 1024
    """Largest result of a job, in bytes; following links stops there."""


class SiteSettings(SettingsGroup):
    """How the crawler behaves on other people's sites."""

    model_config = SettingsConfigDict(env_prefix="FOREBAY_CRAWLER_", env_ignore_empty=True)

    user_agent: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_-]+(/[\x21-\x7e]+)?( [\x20-\x7e]+)?$")
    ] = "ForebayBot/0.1 (+https://example.com/bot)"
    """Who we say we are; the word before the slash is what robots.txt files are read for. Put the
    address of a page about your crawler in it."""
    per_host_concurrency: Annotated[int, Field(ge=1)] = 2
    """Requests in flight to one host at most, over all jobs of this process."""
    crawl_delay_s: Annotated[float, Field(ge=0)] = 0.5
    """Seconds between the starts of two requests to one host, over all jobs of this process."""
    max_crawl_delay_s: Annotated[float, Field(ge=0)] = 30.0
    """A longer `Crawl-delay` of a robots.txt is cut to this."""
    host_patience_s: Annotated[float, Field(gt=0)] = 10.0
    """How long a job waits for its turn on a busy host before it is put back, uncounted."""
    page_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Upper bound of one request, its body included; waiting for a turn does not count."""
    robots_ttl_s: Annotated[float, Field(ge=0, le=86_400)] = 3600.0
    """How long a robots.txt is remembered; RFC 9309 allows a day at most."""


class FirecrawlSettings(SettingsGroup):
    """How to reach a crawler API in the shape of Firecrawl's."""

    model_config = SettingsConfigDict(
        env_prefix="FOREBAY_CRAWLER_FIRECRAWL_", env_ignore_empty=True
    )

    url: EndpointUrl = FIRECRAWL_CLOUD
    """Its base URL, without `/v1`; one's own installation works too."""
    api_key: ApiKey | None = None
    """Its key; needed for Firecrawl's own service, often not for one's own installation."""
