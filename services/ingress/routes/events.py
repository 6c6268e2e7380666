"""Following a job: what happens to it, and what its provider writes, as it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

from fastapi import APIRouter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from forebay.errors import StoreUnavailable
from forebay.jobs import Job, JobKind, JobState
from forebay.progress import Moved, Output
from ingress.body import validation_error
from ingress.dependencies import Services, caller_of, services_of
from ingress.event_stream import HEARTBEAT, MEDIA_TYPE, EventStream, event
from ingress.following import EventType, Follower, Gap, Told
from ingress.gate import unauthenticated
from ingress.live import Ear
from ingress.problems import InvalidPart, ProblemCode, RequestRefused
from ingress.query import Nothing, read_query
from ingress.routes.described import JOB_ID, problems
from ingress.routes.direct import DirectRoute
from ingress.routes.found import find_job
from ingress.routes.submit import result_of
from ingress.views import render_event

router = APIRouter(route_class=DirectRoute, tags=["jobs"])

HEARTBEAT_S = 15.0
"""The longest silence on a stream; as often the store is looked at, and output asked for again."""
ASK_PAUSE_S = 0.2
"""From one ask to the next, when words were lost."""
AWAY_S = 5.0
"""From one look to the next, while the store does not answer."""
LAST_ID = "Last-Event-ID"
MOST_ID = 2**62
_LAST_ID = {
    "name": LAST_ID,
    "in": "header",
    "required": False,
    "description": "The `id` of the last event you have: the stream goes on after it.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,19}$"},
    "example": "4294967297",
}


_EVENT = {
    "type": "object",
    "description": "One event of the stream.",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]{1,19}$"},
        "event": {"type": "string", "enum": [str(type_) for type_ in EventType]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


@router.get(
    "/v1/jobs/{job_id}/events",
    summary="What happens to a job, as it happens",
    openapi_extra={"parameters": [*JOB_ID, _LAST_ID]},
    responses={
        200: {
            "description": (
                "Server-sent events: `job.queued`, `job.running`, `job.output.delta` with "
                "`{index, delta}`, `job.output.reset`, `job.retrying`, and one of `job.succeeded`, "
                "`job.failed`, `job.canceled`, `job.expired`, after which the stream ends. All "
                "deltas since the last reset together are the text of the result. A comment comes "
                "when nothing else did for 15 s."
            ),
            "content": {MEDIA_TYPE: {"schema": _EVENT}},
        },
        204: {"description": "You have the last event already; do not connect again."},
        **problems(404, 410, 422, 503),
    },
)
async def get_events(request: Request) -> Response:
    """From any replica, at any time; with `Last-Event-ID` from where you were."""
    read_query(request, Nothing)
    follower = Follower(_after(request))
    job = await find_job(request)
    services = services_of(request)
    first = await _look(services, follower, job)
    if job.done and not first:
        return Response(status_code=204)
    events = _Following(request, services, follower).events(job, first)
    return EventStream(events, services.places.taken(caller_of(request)))


def _after(request: Request) -> int:
    said = request.headers.get(LAST_ID, "0")
    if said.isascii() and said.isdigit() and len(said) <= len(str(MOST_ID)):
        after = int(said)
        if after < MOST_ID:
            return after
    detail = "Must be the `id` of an event of this stream"
    raise validation_error([InvalidPart(header=LAST_ID, detail=detail)])


async def _look(services: Services, follower: Follower, job: Job) -> list[bytes]:
    """What is new of the job as it is in the store."""
    text = ""
    if job.state is JobState.SUCCEEDED and job.kind is JobKind.LLM and not follower.ended(job):
        result = await result_of(services, job)
        if result is None:
            detail = "The job succeeded and what it wrote is kept no longer."
            raise RequestRefused(ProblemCode.EVENTS_EXPIRED, detail)
        # Not pydantic's parser, which refuses a lone surrogate: a provider may write one.
        text = json.loads(result).get("content") or ""
    return _written(follower.look(job, text), job)


def _written(told: Iterable[Told], job: Job) -> list[bytes]:
    return [_event(one, job) for one in told]


def _event(told: Told, job: Job) -> bytes:
    if told.type is EventType.OUTPUT:
        # Escaped: a text may hold what JSON can say and UTF-8 cannot.
        data = json.dumps({"index": told.index, "delta": told.text}).encode()
    elif told.type is EventType.RESET:
        data = to_json({"id": job.id})
    else:
        data = render_event(job)
    return event(told.id, told.type, data)


class _Following:
    """One caller's stream after its first look."""

    def __init__(self, request: Request, services: Services, follower: Follower) -> None:
        self._request = request
        self._services = services
        self._follower = follower

    async def events(self, job: Job, first: list[bytes]) -> AsyncIterator[bytes]:
        """What was new at first, and then all that happens; ends with the job or this process.

        Also where a new request would be refused now: that is what tells the caller why. While the
        store is away the stream stays, because a browser gives up for good when it is answered 503.
        """
        for one in first:
            yield one
        with self._services.hub.listening(job.id) as ear:
            while not job.done and not ear.closed:
                try:
                    job, new = await self._seen()
                except StoreUnavailable:
                    yield HEARTBEAT
                    await _pause(ear)
                    continue
                except RequestRefused:
                    return
                for one in new:
                    yield one
                if job.state is JobState.RUNNING and job.kind is JobKind.LLM:
                    self._services.hub.ask(job.id, self._follower.offset)
                if not job.done:
                    async for one in self._words(ear, job):
                        yield one

    async def _seen(self) -> tuple[Job, list[bytes]]:
        """The job as it is now and what is new of it, for a caller who may still know."""
        if not await self._services.gate.still(self._request):
            raise unauthenticated()
        job = await find_job(self._request)
        return job, await _look(self._services, self._follower, job)

    async def _words(self, ear: Ear, job: Job) -> AsyncIterator[bytes]:
        """What is said of the job until it is time to look at it again."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while (left_s := began + HEARTBEAT_S - clock()) > 0:
            word = await ear.next(left_s)
            if not isinstance(word, Output):
                break
            try:
                for one in _written(self._follower.hear(word), job):
                    yield one
            except Gap:
                # Words that were said before the ask is answered are not worth another one.
                if clock() - began > ASK_PAUSE_S:
                    return
        if not ear.closed and clock() - began >= HEARTBEAT_S:
            yield HEARTBEAT


async def _pause(ear: Ear) -> None:
    """Wait without telling what is heard: nobody can say now whether the key still lives.

    Whoever moved the job had an answer of the store: then it is worth a look.
    """
    clock = asyncio.get_running_loop().time
    ends = clock() + AWAY_S
    while not ear.closed and (left_s := ends - clock()) > 0:
        if isinstance(await ear.next(left_s), Moved):
            return
