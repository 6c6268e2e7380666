"""Webhook jobs: send one event to one receiver, once, by the rules of Standard Webhooks.

Only 2xx is success. Everything else is tried again as the schedule says, because a receiver that is
being deployed answers anything; but 410 says that nobody wants to hear here any more, and disables
the endpoint. No redirect is followed: the address that was judged is the one that hears.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import httpx

from forebay.addresses import AddressGuard
from forebay.crashpoints import CrashPoint, crashpoint
from forebay.endpoints import Endpoint, default_endpoint, default_endpoint_id
from forebay.errors import ErrorCode, JobError, StoreError
from forebay.http import HTTP_FAILURES, build_client, outcome_of_failure, read_head
from forebay.jobs import Job
from forebay.outcomes import Call, Failed, Outcome, Retry, Snooze, Succeeded
from forebay.progress import Write, unheard
from forebay.retry import parse_retry_after
from forebay.store import JobStore
from forebay.store.endpoints import EndpointChange, EndpointStore
from forebay.webhooks import signature
from forebay.webhooks.delivery import DeliveryRequest, endpoint_tag
from webhook_worker.receivers import Receivers
from webhook_worker.settings import WebhookSettings

RECEIVER = "webhook"
"""What histories and metrics call every receiver: its URL is its owner's business."""
GONE = "gone"
READ_S = 1.0
"""How long the rest of an answer is waited for. It says nothing to us; a connection whose answer is
read to its end can be used again."""
STORE_AWAY_S = 5.0

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The process's clock."""
    return datetime.now(UTC)


class WebhookHandler:
    """The handler of webhook jobs.

    Args:
        client: from `build_client`, with the guard of webhook targets.
        receivers: who may be called now.
        endpoints: whose secrets sign.
        jobs: where the deliveries of an endpoint that is gone are canceled.
        max_response_bytes: how much of an answer is read.
        clock: for the timestamp that is signed.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        receivers: Receivers,
        endpoints: EndpointStore,
        jobs: JobStore,
        max_response_bytes: int,
        clock: Clock = utc_now,
    ) -> None:
        self._client = client
        self._receivers = receivers
        self._endpoints = endpoints
        self._jobs = jobs
        self._max_response_bytes = max_response_bytes
        self._clock = clock

    async def handle(self, job: Job, request: DeliveryRequest, _: Write = unheard, /) -> Outcome:
        """One POST at most; none when the endpoint is disabled or its receiver is busy."""
        try:
            endpoint = await self._endpoint(job.tenant, request.endpoint_id)
        except StoreError:
            return Snooze(STORE_AWAY_S, "the store does not answer")
        url = request.url or (endpoint.url if endpoint else None)
        if endpoint is None or endpoint.disabled or url is None:
            return Failed(_DISABLED)
        with self._receivers.place(url) as wait_s:
            if wait_s:
                return Snooze(wait_s, "the receiver has as many deliveries as it may have")
            outcome = await self._send(job, request, endpoint, url)
        if _is_gone(outcome) and endpoint.url is not None:
            # If that fails, the next delivery is answered 410 too.
            with suppress(StoreError):
                await self._disable(endpoint)
        return outcome

    async def _endpoint(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        endpoint = await self._endpoints.get(tenant, endpoint_id)
        if endpoint is None and endpoint_id == default_endpoint_id(tenant):
            return await self._endpoints.add(default_endpoint(tenant, self._clock()))
        return endpoint

    async def _send(
        self, job: Job, request: DeliveryRequest, endpoint: Endpoint, url: str
    ) -> Outcome:
        body, now = request.body.encode(), self._clock()
        signed = signature.headers(job.id, int(now.timestamp()), body, endpoint.signing(now))
        headers = {"content-type": "application/json", **signed}
        try:
            async with self._client.stream("POST", url, content=body, headers=headers) as response:
                crashpoint(CrashPoint.WEBHOOK_AFTER_POST)
                await self._read(response)
                return self._judged(response)
        except HTTP_FAILURES as error:
            return replace(outcome_of_failure(error, "The receiver"), call=Call(RECEIVER))

    async def _read(self, response: httpx.Response) -> None:
        with suppress(*HTTP_FAILURES):
            async with asyncio.timeout(READ_S):
                await read_head(response, self._max_response_bytes)

    def _judged(self, response: httpx.Response) -> Outcome:
        status = response.status_code
        call = Call(RECEIVER, status)
        if response.is_success:
            return Succeeded(f'{{"http_status":{status}}}', call)
        if status == httpx.codes.GONE:
            detail = "The receiver answered 410: nobody wants to hear there any more."
            return Failed(JobError(ErrorCode.PROVIDER_REJECTED, detail), call)
        wish_s = None
        if status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}:
            wish_s = parse_retry_after(response.headers.get("retry-after"), self._clock())
        detail = f"The receiver answered {status}; only 2xx says that it took the event."
        return Retry(JobError(ErrorCode.PROVIDER_ERROR, detail, True, wish_s), call)

    async def _disable(self, endpoint: Endpoint) -> None:
        """Nothing more is sent there; what waits is canceled. Not if it moved meanwhile."""
        now = await self._endpoints.get(endpoint.tenant, endpoint.id)
        if now is None or now.url != endpoint.url:
            return
        gone = EndpointChange(disabled=True, disabled_reason=GONE)
        await self._endpoints.change(endpoint.tenant, endpoint.id, gone)
        await self._jobs.cancel_deliveries(endpoint.tenant, endpoint_tag(endpoint.id))


_DISABLED = JobError(
    ErrorCode.ENDPOINT_DISABLED, "The endpoint is disabled or removed; enable it and redeliver."
)


def _is_gone(outcome: Outcome) -> bool:
    call = None if isinstance(outcome, Snooze) else outcome.call
    return call is not None and call.http_status == httpx.codes.GONE


@asynccontextmanager
async def open_handler(
    settings: WebhookSettings,
    allow: frozenset[tuple[str, int]],
    endpoints: EndpointStore,
    jobs: JobStore,
) -> AsyncIterator[WebhookHandler]:
    """The handler with its client, closed at the end."""
    async with build_client(
        concurrency=settings.concurrency, timeout_s=settings.timeout_s, guard=AddressGuard(allow)
    ) as client:
        receivers = Receivers(settings.per_receiver_concurrency)
        yield WebhookHandler(client, receivers, endpoints, jobs, settings.max_response_bytes)
