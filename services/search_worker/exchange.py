"""One call to one search API: sent once, read within its limit, every failure an outcome."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import httpx

from forebay.errors import ErrorCode, JobError, Unreadable
from forebay.http import HTTP_FAILURES, REQUEST_ID_HEADER, outcome_of_failure, read_limited
from forebay.outcomes import Call, Failed, Retry, Succeeded, refusal
from forebay.requests import SearchRequest
from forebay.retry import parse_retry_after
from search_worker.providers import SearchProvider

ERROR_BODY_BYTES = 64 * 1024
"""Of a refusal only its error code is read; no search API writes a longer one."""
_ID_HEADERS = ("x-request-id", "request-id")
_ID_CHARS = 200


class Exchange:
    """Calls search APIs over one client.

    Args:
        client: from `build_client`; it retries nothing, and neither does this.
        max_response_bytes: largest answer read, on the wire and decoded.
    """

    def __init__(self, client: httpx.AsyncClient, max_response_bytes: int) -> None:
        self._client = client
        self._max_response_bytes = max_response_bytes

    async def call(
        self, provider: SearchProvider, request: SearchRequest, call_id: str
    ) -> Succeeded | Retry | Failed:
        """Search once; `call_id` names the attempt to the provider."""
        wire = provider.build(request)
        try:
            async with self._client.stream(
                wire.method,
                wire.url,
                params=dict(wire.params),
                headers={**wire.headers, REQUEST_ID_HEADER: call_id},
                json=wire.json,
            ) as response:
                return await self._outcome(provider, request, response)
        except HTTP_FAILURES as error:
            return outcome_of_failure(error, provider.name)

    async def _outcome(
        self, provider: SearchProvider, request: SearchRequest, response: httpx.Response
    ) -> Succeeded | Retry | Failed:
        call = Call(provider.name, response.status_code, _request_id(response))
        if not response.is_success:
            return await _refused(provider, response, call)
        try:
            body = await read_limited(response, self._max_response_bytes)
            return Succeeded(_stored(provider, body, request), call)
        except HTTP_FAILURES as error:
            return replace(outcome_of_failure(error, provider.name), call=call)


def _stored(provider: SearchProvider, body: bytes, request: SearchRequest) -> str:
    """The result as JSON text; raises `Unreadable`."""
    try:
        return provider.parse(body, request).model_dump_json()
    except ValueError:
        raise Unreadable("its answer is not of the form its documentation describes") from None


async def _refused(
    provider: SearchProvider, response: httpx.Response, call: Call
) -> Retry | Failed:
    if response.status_code < 400:
        detail = (
            f"{provider.name} answered {response.status_code}, not with results; an operator must "
            f"check FOREBAY_SEARCH_{provider.name.upper()}_URL."
        )
        return Failed(JobError(ErrorCode.PROVIDER_REJECTED, detail), call)
    problem = provider.account_problem(response.status_code, await _error_body(response))
    if problem is not None:
        return Failed(JobError(ErrorCode.PROVIDER_AUTH, problem), call)
    return refusal(call, parse_retry_after(response.headers.get("retry-after"), datetime.now(UTC)))


async def _error_body(response: httpx.Response) -> bytes:
    try:
        return await read_limited(response, ERROR_BODY_BYTES)
    except HTTP_FAILURES:
        return b""  # the status alone says enough


def _request_id(response: httpx.Response) -> str | None:
    said = (response.headers.get(name) for name in _ID_HEADERS)
    return next((value[:_ID_CHARS] for value in said if value), None)
