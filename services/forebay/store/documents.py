"""A job as a BSON document, and back.

`input`, `result` and `metadata` stay JSON text: one string each, never sub-documents. So nothing a
caller writes can be a key, an operator or a type to the database: `$ne`, dotted and empty keys,
NUL in a key, integers past 64 bits and `{"$ref": ...}` are all just characters, and what comes
back is what was sent, byte by byte (docs/decisions/0003).

A field that has no value is left out rather than stored as null: sparse and partial indexes then
cost nothing for it. Times are UTC with milliseconds, which is what BSON can hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any, TypeVar

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from pymongo.errors import DocumentTooLarge

from forebay.errors import ErrorCode, JobError, Unstorable
from forebay.jobs import (
    Attempt,
    Idempotency,
    Job,
    JobEnd,
    JobKind,
    JobState,
    Lane,
    Lease,
    OnUnknown,
    ProviderPreference,
    ResultRef,
    Usage,
    WebhookTarget,
)

Document = dict[str, Any]
Value = TypeVar("Value")

CODEC: CodecOptions[Mapping[str, Any]] = CodecOptions(tz_aware=True, tzinfo=UTC)
"""How documents are read: times come back aware, in UTC."""

UNENCODABLE = (BSONError, OverflowError, UnicodeError)
"""What the BSON encoder raises for a value it cannot write: a lone surrogate, NUL in a key, an
integer past 64 bits, a document past 16 MiB."""

MOST_BYTES = 16 * 1024 * 1024
"""MongoDB's limit of one document."""

_TIMES = (
    "not_before",
    "start_by",
    "deadline",
    "published_at",
    "created_at",
    "queued_at",
    "started_at",
    "finished_at",
    "expires_at",
)


def to_document(job: Job) -> Document:
    """The document of a job, field by field as design/lifecycle.md names them."""
    document: Document = {
        "_id": job.id,
        "tenant": job.tenant,
        "kind": job.kind.value,
        "lane": job.lane.value,
        "state": job.state.value,
        "generation": job.generation,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "rounds": job.rounds,
        "on_unknown": job.on_unknown.value,
        "input": job.input,
        "provider": {
            "order": list(job.provider.order),
            "allow_fallbacks": job.provider.allow_fallbacks,
        },
        "result_ttl_s": job.result_ttl_s,
        "tags": list(job.tags),
        "metadata": job.metadata,
        "history": [attempt_document(attempt) for attempt in job.history],
        "dead_lettered": job.dead_lettered,
        "lease": _of_slots(job.lease),
        "idempotency": _of_slots(job.idempotency),
        "batch_id": job.batch_id,
        "custom_id": job.custom_id,
        "key_id": job.key_id,
        "traceparent": job.traceparent,
        "webhook": _webhook_document(job.webhook),
        "notifies": job.notifies or None,
        "untold": [_end_document(end) for end in job.untold] or None,
        "result": job.result,
        "result_ref": _of_slots(job.result_ref),
        "error": error_document(job.error),
        "usage": usage_document(job.usage),
    }
    for name in _TIMES:
        document[name] = getattr(job, name)
    return _present(document)


def from_document(document: Mapping[str, Any]) -> Job:
    """The job of a document; `input` is empty where a projection left it out."""
    get = document.get
    provider = document["provider"]
    return Job(
        id=document["_id"],
        tenant=document["tenant"],
        kind=JobKind(document["kind"]),
        lane=Lane(document["lane"]),
        state=JobState(document["state"]),
        generation=document["generation"],
        attempts=document["attempts"],
        max_attempts=document["max_attempts"],
        rounds=get("rounds", 0),
        on_unknown=OnUnknown(document["on_unknown"]),
        input=get("input", ""),
        provider=ProviderPreference(tuple(provider["order"]), provider["allow_fallbacks"]),
        result_ttl_s=document["result_ttl_s"],
        tags=tuple(document["tags"]),
        metadata=document["metadata"],
        history=tuple(_attempt(attempt) for attempt in document["history"]),
        dead_lettered=document["dead_lettered"],
        lease=_flat(Lease, get("lease")),
        idempotency=_flat(Idempotency, get("idempotency")),
        batch_id=get("batch_id"),
        custom_id=get("custom_id"),
        key_id=get("key_id"),
        traceparent=get("traceparent"),
        webhook=_webhook(get("webhook")),
        notifies=get("notifies", False),
        untold=tuple(_end(end) for end in get("untold", ())),
        result=get("result"),
        result_ref=_flat(ResultRef, get("result_ref")),
        error=_error(get("error")),
        usage=_flat(Usage, get("usage")),
        **_times(document),
    )


