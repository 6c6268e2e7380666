"""Accepting many jobs at once, and doing to many what can be done to one.

Theory of operation. The record of a batch is stored first, then its jobs, then that it is complete;
only then it is answered 202. The ids of the jobs follow from the batch, so what was stored before a
crash is stored again by the repeat, under the same Idempotency-Key, as the very same jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

from uuid_utils import uuid7

from forebay.batches import Batch, item_id
from forebay.errors import StoreUnavailable
from forebay.jobs import Idempotency, Job, JobState
from forebay.keys import ApiKey
from forebay.store import JobQuery, JobRef, JobStore, Route
from forebay.store.batches import BatchStore
from ingress.body import malformed, parse, validation_error
from ingress.items import Items, Turns
from ingress.problems import (
    InvalidPart,
    ProblemCode,
    RequestRefused,
    overloaded,
    store_unavailable,
)
from ingress.publishing import PublishPump
from ingress.rejections import Rejections
from ingress.schemas import BATCH_ITEM
from ingress.submission import (
    Bounds,
    Clock,
    JobBuilder,
    Origin,
    metadata_text,
)

TOGETHER = 500
"""Jobs in one write or one page."""
_UNKNOWN = (
    "Whether the batch was accepted is not known: repeat it under the same Idempotency-Key, and it "
    "is one batch."
)


@dataclass(frozen=True, slots=True)
class BatchBody:
    """What a caller sent."""

    items: Items
    at: str
    """The JSON pointer to them; of lines it is empty, and none of them spoils the others."""
    skip_invalid: bool
    metadata: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AcceptedBatch:
    """The durable batch, and whether it was there before under the same idempotency key."""

    batch: Batch
    replayed: bool = False


class Batches:
    """Where batches are accepted and acted on."""

    def __init__(
        self,
        builder: JobBuilder,
        jobs: JobStore,
        batches: BatchStore,
        pump: PublishPump,
        clock: Clock,
        bounds: Bounds,
    ) -> None:
        self._places = bounds.settings.max_batches
        self._largest = bounds.settings.max_body_bytes
        self._room = bounds.room
        self._open_jobs = bounds.open_jobs
        self._builder = builder
        self._jobs = jobs
        self._batches = batches
        self._pump = pump
        self._clock = clock

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for a batch that is checked and stored; raises `RequestRefused` if none is free.

        Its jobs may be many megabytes.
        """
        if self._places == 0:
            raise overloaded()
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    async def accept(self, body: BatchBody, origin: Origin) -> AcceptedBatch:
        """The durable batch; raises `RequestRefused`, which says what is known of it."""
        batch = Batch(
            id=f"batch_{uuid7().hex}",
            tenant=origin.tenant,
            created_at=self._clock(),
            total=len(body.items),
            accepted=0,
            metadata=metadata_text(body.metadata),
            idempotency=origin.idempotency,
        )
        known = await self._known(batch)
        if known is not None and known.complete:
            # Also if it could not be accepted any more: a limit of time may have passed meanwhile.
            return AcceptedBatch(known, replayed=True)
        drafts, rejected = await self._read(body, origin)
        if rejected.items and not body.skip_invalid:
            raise rejected.of_the_whole()
        batch = batch.evolve(accepted=len(drafts), rejected=tuple(rejected.items))
        wanted = self._room.wanted(*drafts.values())
        try:
            async with self._places_of(batch, wanted, origin.key, begun=known is not None):
                there = await self._batches.open(batch)
                if there.idempotency != batch.idempotency:
                    raise _key_reused()
                if not there.complete:
                    await self._insert(there, drafts)
        except StoreUnavailable:
            raise store_unavailable(_UNKNOWN) from None
        return AcceptedBatch(there.evolve(complete=True), replayed=there.id != batch.id)

    async def _known(self, batch: Batch) -> Batch | None:
        """What was begun under its key; raises `RequestRefused`, for another body too."""
        if batch.idempotency is None:
            return None
        try:
            known = await self._batches.find_by_key(batch.tenant, batch.idempotency.key)
        except StoreUnavailable:
            raise store_unavailable(_UNKNOWN) from None
        if known is not None and known.idempotency != batch.idempotency:
            raise _key_reused()
        return known

    @asynccontextmanager
    async def _places_of(
        self, batch: Batch, wanted: Mapping[Route, int], key: ApiKey | None, *, begun: bool
    ) -> AsyncIterator[None]:
        """Within it its jobs may be stored; raises `RequestRefused`, unless it was begun before.

        Without a key nothing is asked of a quota.
        """
        if begun:
            yield
            return
        async with self._open_jobs.room(key, batch.accepted):
            self._room.enter(wanted)
            yield

    async def _read(self, body: BatchBody, origin: Origin) -> tuple[dict[int, Job], Rejections]:
        """By its index, for each item: a job that is not yet of any batch, or why it cannot be."""
        drafts: dict[int, Job] = {}
        rejected, names, turns = Rejections(body.at), set[str](), Turns()
        for index, text in enumerate(body.items):
            try:
                drafts[index] = self._draft(text, origin, names)
            except RequestRefused as refused:
                if body.at and refused.code is ProblemCode.MALFORMED_JSON:
                    # What holds an item that is not JSON is not JSON itself.
                    raise malformed(f"{body.at}/{index}: {refused.detail}") from None
                rejected.add(index, refused)
            await turns.next()
        return drafts, rejected

    def _draft(self, text: bytes, origin: Origin, names: set[str]) -> Job:
        if len(text) > self._largest:
            detail = f"An item may have at most {self._largest} bytes."
            raise RequestRefused(ProblemCode.PAYLOAD_TOO_LARGE, detail)
        item = parse(BATCH_ITEM, text, tag="kind")
        job = self._builder.build(item, replace(origin, idempotency=None))
        if item.custom_id is not None:
            if item.custom_id in names:
                detail = "Another item of the batch has it"
                raise validation_error([InvalidPart(pointer="/custom_id", detail=detail)])
            names.add(item.custom_id)
        return job.evolve(custom_id=item.custom_id)

    async def _insert(self, batch: Batch, drafts: Mapping[int, Job]) -> None:
        jobs = [
            draft.evolve(id=item_id(batch, index), batch_id=batch.id)
            for index, draft in drafts.items()
        ]
        for some in _some(jobs):
            await self._jobs.insert(some)
            for job in some:
                if job.state is JobState.QUEUED:
                    self._pump.offer(JobRef.of(job))
        await self._batches.complete(batch.id)

    async def cancel(self, batch: Batch) -> None:
        """Stop all its jobs; a repeat is harmless."""
        open_ = frozenset(state for state in JobState if not state.terminal)
        query = JobQuery(tenant=batch.tenant, batch=batch.jobs, states=open_)
        async for ids in self._pages(query):
            await self._jobs.cancel_many(batch.tenant, ids)

    async def retry(self, query: JobQuery) -> int:
        """Run again what the query names and is terminal; how many.

        Each once: what fails again meanwhile is not found again.
        """
        if self._room.bounded:
            self._room.enter(await self._routes(query))
        return await self._retry(query)

    async def _routes(self, query: JobQuery) -> Counter[Route]:
        """How many jobs a query names, by queue."""
        routes: Counter[Route] = Counter()
        async for page in pages(self._jobs, query):
            routes.update((job.kind, job.lane) for job in page)
        return routes

    async def _retry(self, query: JobQuery) -> int:
        count = 0
        async for ids in self._pages(query):
            refs = await self._jobs.retry_many(query.tenant, ids)
            count += len(refs)
            for ref in refs:
                self._pump.offer(ref)
        return count

    async def named(self, query: JobQuery, limit: int) -> tuple[list[str], bool]:
        """The ids of the oldest jobs that a query names, and whether there are more than these."""
        ids: list[str] = []
        async for some in self._pages(query):
            ids += some
            if len(ids) > limit:
                return ids[:limit], True
        return ids, False

    async def replay(
        self, query: JobQuery, ids: Sequence[str], key: Idempotency | None, metadata: str
    ) -> AcceptedBatch:
        """Run these again, together; raises `RequestRefused`.

        A repeat under the same key runs again what the first one did not come to: those of its own
        jobs that the query still names.
        """
        batch = Batch(
            id=f"batch_{uuid7().hex}",
            tenant=query.tenant,
            created_at=self._clock(),
            total=len(ids),
            accepted=len(ids),
            metadata=metadata,
            members=tuple(ids),
            idempotency=key,
        )
        known = await self._known(batch)
        if known is not None and known.complete:
            return AcceptedBatch(known, replayed=True)
        try:
            wanted: Counter[Route] = Counter()
            if self._room.bounded:
                wanted = await self._routes(replace(query, batch=batch.jobs))
            async with self._places_of(batch, wanted, None, begun=known is not None):
                there = await self._batches.open(batch)
                if there.idempotency != key:
                    raise _key_reused()
                if not there.complete:
                    await self._retry(replace(query, batch=there.jobs))
                    await self._batches.complete(there.id)
        except StoreUnavailable:
            raise store_unavailable(_UNKNOWN) from None
        return AcceptedBatch(there.evolve(complete=True), replayed=there.id != batch.id)

    async def _pages(self, query: JobQuery) -> AsyncIterator[Sequence[str]]:
        """The ids that a query names, in the order of their creation."""
        async for page in pages(self._jobs, query):
            yield [job.id for job in page]


async def pages(
    store: JobStore, query: JobQuery, together: int = TOGETHER
) -> AsyncIterator[Sequence[Job]]:
    """All jobs that a query names, the oldest first."""
    query = replace(query, oldest_first=True, limit=together)
    while page := await store.list(query):
        yield page
        query = replace(query, beyond=page[-1].id)


def _some(jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    return (jobs[start : start + TOGETHER] for start in range(0, len(jobs), TOGETHER))


def _key_reused() -> RequestRefused:
    return RequestRefused(
        ProblemCode.IDEMPOTENCY_KEY_REUSED,
        "This Idempotency-Key came before with another body; take a new key for a new batch.",
        errors=(InvalidPart(header="Idempotency-Key", detail="Used with another body"),),
    )
