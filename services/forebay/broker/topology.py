"""What is in RabbitMQ: the vhost, exchanges, queues, bindings, policies and users, as values.

Theory of operation. Nothing here talks to a broker: `forebay.broker.management` compares these
values with a broker and mends the difference, and the services only ever declare passively. A
queue has one argument, its type; everything that may have to change later (limits, dead letters)
is a policy, because a policy can be changed under a running queue and an argument cannot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay.jobs import JobKind, Lane

VHOST = "forebay"
JOBS_EXCHANGE = "forebay.jobs"
DEAD_EXCHANGE = "forebay.dead"
LIVE_EXCHANGE = "forebay.live"
"""What workers tell to every ingress: see `forebay.broker.live`."""
ASKS_EXCHANGE = "forebay.asks"
"""What every worker is asked to tell."""
HEARD = "forebay.heard"
"""Begins the name of a process's own queue for them."""

DELIVERY_LIMIT = 20
"""Deliveries of one message before it is taken for one that kills its workers. RabbitMQ 4 has the
same default; it is well above the attempts a job gets, which the store counts."""
MOST_WAITING = 1_000_000
"""Messages in one job queue; more are refused, stay in the store and are published later."""
MOST_DEAD = 100_000
"""Messages in one dead queue; the oldest goes first."""
DEAD_KEPT_MS = 7 * 24 * 3600 * 1000
"""How long a dead message is kept, in milliseconds: a week for an operator to look at it."""


def routing_key(kind: JobKind, lane: Lane) -> str:
    """The key of a job's message: `<kind>.<lane>`."""
    return f"{kind}.{lane}"


def queue_name(kind: JobKind, lane: Lane) -> str:
    """The queue of one kind and lane."""
    return f"forebay.{kind}.{lane}"


def dead_queue_name(kind: JobKind) -> str:
    """The queue of what could not be processed."""
    return f"forebay.dead.{kind}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str = "direct"


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue: it survives the loss of a node and of a process."""

    name: str
    type: str = "quorum"


@dataclass(frozen=True, slots=True)
class Binding:
    """What an exchange passes to a queue."""

    exchange: str
    queue: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits for the queues whose name matches; the name is read in the management UI."""

    name: str
    pattern: str
    definition: Mapping[str, str | int]
    priority: int = 10


@dataclass(frozen=True, slots=True)
class User:
    """A role: what it may configure, write and read in the vhost, as RabbitMQ's expressions."""

    name: str
    role: str
    write: str = "^$"
    read: str = "^$"
    configure: str = "^$"
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Topology:
    """Everything that must be in the broker before a service can work."""

    vhost: str = VHOST
    description: str = (
        "Forebay: jobs that can run now, one queue per kind and lane. "
        "Disposable: the jobs themselves are in MongoDB."
    )
    exchanges: tuple[Exchange, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()
    policies: tuple[Policy, ...] = ()
    users: tuple[User, ...] = field(default=())


def forebay_topology(vhost: str = VHOST) -> Topology:
    """The topology of this version, in a vhost."""
    return Topology(
        vhost=vhost,
        exchanges=(
            Exchange(JOBS_EXCHANGE),
            Exchange(DEAD_EXCHANGE),
            Exchange(LIVE_EXCHANGE, "fanout"),
            Exchange(ASKS_EXCHANGE, "fanout"),
        ),
        queues=_queues(),
        bindings=_bindings(),
        policies=_policies(),
        users=_users(),
    )


def _queues() -> tuple[Queue, ...]:
    jobs = tuple(Queue(queue_name(kind, lane)) for kind in JobKind for lane in Lane)
    return jobs + tuple(Queue(dead_queue_name(kind)) for kind in JobKind)


def _bindings() -> tuple[Binding, ...]:
    """A dead message keeps its routing key, so that an operator sees the lane it came from."""
    return tuple(
        binding
        for kind in JobKind
        for lane in Lane
        for binding in (
            Binding(JOBS_EXCHANGE, queue_name(kind, lane), routing_key(kind, lane)),
            Binding(DEAD_EXCHANGE, dead_queue_name(kind), routing_key(kind, lane)),
        )
    )


def _policies() -> tuple[Policy, ...]:
    kinds = "|".join(re.escape(kind) for kind in JobKind)
    return (
        Policy(
            "jobs: refuse when full, dead-letter what keeps crashing its worker",
            rf"^forebay\.({kinds})\.",
            {
                "delivery-limit": DELIVERY_LIMIT,
                "dead-letter-exchange": DEAD_EXCHANGE,
                # At least once needs reject-publish: a queue that drops its head could not keep
                # a message until the dead queue has it.
                "dead-letter-strategy": "at-least-once",
                "overflow": "reject-publish",
                "max-length": MOST_WAITING,
            },
        ),
        Policy(
            "dead: keep for a week, drop the oldest when full",
            r"^forebay\.dead\.",
            {"overflow": "drop-head", "max-length": MOST_DEAD, "message-ttl": DEAD_KEPT_MS},
        ),
    )


def _users() -> tuple[User, ...]:
    kinds = "|".join(re.escape(kind) for kind in JobKind)
    jobs, dead = re.escape(JOBS_EXCHANGE), re.escape(DEAD_EXCHANGE)
    live, asks = re.escape(LIVE_EXCHANGE), re.escape(ASKS_EXCHANGE)
    own = rf"{re.escape(HEARD)}\.[0-9a-f]+"
    # To bind its own queue a user needs to write to the queue and to read the exchange.
    return (
        User(
            "forebay-ingress",
            "ingress",
            write=f"^({jobs}|{asks}|{live}|{own})$",
            read=f"^({live}|{own})$",
            configure=f"^{own}$",
        ),
        User("forebay-reconciler", "reconciler", write=f"^({jobs}|{dead})$"),
        User(
            "forebay-worker",
            "worker",
            write=f"^({dead}|{live}|{own})$",
            read=rf"^(forebay\.({kinds})\..*|{asks}|{own})$",
            configure=f"^{own}$",
        ),
        User("forebay-monitor", "monitor", read=r"^forebay\..*$", tags=("monitoring",)),
    )
