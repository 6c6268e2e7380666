"""The composition root of the webhook worker."""

from __future__ import annotations

from forebay.jobs import JobKind
from forebay.process import Process
from forebay.settings import AddressSettings, StoreSettings, load
from forebay.store.mongo import open_store
from forebay.webhooks.delivery import SCHEDULE, DeliveryRequest
from forebay.worker.runtime import WorkerSpec, run_worker
from webhook_worker.handler import open_handler
from webhook_worker.settings import WebhookSettings


async def main(process: Process) -> None:
    """Work until a stop signal."""
    settings = load(WebhookSettings)
    allow = load(AddressSettings).webhook_allowed
    async with (
        open_store(load(StoreSettings)) as store,
        open_handler(settings, allow, store.endpoints, store) as handler,
    ):
        await run_worker(
            process, WorkerSpec(JobKind.WEBHOOK, DeliveryRequest, handler, settings, SCHEDULE)
        )
