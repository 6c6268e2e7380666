"""One request to a site and its answer: no redirect followed, everything bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import httpx

from forebay.errors import ErrorCode, JobError
from forebay.outcomes import Call, Failed, Retry, refusal

SITE = "The site"
"""How details for the caller name whoever serves the page."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def site_refusal(call: Call, retry_after_s: float | None = None) -> Retry | Failed:
    """What a site's status other than success means for the job.

    Unlike with a provider's, 401 and 403 are not about a key of ours: the page is not public.
    """
    status = call.http_status or 0
    if status in {401, 403} or status < 400:
        detail = f"The site answered {status}: it does not serve this page to us."
        return Failed(JobError(ErrorCode.PROVIDER_REJECTED, detail), call)
    return replace(refusal(Call(SITE, status), retry_after_s), call=call)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a site said; `body` is decoded and empty for anything but success."""

    url: httpx.URL
    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def is_redirect(self) -> bool:
        """Whether it points elsewhere."""
        return self.status in _REDIRECTS and "location" in self.headers

    @property
    def target(self) -> httpx.URL:
        """Where a redirect points; raises `httpx.InvalidURL`."""
        return self.url.join(self.headers["location"])


async def get(
    client: httpx.AsyncClient,
    url: httpx.URL,
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    read: Callable[[httpx.Response], Awaitable[bytes]],
) -> Answer:
    """GET a URL; `read` takes the body of a success. Raises `HTTP_FAILURES` and what `read` raises.

    The time limit is for the whole, so that a site that drips a byte a second ends too.
    """
    async with asyncio.timeout(timeout_s):
        async with client.stream("GET", url, headers=dict(headers)) as response:
            body = await read(response) if response.is_success else b""
            return Answer(url, response.status_code, response.headers, body)
