"""A job's message on the wire, pure: `seal` writes it, `read` reads it or says why it cannot.

    routing key     <kind>.<lane>
    type            forebay.job.v1
    message id      fresh for each publish
    correlation id  the job's id
    headers         x-attempt (for an operator's eye, never trusted), traceparent
    body            {"job_id": ..., "generation": ...}

Unknown fields of the body are passed over, so that a newer publisher can add one; a change of
meaning is a new type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forebay.broker import DeadReason, JobMessage, Malformed
from forebay.broker.topology import routing_key
from forebay.jobs import JobKind, Lane

TYPE = "forebay.job.v1"
CONTENT_TYPE = "application/json"
MAX_BODY_BYTES = 1024
MAX_DEAD_BODY_BYTES = 64 * 1024
"""What is kept of a message that was never ours, in bytes."""
_MAX_JOB_ID = 64
_MAX_DETAIL = 1000
_MAX_TRACEPARENT = 128
_KEYS = {routing_key(kind, lane): (kind, lane) for kind in JobKind for lane in Lane}

HeaderValue = str | int | float | bool | bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as AMQP carries it, without any of the library's types."""

    body: bytes
    routing_key: str
    type: str | None = None
    headers: Mapping[str, HeaderValue] = field(default_factory=dict)
    message_id: str | None = None
    correlation_id: str | None = None
    content_type: str | None = CONTENT_TYPE


def seal(message: JobMessage, message_id: str) -> Envelope:
    """The envelope of a job's message."""
    headers: dict[str, HeaderValue] = {"x-attempt": message.attempt}
    if message.traceparent is not None:
        headers["traceparent"] = message.traceparent
    return Envelope(
        body=json.dumps(
            {"job_id": message.job_id, "generation": message.generation}, separators=(",", ":")
        ).encode(),
        routing_key=routing_key(message.kind, message.lane),
        type=TYPE,
        headers=headers,
        message_id=message_id,
        correlation_id=message.job_id,
    )


def read(envelope: Envelope, kind: JobKind) -> JobMessage | Malformed:
    """What a message found in a queue of `kind` says."""
    if envelope.type != TYPE:
        return Malformed(f"type is {_shown(envelope.type)}, not '{TYPE}'")
    key = _KEYS.get(envelope.routing_key)
    if key is None:
        return Malformed(f"unknown routing key {_shown(envelope.routing_key)}")
    if key[0] is not kind:
        return Malformed(f"routing key {_shown(envelope.routing_key)} is not of kind '{kind}'")
    if len(envelope.body) > MAX_BODY_BYTES:
        return Malformed(f"body of {len(envelope.body)} bytes, at most {MAX_BODY_BYTES}")
    try:
        content = json.loads(envelope.body)
    except (ValueError, RecursionError):
        return Malformed("body is not JSON in UTF-8")
    return _read_body(content, envelope, *key)


def _read_body(
    content: Any, envelope: Envelope, kind: JobKind, lane: Lane
) -> JobMessage | Malformed:
    if not isinstance(content, dict):
        return Malformed("body is not a JSON object")
    job_id, generation = content.get("job_id"), content.get("generation")
    if not isinstance(job_id, str) or not 0 < len(job_id) <= _MAX_JOB_ID:
        return Malformed(f"job_id is not a text of 1 to {_MAX_JOB_ID} characters")
    if not isinstance(generation, int) or isinstance(generation, bool) or generation < 1:
        return Malformed("generation is not a whole number from 1")
    return JobMessage(
        job_id=job_id,
        generation=generation,
        kind=kind,
        lane=lane,
        attempt=_attempt(envelope.headers),
        traceparent=_traceparent(envelope.headers),
    )


def _attempt(headers: Mapping[str, HeaderValue]) -> int:
    value = headers.get("x-attempt")
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _traceparent(headers: Mapping[str, HeaderValue]) -> str | None:
    value = headers.get("traceparent")
    return value if isinstance(value, str) and len(value) <= _MAX_TRACEPARENT else None


def dead(original: Envelope, key: str, reason: DeadReason, detail: str) -> Envelope:
    """The envelope of a dead letter: the message as it came, and why it is dead.

    `key` is the routing key of the queue it came from; the message's own, which may be anything,
    goes into a header.
    """
    headers = {
        **original.headers,
        "x-forebay-reason": reason.value,
        "x-forebay-detail": detail[:_MAX_DETAIL],
        "x-forebay-routing-key": original.routing_key,
    }
    if len(original.body) > MAX_DEAD_BODY_BYTES:
        headers["x-forebay-truncated-from-bytes"] = len(original.body)
    return Envelope(
        body=original.body[:MAX_DEAD_BODY_BYTES],
        routing_key=key,
        type=original.type,
        headers=headers,
        correlation_id=original.correlation_id,
        content_type=original.content_type,
    )


def _shown(value: str | None) -> str:
    return "missing" if value is None else f"'{value[:80]}'"
