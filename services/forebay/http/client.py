"""The one HTTP client factory."""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from aiohttp.abc import AbstractResolver

from forebay import __version__
from forebay.addresses import AddressGuard
from forebay.http.body import ACCEPT_ENCODING
from forebay.http.transport import Transport
from forebay.jobs import Job

REQUEST_ID_HEADER = "X-Request-ID"
"""Names the job and its attempt to the provider, for its support and for our call logs."""
USER_AGENT = f"Forebay/{__version__}"
CONNECT_TIMEOUT_S = 10.0
"""A host that has not taken the connection by then rarely does."""


def call_id(job: Job) -> str:
    """The value of `X-Request-ID`: one per attempt, so that a provider can tell them apart."""
    return f"{job.id}.{job.attempts}"


def build_client(
    *,
    concurrency: int,
    timeout_s: float,
    guard: AddressGuard | None = None,
    user_agent: str = USER_AGENT,
    resolver: AbstractResolver | None = None,
) -> httpx.AsyncClient:
    """A client over the aiohttp transport; use it with `async with`, or close it.

    It follows no redirects, retries nothing, keeps no cookies and reads no proxy settings from the
    environment. Bodies arrive as they are on the wire: read them with `read_limited`, or, from a
    provider one trusts, with httpx's own `aread`.

    Args:
        concurrency: connections at most; a further call waits for one.
        timeout_s: bound in seconds of each wait (pool, read, write); the caller bounds the whole.
        guard: judges every address that is connected to; None for operators' own endpoints.
        user_agent: sent unless a request says otherwise.
        resolver: how names become addresses, closed with the client; the system's by default.

    The client's calls raise `HTTP_FAILURES`, for `outcome_of_failure`.
    """
    return httpx.AsyncClient(
        transport=Transport(concurrency=concurrency, guard=guard, resolver=resolver),
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
        headers={"User-Agent": user_agent, "Accept-Encoding": ACCEPT_ENCODING},
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
    )
