"""An observer of every step of every job: the store's change stream, judged as it comes.

    async with Observer(mongodb_url) as seen:
        ...                       # jobs are submitted, servers are killed
        await seen.caught_up()
        assert seen.breaches() == []

Theory of operation. An update's event names the fields that changed and not the document after it;
looked up, that would be a later one, and steps would be missed. So each document is built here from
its insert on, change by change, and every two versions in a row are judged by `paths`. The stream
gives what a majority has, in the order it was written, and goes on after the last event it gave:
a store that dies and comes back with its oplog hides nothing. What would hide something (a stream
that cannot go on, a job whose beginning was not seen) is a breach too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from pymongo import AsyncMongoClient
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import OperationFailure, PyMongoError

from forebay.audit.paths import Snapshot, birth_breaches, standing_breaches, step_breaches
from forebay.jobs import JobState
from forebay.store.documents import CODEC, from_document

Document = dict[str, Any]

DATABASE = "forebay"
JOBS, MARKS = "jobs", "observer_marks"
AGAIN_AFTER_S = 0.2
_LOST_FOR_GOOD = frozenset({260, 280, 286})
"""The server's codes for a place in the stream that it does not have any more."""
_WITHOUT = ["fullDocument.input", "updateDescription.updatedFields.input"]


@dataclass
class Observed:
    """The jobs as the events so far make them: pure, fed by `Observer`."""

    documents: dict[str, Document] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    found: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    steps: int = 0

    def take(self, event: Mapping[str, Any]) -> None:
        """Apply one event of the collection of jobs and judge the step it makes."""
        job_id = event["documentKey"]["_id"]
        match event["operationType"]:
            case "insert":
                self._born(job_id, dict(event["fullDocument"]))
            case "replace":
                self._moved(job_id, dict(event["fullDocument"]))
            case "update":
                self._changed(job_id, event["updateDescription"])
            case "delete":
                self._forgotten(job_id)

    def _born(self, job_id: str, document: Document) -> None:
        if job_id in self.documents:
            self.found[job_id].append("it was inserted a second time")
        self._keep(job_id, document)
        self.found_in(job_id, birth_breaches(self.snapshots[job_id]))
        self.found_in(job_id, standing_breaches(self.snapshots[job_id]))

    def _changed(self, job_id: str, change: Mapping[str, Any]) -> None:
        if job_id not in self.documents:
            self.found[job_id].append("its beginning was not seen")
            return
        document = self.documents[job_id]
        apply(document, change)
        self._moved(job_id, document)

    def _moved(self, job_id: str, document: Document) -> None:
        before = self.snapshots.get(job_id)
        self._keep(job_id, document)
        after = self.snapshots[job_id]
        self.steps += 1
        if before is None:
            self.found[job_id].append("its beginning was not seen")
        elif before != after:
            self.found_in(job_id, step_breaches(before, after))
            self.found_in(job_id, standing_breaches(after))

    def _forgotten(self, job_id: str) -> None:
        last = self.snapshots.pop(job_id, None)
        self.documents.pop(job_id, None)
        if last is not None and not last.state.terminal:
            self.found[job_id].append(f"it was removed while {last.state}")

    def _keep(self, job_id: str, document: Document) -> None:
        result = document.get("result")
        if isinstance(result, str) and len(result) > 64:
            # Only whether two differ is asked, and there are many.
            document["result"] = hashlib.sha256(result.encode()).hexdigest()
        self.documents[job_id] = document
        self.snapshots[job_id] = Snapshot.of(from_document(document))

    def found_in(self, job_id: str, breaches: Iterable[str]) -> None:
        """Note them."""
        if said := [*breaches]:
            self.found[job_id] += said


def apply(document: Document, change: Mapping[str, Any]) -> None:
    """Change a document as an update's event says it was changed."""
    for path in change.get("removedFields") or ():
        holder, name = _place(document, path)
        holder.pop(name, None)
    for cut in change.get("truncatedArrays") or ():
        holder, name = _place(document, cut["field"])
        del holder[name][cut["newSize"] :]
    for path, value in (change.get("updatedFields") or {}).items():
        holder, name = _place(document, path)
        if isinstance(holder, list) and name == len(holder):
            holder.append(value)
        else:
            holder[name] = value


