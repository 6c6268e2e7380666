"""From a job's end to its deliveries: the outbox of webhooks.

Theory of operation. The write that ends a job leaves the end on the job itself, in `untold`, if
somebody is to hear of it. Whoever sees that makes the deliveries, whose ids follow from what is
told to whom, and then takes the end off the job. In between it may die: the next one makes the same
deliveries again, which are there already. So nothing is lost and nothing is told under two ids.
"""

from __future__ import annotations

from collections.abc import Sequence

from forebay.crashpoints import CrashPoint, crashpoint
from forebay.endpoints import WebhookEvent, default_endpoint_id
from forebay.jobs import Job, JobEnd
from forebay.store import JobStore
from forebay.store.endpoints import EndpointStore
from forebay.webhooks.delivery import Receiver, delivery_of


class Notifier:
    """Makes the deliveries of jobs that have their end."""

    def __init__(self, jobs: JobStore, endpoints: EndpointStore) -> None:
        self._jobs = jobs
        self._endpoints = endpoints

    async def tell(self, job: Job) -> int:
        """Make the deliveries of every untold end of a job; how many there are. Safe to repeat.

        Raises `StoreError`; what was not done is left on the job.
        """
        if not job.untold:
            return 0
        crashpoint(CrashPoint.NOTIFIER_BEFORE_DELIVERIES)
        endpoints = await self._endpoints.list(job.tenant)
        count = 0
        for end in job.untold:
            event = WebhookEvent.of(end.state)
            receivers = [Receiver(one.id) for one in endpoints if one.hears(event)]
            receivers += _own(job, event)
            await self._tell(job, end, receivers)
            count += len(receivers)
        return count

    async def _tell(self, job: Job, end: JobEnd, receivers: Sequence[Receiver]) -> None:
        if receivers:
            await self._jobs.insert([delivery_of(job, end, one) for one in receivers])
        crashpoint(CrashPoint.NOTIFIER_BEFORE_MARK)
        await self._jobs.told(job.id, end.generation)


def _own(job: Job, event: WebhookEvent) -> Sequence[Receiver]:
    """The receiver that the job names itself, if it wants to hear of the event."""
    target = job.webhook
    if target is None or (target.events and event not in target.events):
        return ()
    return (Receiver(default_endpoint_id(job.tenant), target.url),)
