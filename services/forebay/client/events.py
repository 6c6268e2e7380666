"""Following a job: its events, over connections that may break.

Theory of operation. Each event has an id, and a new connection says the last one it has
(`Last-Event-ID`), so that the service goes on behind it, at whichever of its replicas. What an
LLM wrote is put together on the way: a delta says how many characters come before it, and a reset
takes back what an earlier attempt wrote.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import ValidationError

from forebay.client.connection import Ask, Connection
from forebay.client.errors import ClientError, UnexpectedAnswer, Unreachable
from forebay.client.lines import lines
from forebay.client.patience import Patience
from forebay.client.views import Job

ENDS = frozenset({"job.succeeded", "job.failed", "job.canceled", "job.expired"})
SILENCE_S = 30.0
"""A comment comes when nothing else did for 15 s; so much more, and the connection is dead."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The job came to another state."""

    id: int
    type: str
    """`job.queued`, `job.running`, `job.retrying`, `job.succeeded` and so on."""
    job: Job
    """As it was when this was told, without its result."""


@dataclass(frozen=True, slots=True)
class Output:
    """The LLM wrote more."""

    id: int
    index: int
    """How many characters come before."""
    text: str


@dataclass(frozen=True, slots=True)
class Reset:
    """A new attempt began: what was written so far means nothing any more."""

    id: int


JobEvent = Moved | Output | Reset


@dataclass(slots=True)
class _Block:
    """The fields of one event, as they come."""

    id: str = ""
    event: str = ""
    data: str = ""

    def feed(self, line: bytes) -> None:
        name, _, value = line.decode().partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                self.id = value
            case "event":
                self.event = value
            case "data":
                self.data += f"\n{value}" if self.data else value
            case _:  # a comment, `retry`, or what comes with a later version
                pass


class JobStream:
    """The events of a job, until its end; `async for`, and `async with` if you may leave early.

    Attributes:
        text: what the LLM has written so far; at the end, byte for byte the text of the result.
        job: the job as it was told last.

    Raises `ClientError` while it is iterated.
    """

    def __init__(self, connection: Connection, path: str) -> None:
        self.job: Job | None = None
        self._connection = connection
        self._path = path
        self._last_id = 0
        self._written: list[str] = []
        self._length = 0
        self._events = self._follow()

    @property
    def text(self) -> str:
        """What the LLM has written so far."""
        self._written = ["".join(self._written)]
        return self._written[0]

    def __aiter__(self) -> AsyncIterator[JobEvent]:
        return self

    async def __anext__(self) -> JobEvent:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._events.aclose()

    async def _follow(self) -> AsyncGenerator[JobEvent, None]:
        patience = self._connection.patience()
        while True:
            try:
                async with self._connection.opened(self._ask()) as answer:
                    if answer.status_code == httpx.codes.NO_CONTENT:
                        return
                    async for block in self._blocks(answer, patience):
                        event = self._taken(block)
                        if event is not None:
                            yield event
                        if block.event in ENDS:
                            return
                trouble: ClientError = Unreachable(f"{self._path} ended before the job did")
            except ClientError as broken:
                trouble = broken
            await patience.pause(trouble)

    def _ask(self) -> Ask:
        headers = {"Accept": "text/event-stream"}
        if self._last_id:
            headers["Last-Event-ID"] = str(self._last_id)
        return Ask("GET", self._path, headers=headers, read_s=SILENCE_S)

    async def _blocks(self, answer: httpx.Response, patience: Patience) -> AsyncIterator[_Block]:
        block = _Block()
        async for line in lines(self._connection.pieces(answer)):
            # A comment is a sign of life too; the `retry` that opens a stream is none.
            if block.event or line.startswith(b":"):
                patience.renew()
            if line:
                block.feed(line)
            else:
                if block.event:
                    yield block
                block = _Block()

    def _taken(self, block: _Block) -> JobEvent | None:
        """The event, None for one of a kind that a later version has; raises `UnexpectedAnswer`."""
        try:
            event = self._understood(int(block.id), block.event, json.loads(block.data))
        except (ValueError, KeyError, TypeError, ValidationError):
            raise UnexpectedAnswer(f"an event of {self._path} cannot be read") from None
        self._last_id = int(block.id)
        return event

    def _understood(self, id_: int, type_: str, data: Any) -> JobEvent | None:
        match type_:
            case "job.output.delta":
                index, text = int(data["index"]), str(data["delta"])
                if index != self._length:
                    raise ValueError("a piece is missing, or came twice")
                self._written.append(text)
                self._length += len(text)
                return Output(id_, index, text)
            case "job.output.reset":
                self._written, self._length = [], 0
                return Reset(id_)
            case _ if "state" in data:
                self.job = Job.model_validate(data)
                return Moved(id_, type_, self.job)
            case _:
                return None