def _place(document: Document, path: str) -> tuple[Any, Any]:
    """Where a dotted path leads: the value it is in, and its name or number there."""
    *way, last = path.split(".")
    holder: Any = document
    for part in way:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    return holder, int(last) if isinstance(holder, list) else last


class Observer:
    """Entered means it sees everything from now on; leaving ends it.

    Args:
        url: of the store; the same one after a restart.
        database: whose jobs are watched.
    """

    def __init__(self, url: str, database: str = DATABASE) -> None:
        self._client: AsyncMongoClient[Document] = AsyncMongoClient(
            url, serverSelectionTimeoutMS=2000, connectTimeoutMS=2000
        )
        self._database = self._client.get_database(database, codec_options=CODEC)
        self._observed = Observed()
        self._after: Mapping[str, Any] | None = None
        self._marks: dict[str, asyncio.Event] = {}
        self._blind: str | None = None
        self._task: asyncio.Task[None]

    @property
    def jobs(self) -> Counter[JobState]:
        """How many jobs are in each state, as far as was seen."""
        return Counter(snapshot.state for snapshot in self._observed.snapshots.values())

    @property
    def steps(self) -> int:
        """How many changes of jobs were judged."""
        return self._observed.steps

    def breaches(self) -> list[str]:
        """Everything that was seen and may not be, each with its job's id."""
        found = self._observed.found.items()
        seen = [f"{job_id}: {breach}" for job_id, breaches in found for breach in breaches]
        return seen if self._blind is None else [f"the observer: {self._blind}", *seen]

    async def caught_up(self, within_s: float = 30.0) -> None:
        """Return when everything written until now was judged; raises `TimeoutError`.

        Returns at once when the stream is lost for good; `breaches` says so.
        """
        mark = uuid.uuid4().hex
        come = self._marks[mark] = asyncio.Event()
        waiting = asyncio.create_task(come.wait())
        async with asyncio.timeout(within_s):
            await self._leave_mark(mark)
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

    async def _leave_mark(self, mark: str) -> None:
        while True:
            with contextlib.suppress(PyMongoError):
                key = {"_id": mark}
                await self._database[MARKS].replace_one(key, key, upsert=True)
                return
            await asyncio.sleep(AGAIN_AFTER_S)

    async def __aenter__(self) -> Self:
        stream = await self._open()
        self._after = stream.resume_token
        assert self._after is not None, "a place to go on from, before there is any event"
        self._task = asyncio.create_task(self._watch(stream), name="observer")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._client.close()

    async def _open(self) -> AsyncChangeStream[Document]:
        watched = {"$match": {"ns.coll": {"$in": [JOBS, MARKS]}}}
        return await self._database.watch(
            [watched, {"$unset": _WITHOUT}], resume_after=self._after, max_await_time_ms=500
        )

    async def _watch(self, stream: AsyncChangeStream[Document] | None) -> None:
        while True:
            try:
                stream = stream or await self._open()
                async with stream:
                    async for event in stream:
                        self._take(event)
                        self._after = event["_id"]
            except OperationFailure as failure:
                if failure.code in _LOST_FOR_GOOD:
                    self._blind = f"the stream cannot go on: {failure.details}"
                    return
            except PyMongoError:
                pass  # it is away, and will be back
            except Exception as defect:  # noqa: BLE001  it must not be taken for silence
                self._blind = f"an event could not be read: {defect!r}"
                return
            stream = None
            await asyncio.sleep(AGAIN_AFTER_S)

    def _take(self, event: Mapping[str, Any]) -> None:
        match event:
            case {"ns": {"coll": "observer_marks"}, "documentKey": {"_id": mark}}:
                if (come := self._marks.pop(mark, None)) is not None:
                    come.set()
            case {"ns": {"coll": "jobs"}}:
                self._observed.take(event)
            case _:
                pass
