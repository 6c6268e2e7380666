"""Bugs of the outbox of webhooks, of their worker, and of who may see what."""

from __future__ import annotations

from tests.planted.bug import Bug, Edit
from tests.planted.finders import (
    IN_MEMORY,
    INGRESS,
    ON_MONGODB,
    RECONCILER,
    SIMULATION,
    WEBHOOK_WORKER,
    WORKER,
)

NOTIFIER = "forebay/webhooks/notifier.py"
DELIVERY = "forebay/webhooks/delivery.py"
SIGNATURE = "forebay/webhooks/signature.py"
TELLING = "forebay/worker/telling.py"
UPDATES = "forebay/store/updates.py"
MOVES = "forebay/store/moves.py"
SELECTIONS = "forebay/store/selections.py"
ENDPOINTS = "forebay/store/mongo/endpoints.py"
HANDLER = "webhook_worker/handler.py"
RECEIVERS = "webhook_worker/receivers.py"
LOOP = "reconciler/notifier.py"

WEBHOOK_BUGS = (
    Bug(
        "an end is marked as told before its deliveries are stored",
        "I6",
        (
            Edit(
                NOTIFIER,
                "        if receivers:\n            await self._jobs.insert(",
                "        await self._jobs.told(job.id, end.generation)\n"
                "        if receivers:\n            await self._jobs.insert(",
            ),
        ),
        (RECONCILER, SIMULATION),
    ),
    Bug(
        "a delivery has a new id whenever it is made",
        "I6",
        (Edit(DELIVERY, "        _id_at(end.at, told),", '        f"msg_{uuid7().hex}",'),),
        (RECONCILER, SIMULATION),
    ),
    Bug(
        "a worker leaves every end to the notifier",
        "I6",
        (Edit(TELLING, "            await self._notifier.tell(job)", "            pass"),),
        (WORKER,),
    ),
    Bug(
        "nobody looks for ends that were left behind",
        "I6",
        (
            Edit(
                LOOP,
                "jobs = await self._store.untold(self._after_s, self._batch)",
                "jobs = ()",
            ),
        ),
        (RECONCILER, SIMULATION),
    ),
    Bug(
        "a job that is canceled while it waits tells nobody",
        "I6",
        (
            Edit(
                UPDATES,
                '        {"$unset": ["not_before"]},\n        _TO_TELL,\n',
                '        {"$unset": ["not_before"]},\n',
            ),
        ),
        (ON_MONGODB,),
    ),
    Bug(
        "a retry by hand forgets the end before it",
        "I6",
        (
            Edit(
                MOVES,
                "        **dict.fromkeys(updates.OF_ONE_GENERATION),",
                "        **dict.fromkeys(updates.OF_ONE_GENERATION),\n        untold=(),",
            ),
        ),
        (IN_MEMORY, SIMULATION),
    ),
    Bug(
        "a redirect is taken for success",
        "I6",
        (Edit(HANDLER, "if response.is_success:", "if status < 400:"),),
        (WEBHOOK_WORKER,),
    ),
    Bug(
        "one receiver may take every place",
        "I7",
        (Edit(RECEIVERS, "if receiver.taken >= self._places:", "if receiver.taken < 0:"),),
        (WEBHOOK_WORKER,),
    ),
    Bug(
        "the timestamp is not signed",
        "I5",
        (Edit(SIGNATURE, 'f"{message_id}.{timestamp}."', 'f"{message_id}.."'),),
        (WEBHOOK_WORKER,),
    ),
    Bug(
        "only the newest secret signs",
        "I6",
        (Edit(HANDLER, "endpoint.signing(now))", "endpoint.signing(now)[:1])"),),
        (WEBHOOK_WORKER,),
    ),
    Bug(
        "a webhook may be sent anywhere",
        "I5",
        (Edit(HANDLER, "guard=AddressGuard(allow)", "guard=None"),),
        (WEBHOOK_WORKER,),
    ),
    Bug(
        "a tenant finds another's webhook endpoint",
        "I5",
        (
            Edit(
                ENDPOINTS,
                'document = await self._endpoints.find_one({"tenant": tenant, "_id": endpoint_id})',
                'document = await self._endpoints.find_one({"_id": endpoint_id})',
            ),
        ),
        (ON_MONGODB,),
    ),
    Bug(
        "a list of jobs shows deliveries",
        "I5",
        (
            Edit(
                MOVES,
                "if query.deliveries != job.id.startswith(DELIVERY_PREFIX):",
                "if query.deliveries and not job.id.startswith(DELIVERY_PREFIX):",
            ),
        ),
        (INGRESS, IN_MEMORY),
    ),
    Bug(
        "a list of jobs in the store shows deliveries",
        "I5",
        (
            Edit(
                SELECTIONS,
                '        {"_id": {"$gte" if query.deliveries else "$lt": DELIVERY_PREFIX}},\n',
                "",
            ),
        ),
        (ON_MONGODB,),
    ),
)
