"""The way from a process to the servers: where operations are delayed, lost and orphaned.

An operation that was sent is the server's: it takes effect in the server's own step, whatever has
become of the process that sent it, and its answer is for a process that may be gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from forebay.broker import (
    DeadLetter,
    DeadReason,
    Delivery,
    JobMessage,
    Malformed,
    NotPublished,
    Receive,
)
from forebay.errors import StoreUnavailable
from forebay.jobs import JobKind, Lane
from forebay.testing.broker import FakeConsumer

from .fates import Fate
from .letters import Letter
from .virtual_loop import SimProcess

if TYPE_CHECKING:
    from .world import World

STORE_GIVES_UP_S = 2.5
"""How long a process waits for the store, as in production."""
BROKER_GIVES_UP_S = 5.0
DEADLY = {Fate.DIES_BEFORE, Fate.DIES_AFTER}
CLAIM: ContextVar[tuple[str, str]] = ContextVar("claim")
"""Job and token of the execution that runs in this task."""
UNHEARD = {Fate.LOST, Fate.UNANSWERED, Fate.PARTIAL, Fate.LATE, Fate.DIES_AFTER}


async def nothing() -> None:
    """Wait for what never comes: the process is dead."""
    await asyncio.get_running_loop().create_future()


def at_once(coroutine: Any) -> Any:
    """The result of an operation of the store in memory, which is one step."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the store in memory must do its work in one step")


class Wire:
    """What both ways have in common."""

    def __init__(self, world: World, process: SimProcess) -> None:
        self.world = world
        self.process = process
        self.cut = False
        """Nothing goes through."""

    async def send(
        self, effect: Callable[[], Any], fate: Fate, gives_up_s: float, failure: Any
    ) -> Any:
        """Let `effect` happen at the server; its answer, or `failure()` when none comes in time."""
        loop, fates = self.world.loop, self.world.fates
        if self.process.dead or self.world.closed:
            await nothing()
        if fate is Fate.DIES_BEFORE:
            self.world.kill(self.process)
            await nothing()
        answer = loop.create_future()
        fails_s = fates.fails_s(gives_up_s) if fate in UNHEARD else gives_up_s
        there_s, back_s = fates.travel_s(fate), fates.travel_s(fate)
        if fate is Fate.LATE:
            there_s = fails_s + fates.late_s()
        if fate is not Fate.LOST:
            arrive = partial(self._arrive, effect, None if fate in UNHEARD else answer, back_s)
            loop.call_later(there_s, arrive, context=self.world.context)
        if fate is Fate.DIES_AFTER:
            self.world.kill(self.process)
            await nothing()
        giving_up = loop.call_later(
            fails_s, self._answer, answer, failure, context=self.world.context
        )
        try:
            return await answer
        finally:
            giving_up.cancel()

    def _arrive(
        self, effect: Callable[[], Any], answer: asyncio.Future[Any] | None, back_s: float
    ) -> None:
        """In the server's step."""
        if self.world.closed:
            return
        said = _attempt(effect)
        if answer is not None:
            later = self.world.loop.call_later
            later(back_s, self._answer, answer, lambda: said, context=self.world.context)

    def _answer(self, answer: asyncio.Future[Any], what: Callable[[], Any]) -> None:
        if answer.done():
            return
        said = what()
        if isinstance(said, BaseException):
            answer.set_exception(said)
        else:
            answer.set_result(said)


def _attempt(effect: Callable[[], Any]) -> Any:
    try:
        return effect()
    except Exception as refused:  # noqa: BLE001  an answer of the server too
        return refused


class StoreWire(Wire):
    """A `JobStore` as one process has it: every method goes over the wire."""

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.world.store, name)

        async def over_the_wire(*args: Any, **kwargs: Any) -> Any:
            return await self._ask(name, operation, args, kwargs)

        # Found without asking the next time.
        setattr(self, name, over_the_wire)
        return over_the_wire

    async def _ask(self, name: str, operation: Any, args: Any, kwargs: Any) -> Any:
        fate = self.world.fates.draw("store")
        if (self.cut or self.world.store_away) and fate not in DEADLY:
            fate = Fate.LOST
        if fate is Fate.PARTIAL:
            args = self._some(name, args)
        if name == "claim":
            CLAIM.set((args[0].id, args[3] if len(args) > 3 else ""))
        said = "" if fate is Fate.FINE else f" {fate}"
        self.world.note(f"{self.process.name} {name}{said}")
        answer = await self.send(
            lambda: at_once(operation(*args, **kwargs)), fate, STORE_GIVES_UP_S, StoreUnavailable
        )
        for letter in _letters_due(name, args, answer):
            self.world.letters.owe(letter, self.process)
        return answer

    def _some(self, name: str, args: Any) -> Any:
        if name in {"insert", "mark_published"}:
            items = args[0]
            return ([items[n] for n in self.world.fates.some(len(items))],)
        if name in {"queue_due", "rescue", "expire"}:
            return (1,)
        return args


def _letters_due(name: str, args: Any, answer: Any) -> Iterator[Letter]:
    """The letters that whoever hears this answer has to send."""
    if name == "rescue":
        for rescue in answer:
            if rescue.dead_lettered:
                yield rescue.ref.id, rescue.ref.generation
    elif name == "finish" and answer is not None:
        job_id, _, ending = args
        if ending.dead_lettered:
            yield job_id, ending.attempt.generation


