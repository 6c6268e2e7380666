"""A broker in memory: the contract of `forebay.broker`, with knobs for its faults.

tests/contract/broker runs one suite over this and the real one. What it keeps of RabbitMQ:
messages are read through the real envelope code; a lane is first in, first out, and what comes
back goes to the head, marked redelivered; a message delivered too often goes to the dead queue by
itself; a cut connection gives back what was not settled and makes later settles void. What it does
not have: permissions, message age, and several members.
"""

from __future__ import annotations

import asyncio
import contextvars
import uuid
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from forebay.broker import DeadLetter, DeadReason, JobMessage, Malformed, NotPublished, Receive
from forebay.broker.envelope import Envelope, dead, read, seal
from forebay.broker.topology import DELIVERY_LIMIT, queue_name, routing_key
from forebay.jobs import JobKind, Lane

_Key = tuple[JobKind, Lane]


@dataclass(slots=True)
class _Stored:
    """A message in a queue, and how often it was delivered."""

    envelope: Envelope
    deliveries: int = 0


class FakeBroker:
    """The queues, and the knobs. Public attributes are the knobs; set them at any time."""

    def __init__(self, max_length: int | None = None) -> None:
        self.max_length = max_length
        """Messages in one queue; more are NACKED."""
        self.unbound: set[tuple[JobKind, Lane]] = set()
        """Where no queue is bound: RETURNED."""
        self.missing: set[tuple[JobKind, Lane]] = set()
        """Queues that are not there: publishing is RETURNED, and a consumer lacks them."""
        self.blocked = False
        """Publishers are BLOCKED; consumers and settles go on."""
        self.confirms_lost = False
        """Messages arrive and their confirms do not: TIMEOUT."""
        self.dead_letters_refused = False
        """Dead letters are not confirmed: what should be dead is given back."""
        self.delivery_limit = DELIVERY_LIMIT
        self._up = True
        self._queues: dict[_Key, deque[_Stored]] = {
            (kind, lane): deque() for kind in JobKind for lane in Lane
        }
        self._dead: dict[JobKind, list[Envelope]] = {kind: [] for kind in JobKind}
        self._consumers: list[FakeConsumer] = []

    @property
    def up(self) -> bool:
        """Whether it answers."""
        return self._up

    def publisher(self) -> FakePublisher:
        """A publisher into this broker."""
        return FakePublisher(self)

    def consumer(self, kind: JobKind, prefetch: int = 20) -> FakeConsumer:
        """A consumer of one kind; `prefetch` counts per lane."""
        consumer = FakeConsumer(self, kind, prefetch)
        self._consumers.append(consumer)
        return consumer

    def forget(self, consumer: FakeConsumer) -> None:
        """A consumer is gone for good; what it held goes back."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)
        consumer.lose_connection()
        self.pump()

    @property
    def held(self) -> int:
        """Messages in the hands of consumers."""
        return sum(consumer.holds for consumer in self._consumers)

    def stop(self) -> None:
        """Go down: every connection is cut, the queues stay."""
        self._up = False
        self.cut()

    def start(self) -> None:
        """Come back."""
        self._up = True
        self.pump()

    def cut(self) -> None:
        """Cut every connection; consumers come back at once if the broker is up."""
        for consumer in self._consumers:
            consumer.lose_connection()
        self.pump()

    def declare(self) -> None:
        """Make the queues that are missing."""
        self.missing.clear()
        self.pump()

    def put(self, kind: JobKind, lane: Lane, envelope: Envelope) -> None:
        """Put anything into a queue, past all checks: a foreign message, for instance."""
        self._queues[kind, lane].append(_Stored(envelope))
        self.pump()

    def purge(self) -> None:
        """Wipe every queue of jobs."""
        for queue in self._queues.values():
            queue.clear()

    def waiting(self, kind: JobKind, lane: Lane) -> int:
        """Messages ready in a queue."""
        return len(self._queues[kind, lane])

    def dead(self, kind: JobKind) -> tuple[Envelope, ...]:
        """The dead letters of a kind, with the reason in their headers."""
        return tuple(self._dead[kind])

    def accept(self, message: JobMessage) -> NotPublished | None:
        """Take a published message, or say why not."""
        key = (message.kind, message.lane)
        if not self._up:
            return NotPublished.UNAVAILABLE
        if self.blocked:
            return NotPublished.BLOCKED
        if key in self.unbound or key in self.missing:
            return NotPublished.RETURNED
        if self.max_length is not None and len(self._queues[key]) >= self.max_length:
            return NotPublished.NACKED
        self.put(*key, seal(message, uuid.uuid4().hex))
        return NotPublished.TIMEOUT if self.confirms_lost else None

    def take(self, kind: JobKind, lane: Lane) -> _Stored | None:
        """The next message of a queue, counted as delivered once more."""
        queue = self._queues[kind, lane]
        if not self._up or not queue or (kind, lane) in self.missing:
            return None
        stored = queue.popleft()
        stored.deliveries += 1
        return stored

    def return_(self, kind: JobKind, lane: Lane, stored: _Stored) -> None:
        """Take a message back; past the delivery limit it is dead."""
        if stored.deliveries > self.delivery_limit:
            self._dead[kind].append(stored.envelope)
        else:
            self._queues[kind, lane].appendleft(stored)
        self.pump()

    def bury(self, kind: JobKind, letter: Envelope) -> bool:
        """Take a dead letter; whether it is confirmed."""
        if self.dead_letters_refused or self.blocked or not self._up:
            return False
        self._dead[kind].append(letter)
        return True

    def pump(self) -> None:
        """Let the consumers receive, at the loop's next turn."""
        for consumer in self._consumers:
            consumer.wake()


