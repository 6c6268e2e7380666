"""The names of everything that is logged: one name, one meaning, listed in docs/events.md.

Lines carry ids, sizes and codes, never prompts, bodies, results or credentials.
"""

from __future__ import annotations

from enum import StrEnum


class LogEvent(StrEnum):
    """The first word of every log line."""

    PROCESS_STARTED = "process.started"
    """A process begins, with its version; it has read no setting of its own yet."""
    DRAINED = "process.drained"
    """What became of the work in hand: finished, aborted, given back."""
    PROCESS_STOPPING = "process.stopping"
    """A stop signal arrived; draining begins."""
    PROCESS_STOPPED = "process.stopped"
    """Everything is closed; the process exits 0."""
    BROKER_CONNECTED = "broker.connected"
    """A connection to RabbitMQ is up; `use` says what for."""
    BROKER_LOST = "broker.lost"
    """A connection or channel to RabbitMQ ended; another is made."""
    BROKER_BLOCKED = "broker.blocked"
    """RabbitMQ blocks publishers (memory or disk alarm)."""
    BROKER_UNBLOCKED = "broker.unblocked"
    """RabbitMQ takes messages again."""
    PUBLISH_FAILED = "publish.failed"
    """Messages were not confirmed; the relay publishes them later."""
    CONSUMER_REBUILT = "consumer.rebuilt"
    """The watchdog found a deaf consumer and made a new one."""
    SETTLE_LOST = "settle.lost"
    """An ack could not be sent; the broker delivers again and the claim absorbs it."""
    MESSAGE_DEAD = "message.dead"
    """A message went to the dead queue, with the reason."""
    CLAIM_REFUSED = "claim.refused"
    """A delivery was settled without a call, with the reason."""
    ATTEMPT_ENDED = "attempt.ended"
    """One attempt is over, with its outcome and times."""
    LEASE_LOST = "lease.lost"
    """The lease was gone at a renewal or at the end; the result was discarded."""
    HANDLER_CRASHED = "handler.crashed"
    """A handler raised: a defect of ours."""
    STORE_RETRIED = "store.retried"
    """The store did not answer; the same write is tried again."""
    LOOP_FAILED = "loop.failed"
    """One turn of a named loop failed; the next turn comes."""
    RELAY_PUBLISHED = "relay.published"
    """The relay published what was due, or what nobody had confirmed."""
    RESCUED = "rescuer.rescued"
    """Jobs whose lease ran out were taken back."""
    EXPIRED = "rescuer.expired"
    """Waiting jobs whose time limit passed were expired."""
    REQUEST_FAILED = "request.failed"
    """An HTTP request ended in a defect of ours."""
    OPEN_MODE = "ingress.open_mode"
    """No API key is asked for; allowed on loopback only."""
