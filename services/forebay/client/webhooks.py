"""What can be asked of webhooks: where they go, and what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TypedDict, Unpack

from forebay.client.connection import Ask, Connection, path_to
from forebay.client.errors import Conflict, NotDone, NotFound
from forebay.client.jobs import JSON, id_of
from forebay.client.submissions import Several, query_of, text_of
from forebay.client.webhook_views import (
    DeliveryPage,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpoints,
    WebhookSecret,
)

ENDPOINTS, DELIVERIES = "webhook-endpoints", "webhook-deliveries"
FIRST_LOOK_S, LAST_LOOK_S = 0.1, 3.0
"""From one look at a delivery to the next, growing."""


class EndpointChange(TypedDict, total=False):
    """What is to be different; what is left out stays as it is."""

    url: str
    events: Sequence[str]
    description: str
    disabled: bool


class DeliveryFilter(TypedDict, total=False):
    """Which deliveries are listed: all filters must hold, of several states any."""

    endpoint_id: str
    job_id: str
    event: str
    state: Several


class WebhookCalls:
    """The part of the client about webhooks; every call raises `ClientError`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create_webhook(
        self, url: str, *, events: Sequence[str] = (), description: str = ""
    ) -> WebhookSecret:
        """A new endpoint, which hears of these events, or of all; with the secret that signs.

        Sent once, however the answer is lost: a repeat would be a second endpoint. Look with
        `list_webhooks` whether there is one.
        """
        body = {"url": url, "events": events, "description": description}
        ask = Ask("POST", path_to(ENDPOINTS), body=text_of(body), headers=JSON, once=True)
        return await self._connection.view(ask, WebhookSecret)

    async def list_webhooks(self) -> tuple[WebhookEndpoint, ...]:
        """All endpoints, 20 or a few more, the oldest first."""
        return (await self._connection.view(Ask("GET", path_to(ENDPOINTS)), WebhookEndpoints)).data

    async def webhook(self, endpoint: WebhookEndpoint | str) -> WebhookEndpoint:
        """The endpoint as it is now; `default` is the one that signs for the URLs of jobs."""
        ask = Ask("GET", path_to(ENDPOINTS, id_of(endpoint)))
        return await self._connection.view(ask, WebhookEndpoint)

    async def change_webhook(
        self, endpoint: WebhookEndpoint | str, **changes: Unpack[EndpointChange]
    ) -> WebhookEndpoint:
        """Change what is named; with `disabled=True` its deliveries that wait are canceled."""
        path = path_to(ENDPOINTS, id_of(endpoint))
        ask = Ask("PATCH", path, body=text_of(changes), headers=JSON)
        return await self._connection.view(ask, WebhookEndpoint)

    async def remove_webhook(self, endpoint: WebhookEndpoint | str) -> None:
        """Remove it; its deliveries that wait are canceled, the log of them stays."""
        try:
            await self._connection.ask(Ask("DELETE", path_to(ENDPOINTS, id_of(endpoint))))
        except NotFound as gone:
            if not gone.repeated:
                raise

    async def webhook_secret(self, endpoint: WebhookEndpoint | str = "default") -> WebhookSecret:
        """The endpoint with its present secret."""
        ask = Ask("GET", path_to(ENDPOINTS, id_of(endpoint), "secret"))
        return await self._connection.view(ask, WebhookSecret)

    async def rotate_webhook_secret(self, endpoint: WebhookEndpoint | str) -> WebhookSecret:
        """A new secret; for 24 hours the old one signs beside it.

        Sent once, however the answer is lost: a few repeats would push out the one in use.
        `webhook_secret` tells which it is now.
        """
        ask = Ask("POST", path_to(ENDPOINTS, id_of(endpoint), "rotate-secret"), once=True)
        return await self._connection.view(ask, WebhookSecret)

    async def test_webhook(self, endpoint: WebhookEndpoint | str) -> WebhookDelivery:
        """Send a `webhook.test` event, signed and tried again as any other."""
        ask = Ask("POST", path_to(ENDPOINTS, id_of(endpoint), "test"))
        return await self._connection.view(ask, WebhookDelivery)

    async def list_deliveries(
        self, *, limit: int = 50, cursor: str | None = None, **filters: Unpack[DeliveryFilter]
    ) -> DeliveryPage:
        """One page of deliveries, the newest first; 200 at most."""
        query = query_of(filters) | {"limit": [str(limit)]}
        if cursor is not None:
            query["cursor"] = [cursor]
        return await self._connection.view(Ask("GET", path_to(DELIVERIES), query), DeliveryPage)

    async def iterate_deliveries(
        self, **filters: Unpack[DeliveryFilter]
    ) -> AsyncIterator[WebhookDelivery]:
        """Every delivery that the filter names, page after page."""
        cursor: str | None = None
        while True:
            page = await self.list_deliveries(limit=200, cursor=cursor, **filters)
            for delivery in page.data:
                yield delivery
            if (cursor := page.next_cursor) is None:
                return

    async def delivery(self, delivery: WebhookDelivery | str) -> WebhookDelivery:
        """The delivery as it is now, with its attempts."""
        ask = Ask("GET", path_to(DELIVERIES, id_of(delivery)))
        return await self._connection.view(ask, WebhookDelivery)

    async def wait_delivery(
        self, delivery: WebhookDelivery | str, timeout_s: float | None = None
    ) -> WebhookDelivery:
        """The delivery when it is tried no more; raises `NotDone` after `timeout_s` seconds.

        Give a time: a receiver that is down is tried for three days.
        """
        seen = delivery if isinstance(delivery, WebhookDelivery) else None
        pause_s = FIRST_LOOK_S
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not (seen := await self.delivery(delivery)).done:
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 1.5, LAST_LOOK_S)
                return seen
        raise NotDone(f"{id_of(delivery)} was not done within {timeout_s} s", seen)

    async def redeliver(self, delivery: WebhookDelivery | str) -> WebhookDelivery:
        """Send one again that is done, under the same `webhook-id`; raises `Conflict` if not."""
        path = path_to(DELIVERIES, id_of(delivery), "redeliver")
        try:
            return await self._connection.view(Ask("POST", path), WebhookDelivery)
        except Conflict as refused:
            if not refused.repeated:
                raise
            # The answer to the first try was lost, and it is on its way, as was wished.
            return await self.delivery(delivery)