class PublisherWire(Wire):
    """The `Publisher` and the `Queues` of one process."""

    async def publish(self, messages: Sequence[JobMessage]) -> Sequence[NotPublished | None]:
        """See `Publisher.publish`."""
        world = self.world
        fate = world.fates.draw("broker")
        if self.cut and fate not in DEADLY:
            fate = Fate.LOST
        taken = range(len(messages))
        if fate is Fate.PARTIAL:
            taken = world.fates.some(len(messages))
        names = " ".join(world.name_of(message.job_id) for message in messages)
        world.note(f"{self.process.name} publish {names}{'' if fate is Fate.FINE else f' {fate}'}")
        wanted = [messages[n] for n in taken]
        why = NotPublished.UNAVAILABLE if fate is Fate.LOST else NotPublished.TIMEOUT
        outcomes: Any = await self.send(
            lambda: [world.accept(message) for message in wanted],
            fate,
            BROKER_GIVES_UP_S,
            lambda: [why] * len(messages),
        )
        return outcomes

    async def bury(self, letters: Sequence[DeadLetter]) -> Sequence[NotPublished | None]:
        """See `DeadLetters.bury`."""
        if not letters:
            return []
        fate = self.world.fates.draw("broker")
        if self.cut and fate not in DEADLY:
            fate = Fate.LOST
        self.world.letters.send((one.message.job_id, one.message.generation) for one in letters)
        there = self.world.broker.publisher()
        outcomes: Any = await self.send(
            lambda: [there._bury(letter) for letter in letters],
            fate,
            BROKER_GIVES_UP_S,
            lambda: [NotPublished.TIMEOUT] * len(letters),
        )
        return outcomes

    async def waiting(self, kind: JobKind, lane: Lane) -> int | None:
        """See `Queues.waiting`."""
        fate = self.world.fates.draw("broker")
        if self.cut and fate not in DEADLY:
            fate = Fate.LOST
        broker = self.world.broker
        count: int | None = await self.send(
            lambda: broker.waiting(kind, lane) if broker.up else None,
            fate,
            BROKER_GIVES_UP_S,
            lambda: None,
        )
        return count


class ConsumerWire(Wire):
    """The `Consumer` of one worker."""

    def __init__(self, world: World, process: SimProcess, consumer: FakeConsumer) -> None:
        super().__init__(world, process)
        self.consumer = consumer

    @property
    def lacking(self) -> str | None:
        """See `Consumer.lacking`."""
        return self.consumer.lacking

    async def run(self, receive: Receive) -> None:
        """See `Consumer.run`; each delivery is a step of the worker, not of the broker."""

        def deliver(delivery: Any) -> None:
            over_here = DeliveryWire(self.world, self.process, delivery)
            self.world.loop.call_soon(receive, over_here, context=self.process.context)

        await self.consumer.run(deliver)

    async def stop(self) -> None:
        """See `Consumer.stop`."""
        await self.consumer.stop()

    async def close(self) -> None:
        """See `Consumer.close`."""
        if self.world.closed:
            return
        await self.consumer.close()


class DeliveryWire(Wire):
    """A `Delivery` in the hands of one worker. Its settles never fail, they only may not arrive."""

    def __init__(self, world: World, process: SimProcess, delivery: Delivery) -> None:
        super().__init__(world, process)
        self._delivery = delivery

    @property
    def message(self) -> JobMessage | Malformed:
        """See `Delivery.message`."""
        return self._delivery.message

    @property
    def lane(self) -> Lane:
        """See `Delivery.lane`."""
        return self._delivery.lane

    @property
    def redelivered(self) -> bool:
        """See `Delivery.redelivered`."""
        return self._delivery.redelivered

    async def ack(self) -> None:
        """See `Delivery.ack`."""
        await self._settle("ack", self._delivery.ack)

    async def give_back(self) -> None:
        """See `Delivery.give_back`."""
        await self._settle("give back", self._delivery.give_back)

    async def dead_letter(self, reason: DeadReason, detail: str) -> None:
        """See `Delivery.dead_letter`."""
        message = self.message
        if reason is DeadReason.ATTEMPTS_EXHAUSTED and isinstance(message, JobMessage):
            self.world.letters.send([(message.job_id, message.generation)])
        await self._settle(
            f"dead letter, {reason}", partial(self._delivery.dead_letter, reason, detail)
        )

    async def _settle(self, how: str, settle: Callable[[], Any]) -> None:
        world = self.world
        if self.process.dead or world.closed:
            await nothing()
        self._judge()
        fate = world.fates.draw("settle")
        world.note(f"{self.process.name} {how}{'' if fate is Fate.FINE else f' {fate}'}")
        if fate is Fate.DIES_BEFORE:
            world.kill(self.process)
            await nothing()
        if fate in {Fate.LOST, Fate.PARTIAL}:
            # A settle is lost with its connection, and with it all that it carried.
            world.cut_off(self.process)
        settling = world.spawn(self._settle_there(settle, world.fates.travel_s(fate)), "settle")
        if fate is Fate.DIES_AFTER:
            world.kill(self.process)
            await nothing()
        await asyncio.shield(settling)

    def _judge(self) -> None:
        """Settling is last: the attempt must have been ended."""
        job_id, token = CLAIM.get(("", ""))
        job = self.world.store.look(job_id)
        held = job is not None and job.lease is not None and job.lease.token == token
        if held and not self.world.store.ended(job_id, token):
            self.world.violate(f"{self.world.name_of(job_id)} was settled before its attempt ended")

    async def _settle_there(self, settle: Callable[[], Any], after_s: float) -> None:
        await asyncio.sleep(after_s)
        if not self.world.closed:
            await settle()