def _times(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: document.get(name) for name in _TIMES}


def as_stored(job: Job) -> Job:
    """The job as it would come back from the database; raises `Unstorable` when it cannot go in."""
    try:
        encoded = bson.encode(to_document(job), check_keys=False, codec_options=CODEC)
    except UNENCODABLE as reason:
        raise unstorable(reason) from reason
    if len(encoded) > MOST_BYTES:
        raise unstorable(DocumentTooLarge("more than 16 MiB"))
    return from_document(bson.decode(encoded, CODEC))


def utf8(text: str) -> bytes:
    """The text as it is stored; raises `Unstorable` for a lone surrogate."""
    try:
        return text.encode()
    except UnicodeError as reason:
        raise unstorable(reason) from reason


def unstorable(reason: Exception) -> Unstorable:
    """What to raise for one of `UNENCODABLE`; the text itself is never repeated."""
    return Unstorable(
        f"the job cannot be written as it is ({type(reason).__name__}): it holds text that is not "
        "Unicode, an integer past 64 bits, or more than 16 MiB"
    )


def attempt_document(attempt: Attempt) -> Document:
    """The record of one attempt."""
    return _present(
        {
            "n": attempt.n,
            "generation": attempt.generation,
            "outcome": attempt.outcome,
            "worker": attempt.worker,
            "started_at": attempt.started_at,
            "finished_at": attempt.finished_at,
            "queue_wait_ms": attempt.queue_wait_ms,
            "provider_ms": attempt.provider_ms,
            "provider": attempt.provider,
            "http_status": attempt.http_status,
            "provider_request_id": attempt.provider_request_id,
            "error": error_document(attempt.error),
        }
    )


def error_document(error: JobError | None) -> Document | None:
    """Why an attempt or a job did not succeed."""
    if error is None:
        return None
    return _present(
        {
            "code": error.code.value,
            "detail": error.detail,
            "retryable": error.retryable,
            "retry_after_s": error.retry_after_s,
        }
    )


def usage_document(usage: Usage | None) -> Document | None:
    """What a call consumed."""
    return _of_slots(usage)


def _webhook_document(target: WebhookTarget | None) -> Document | None:
    return None if target is None else {"url": target.url, "events": [*target.events]}


def _webhook(document: Document | None) -> WebhookTarget | None:
    if document is None:
        return None
    return WebhookTarget(document["url"], tuple(document["events"]))


def _end_document(end: JobEnd) -> Document:
    return {"generation": end.generation, "state": end.state.value, "at": end.at}


def _end(document: Document) -> JobEnd:
    return JobEnd(document["generation"], JobState(document["state"]), document["at"])


def _attempt(document: Document) -> Attempt:
    return _built(Attempt, {**document, "error": _error(document.get("error"))})


def _error(document: Document | None) -> JobError | None:
    if document is None:
        return None
    return _built(JobError, {**document, "code": ErrorCode(document["code"])})


def _flat(kind: type[Value], document: Document | None) -> Value | None:
    return None if document is None else _built(kind, document)


def _built(kind: type[Value], document: Document) -> Value:
    """The value of a sub-document. A field that a newer version wrote is passed over."""
    known = kind.__slots__  # type: ignore[attr-defined]  # every value here has slots
    return kind(**{name: document[name] for name in known if name in document})


def _of_slots(value: Lease | Idempotency | ResultRef | Usage | None) -> Document | None:
    """A flat value, field by field under the same names."""
    if value is None:
        return None
    return {name: getattr(value, name) for name in value.__slots__}


def _present(document: Document) -> Document:
    return {name: value for name, value in document.items() if value is not None}
