"""One page to read, and what reading it gave: what the crawl and its providers speak in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from crawler_worker.links import Link
from crawler_worker.results import CrawledPage
from forebay.errors import CallError, ErrorCode, JobError
from forebay.outcomes import Call, Failed, Retry, Snooze
from forebay.requests import CrawlRequest


@dataclass(frozen=True, slots=True)
class Visit:
    """A page to read.

    Attributes:
        call_id: the job's attempt, for `X-Request-ID`.
        hosts: the hosts it may be on, redirects included; None for any.
        waited_s: since the job's attempt before this one ended, in seconds; 0 in its first.
    """

    url: str
    depth: int
    request: CrawlRequest
    call_id: str
    hosts: frozenset[str] | None = None
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A page that was read.

    Attributes:
        links: every one it has, asked for or not.
        size: of the page in a stored result, in bytes.
    """

    page: CrawledPage
    links: tuple[Link, ...]
    size: int

    @classmethod
    def of(cls, page: CrawledPage, links: tuple[Link, ...]) -> Reading:
        """Measures the page: processor work, to be run beside the loop."""
        return cls(page, links, len(page.model_dump_json(exclude_none=True).encode()))


Read = Reading | Retry | Failed | Snooze


class PageUnreadable(CallError):
    """The page is there, but of a kind that cannot be read; the message says why."""


def unreadable(why: PageUnreadable, provider: str) -> Failed:
    """What an unreadable page means for the job: the same again is useless."""
    return Failed(JobError(ErrorCode.PROVIDER_REJECTED, str(why)), Call(provider, 200))


def off_host(provider: str) -> Failed:
    """What a page is that redirects to where its crawl may not go."""
    detail = "The page redirects to another host; `follow.same_host` keeps the crawl on its own."
    return Failed(JobError(ErrorCode.PROVIDER_REJECTED, detail), Call(provider))


class PageReader(Protocol):
    """Reads one page; answers with a value whatever the site does."""

    async def read(self, visit: Visit) -> Read:
        """Fetch the page and make what was asked for of it."""
