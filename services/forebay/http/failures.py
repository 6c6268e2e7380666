"""What a failed call means for the job: values, with whose fault it was.

The aiohttp transport's mapping calls a refused connection and a server that hangs up a
`ConnectTimeout` (httpx-aiohttp 0.2.0), so the exception that caused the mapped one decides.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import aiohttp
import httpx

from forebay.errors import (
    AddressForbidden,
    CallError,
    ErrorCode,
    JobError,
    TooLarge,
    Unreadable,
)
from forebay.outcomes import Call, Failed, Retry

HTTP_FAILURES: tuple[type[Exception], ...] = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    aiohttp.ClientError,
    CallError,
    OSError,  # TimeoutError is one
)
"""What a call through `build_client` can raise; anything else is a defect of ours."""


def outcome_of_failure(error: Exception, provider: str) -> Retry | Failed:
    """What to answer when a call raised `error`; raises `error` itself if it is a defect of ours.

    The detail names what happened, never the target, its addresses or its words.
    """
    call = Call(provider)
    if isinstance(error, AddressForbidden):
        detail = f"The target is {error}; it must not be called from here."
        return Failed(JobError(ErrorCode.ADDRESS_FORBIDDEN, detail), call)
    if isinstance(error, TooLarge):
        detail = f"{provider}: {error}; ask for less or raise the limit."
        return Failed(JobError(ErrorCode.TOO_LARGE, detail), call)
    if isinstance(error, Unreadable):
        return Retry(JobError(ErrorCode.PROVIDER_ERROR, f"{provider}: {error}.", True), call)
    if not isinstance(error, HTTP_FAILURES):
        raise error
    if _is_malformed(error):
        detail = f"{provider}: the URL cannot be called as it stands; change the input."
        return Failed(JobError(ErrorCode.PROVIDER_REJECTED, detail), call)
    return Retry(_passing(error, provider), call)


def _passing(error: Exception, provider: str) -> JobError:
    causes = tuple(_causes(error))
    root = causes[-1]
    if _any(causes, aiohttp.ClientConnectorCertificateError):
        what = "its TLS certificate is not valid"
    elif _any(causes, aiohttp.ClientSSLError):
        what = "no TLS connection could be made"
    elif _any(causes, aiohttp.ClientConnectorDNSError) or _any(causes, socket.gaierror):
        what = "its name could not be resolved"
    elif _any(causes, TimeoutError) or (
        root is error and isinstance(error, httpx.TimeoutException)
    ):
        return JobError(ErrorCode.PROVIDER_TIMEOUT, f"{provider} did not answer in time.", True)
    elif _any(causes, aiohttp.ClientConnectorError):
        what = "it does not take the connection"
    elif _any(causes, aiohttp.ClientPayloadError):
        what = "its answer broke off"
    elif _any(causes, aiohttp.ClientResponseError):
        what = "its answer is not HTTP"
    else:
        what = "the connection broke"
    return JobError(ErrorCode.PROVIDER_ERROR, f"{provider}: {what}.", True)


def _is_malformed(error: Exception) -> bool:
    kinds = (httpx.InvalidURL, httpx.UnsupportedProtocol, aiohttp.InvalidURL)
    return any(isinstance(cause, kinds) for cause in _causes(error))


def _any(causes: tuple[BaseException, ...], kind: type[Exception]) -> bool:
    return any(isinstance(cause, kind) for cause in causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