class FakePublisher:
    """The `Publisher`, the `Queues` and the `DeadLetters` of the fake."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    async def publish(self, messages: Sequence[JobMessage]) -> Sequence[NotPublished | None]:
        """Publish all; the outcome is known at once, but other tasks get their turn."""
        await asyncio.sleep(0)
        return [self._broker.accept(message) for message in messages]

    async def bury(self, letters: Sequence[DeadLetter]) -> Sequence[NotPublished | None]:
        """Put each into the dead queue of its kind."""
        await asyncio.sleep(0)
        return [self._bury(letter) for letter in letters]

    def _bury(self, letter: DeadLetter) -> NotPublished | None:
        if not self._broker.up:
            return NotPublished.UNAVAILABLE
        if self._broker.blocked:
            return NotPublished.BLOCKED
        message = letter.message
        key = routing_key(message.kind, message.lane)
        envelope = dead(seal(message, uuid.uuid4().hex), key, letter.reason, letter.detail)
        buried = self._broker.bury(message.kind, envelope)
        return None if buried else NotPublished.RETURNED

    async def waiting(self, kind: JobKind, lane: Lane) -> int | None:
        """Messages ready; None while the broker is down."""
        return self._broker.waiting(kind, lane) if self._broker.up else None


class FakeConsumer:
    """The `Consumer` of the fake."""

    def __init__(self, broker: FakeBroker, kind: JobKind, prefetch: int) -> None:
        self.settled: Counter[str] = Counter()
        """Settles by what became of them: ack, give_back, dead_letter, lost."""
        self._broker = broker
        self._kind = kind
        self._prefetch = prefetch
        self._receive: Receive | None = None
        self._ended = asyncio.Event()
        self._connection = 0
        # Deliveries are the consumer's own steps, not those of whoever published.
        self._context = contextvars.copy_context()
        self._held: dict[Lane, list[FakeDelivery]] = {lane: [] for lane in Lane}

    @property
    def kind(self) -> JobKind:
        """The kind it consumes."""
        return self._kind

    @property
    def broker(self) -> FakeBroker:
        """Where it consumes."""
        return self._broker

    @property
    def connection(self) -> int:
        """Counts connections: what was delivered over an earlier one cannot be settled."""
        return self._connection

    @property
    def holds(self) -> int:
        """How many deliveries are not settled."""
        return sum(len(held) for held in self._held.values())

    @property
    def lacking(self) -> str | None:
        """Why not every lane is being consumed now; None when all are."""
        if not self._receiving:
            return "not consuming"
        missing = sorted(queue_name(*key) for key in self._broker.missing if key[0] is self._kind)
        return f"no queue {', '.join(missing)}; run `forebay topology apply`" if missing else None

    @property
    def _receiving(self) -> bool:
        return self._receive is not None and not self._ended.is_set() and self._broker.up

    async def run(self, receive: Receive) -> None:
        """Consume until `stop`."""
        self._receive = receive
        self.wake()
        await self._ended.wait()

    async def stop(self) -> None:
        """Receive nothing more."""
        self._ended.set()

    async def close(self) -> None:
        """Give back what is not settled."""
        self.vanish()

    def vanish(self) -> None:
        """Its process is gone: what is not settled goes back, and nothing is received any more."""
        self._ended.set()
        self._broker.forget(self)

    def wake(self) -> None:
        """Look for messages at the loop's next turn."""
        if self._receiving:
            asyncio.get_running_loop().call_soon(self._take, context=self._context)

    def _take(self) -> None:
        for lane, held in self._held.items():
            while self._receive and self._receiving and len(held) < self._prefetch:
                stored = self._broker.take(self._kind, lane)
                if stored is None:
                    break
                delivery = FakeDelivery(self, lane, stored)
                held.append(delivery)
                self._receive(delivery)

    def lose_connection(self) -> None:
        """What is held goes back to its queue, in its order."""
        self._connection += 1
        for lane, held in self._held.items():
            unsettled = held[::-1]
            held.clear()
            for delivery in unsettled:
                self._broker.return_(self._kind, lane, delivery.stored)

    def release(self, delivery: FakeDelivery, how: str) -> bool:
        """Settle one: whether its connection was still there to do so."""
        lost = delivery.connection != self._connection
        self.settled["lost" if lost else how] += 1
        if not lost:
            self._held[delivery.lane].remove(delivery)
            self.wake()
        return not lost


