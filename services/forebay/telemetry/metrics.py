"""Every metric of Forebay, in one registry per process, by Prometheus' naming rules."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
# From a millisecond to minutes: accepts are fast, providers are slow.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The metrics of one process. Handed on through constructors; tests make their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._count_accepts(self.registry)
        self._count_messages(self.registry)
        self._count_attempts(self.registry)
        self._count_loops(self.registry)

    def begin_worker(self, kind: str) -> None:
        """Show at 0 what alerts look at: Prometheus sees no increase from nothing to 1."""
        self.settled.labels(kind, "dead_letter")
        self.consumer_rebuilds.labels(kind)
        self.leases_lost.labels(kind)
        self.attempts.labels(kind, "failed", "provider_auth")

    def begin_reconciler(self) -> None:
        """The same for the reconciler."""
        for state in ("queued", "failed", "canceled"):
            self.rescued.labels(state)
        for reason in ("due", "unpublished", "lost"):
            self.relayed.labels(reason)

    def _count_accepts(self, registry: CollectorRegistry) -> None:
        self.accepted = Counter(
            "forebay_jobs_accepted", "Jobs answered 202.", ["kind", "lane"], registry=registry
        )
        self.accept_seconds = Histogram(
            "forebay_accept_seconds",
            "From the request's arrival to the store's commit.",
            buckets=SECONDS,
            registry=registry,
        )
        self.problems = Counter(
            "forebay_problems", "Requests answered with a problem.", ["code"], registry=registry
        )

        self.connections_cut = Counter(
            "forebay_connections_cut",
            "Callers' connections ended by us: slow head, slow body, slow reader, gave way, full.",
            ["why"],
            registry=registry,
        )

    def _count_messages(self, registry: CollectorRegistry) -> None:
        self.published = Counter(
            "forebay_messages_published",
            "Messages by what became of them: confirmed, or why not.",
            ["outcome"],
            registry=registry,
        )
        self.settled = Counter(
            "forebay_deliveries_settled",
            "Deliveries by how they were settled: ack, give_back, dead_letter, lost.",
            ["kind", "how"],
            registry=registry,
        )
        self.consumer_rebuilds = Counter(
            "forebay_consumer_rebuilds", "Deaf consumers replaced.", ["kind"], registry=registry
        )
        self.broker_connected = Gauge(
            "forebay_broker_connected", "1 while connected.", ["use"], registry=registry
        )
        self.broker_blocked = Gauge(
            "forebay_broker_blocked", "1 while the broker blocks publishers.", registry=registry
        )

    def _count_attempts(self, registry: CollectorRegistry) -> None:
        self.in_flight = Gauge(
            "forebay_calls_in_flight", "Provider calls running now.", ["kind"], registry=registry
        )
        self.attempts = Counter(
            "forebay_attempts",
            "Attempts by outcome.",
            ["kind", "outcome", "code"],
            registry=registry,
        )
        self.refused = Counter(
            "forebay_claims_refused",
            "Claims refused, by reason.",
            ["kind", "reason"],
            registry=registry,
        )
        self.queue_wait_seconds = Histogram(
            "forebay_queue_wait_seconds",
            "From queued to claimed.",
            ["kind", "lane"],
            buckets=SECONDS,
            registry=registry,
        )
        self.provider_seconds = Histogram(
            "forebay_provider_seconds",
            "The provider call alone.",
            ["kind", "provider"],
            buckets=SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "forebay_tokens", "Tokens as the provider counted.", ["direction"], registry=registry
        )
        self.leases_lost = Counter(
            "forebay_leases_lost",
            "Leases that a living worker found gone.",
            ["kind"],
            registry=registry,
        )

    def _count_loops(self, registry: CollectorRegistry) -> None:
        self.loop_turns = Counter(
            "forebay_loop_turns", "Turns of a named loop.", ["loop", "outcome"], registry=registry
        )
        self.relayed = Counter(
            "forebay_relayed",
            "Messages published by the reconciler: due, unpublished, or lost by the broker.",
            ["reason"],
            registry=registry,
        )
        self.rescued = Counter(
            "forebay_rescued",
            "Jobs of dead or frozen workers taken back, by their state after.",
            ["state"],
            registry=registry,
        )
        self.pruned = Counter(
            "forebay_pruned",
            "Pieces of large results removed because no job points to them.",
            registry=registry,
        )
        self.jobs = Gauge(
            "forebay_jobs_open",
            "Open jobs in the store.",
            ["kind", "lane", "state"],
            registry=registry,
        )
        self.drain_rate = Gauge(
            "forebay_jobs_drain_rate",
            "Jobs that end in a second while there is always one to do; none: not known.",
            ["kind", "lane"],
            registry=registry,
        )
        self.oldest_seconds = Gauge(
            "forebay_jobs_oldest_seconds",
            "Age of the oldest open job.",
            ["kind", "lane", "state"],
            registry=registry,
        )

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