class FakeDelivery:
    """The `Delivery` of the fake."""

    def __init__(self, consumer: FakeConsumer, lane: Lane, stored: _Stored) -> None:
        self.stored = stored
        self.connection = consumer.connection
        self._consumer = consumer
        self._lane = lane
        self._redelivered = stored.deliveries > 1
        self._settled = False

    @property
    def message(self) -> JobMessage | Malformed:
        """What it says."""
        return read(self.stored.envelope, self._consumer.kind)

    @property
    def lane(self) -> Lane:
        """The lane of the queue it came from."""
        return self._lane

    @property
    def redelivered(self) -> bool:
        """Whether it was delivered before."""
        return self._redelivered

    async def ack(self) -> None:
        """Done with it."""
        if self._begin():
            self._consumer.release(self, "ack")

    async def give_back(self) -> None:
        """Back to the queue."""
        if self._begin() and self._consumer.release(self, "give_back"):
            self._return()

    async def dead_letter(self, reason: DeadReason, detail: str) -> None:
        """Into the dead queue, or back to the queue when that fails."""
        if not self._begin():
            return
        kind = self._consumer.kind
        letter = dead(self.stored.envelope, routing_key(kind, self._lane), reason, detail)
        await asyncio.sleep(0)
        if self._consumer.broker.bury(kind, letter):
            self._consumer.release(self, "dead_letter")
        elif self._consumer.release(self, "give_back"):
            self._return()

    def _return(self) -> None:
        self._consumer.broker.return_(self._consumer.kind, self._lane, self.stored)

    def _begin(self) -> bool:
        begun, self._settled = self._settled, True
        return not begun
