"""A job's message on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.broker import DeadReason, JobMessage, Malformed
from forebay.broker.envelope import MAX_DEAD_BODY_BYTES, Envelope, dead, read, seal
from forebay.jobs import JobKind, Lane

BODY = b'{"job_id":"job_1","generation":1}'


def arrived(body: bytes = BODY, key: str = "search.bulk", **more: object) -> Envelope:
    return Envelope(body, key, **{"type": "forebay.job.v1", **more})


@given(
    st.text(min_size=1, max_size=64),
    st.integers(min_value=1, max_value=2**62),
    st.sampled_from(JobKind),
    st.sampled_from(Lane),
    st.integers(min_value=0, max_value=100),
    st.none() | st.text(max_size=55),
)
def test_what_is_sealed_is_read_again(
    job_id: str, generation: int, kind: JobKind, lane: Lane, attempt: int, traceparent: str | None
):
    message = JobMessage(job_id, generation, kind, lane, attempt, traceparent)
    assert read(seal(message, "m"), kind) == message


def test_the_wire_form_is_as_documented():
    message = JobMessage("job_" + "a" * 32, 2, JobKind.LLM, Lane.DEFAULT, attempt=1)
    envelope = seal(message, "m1")
    assert envelope == Envelope(
        body=b'{"job_id":"job_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","generation":2}',
        routing_key="llm.default",
        type="forebay.job.v1",
        headers={"x-attempt": 1},
        message_id="m1",
        correlation_id=message.job_id,
        content_type="application/json",
    )


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (arrived(type=None), "type is missing"),
        (arrived(type="forebay.job.v2"), "forebay.job.v2"),
        (arrived(key="search"), "unknown routing key 'search'"),
        (arrived(key="llm.bulk"), "not of kind 'search'"),
        (arrived(b"\xff"), "not JSON"),
        (arrived(b""), "not JSON"),
        (arrived(b"[" * 1000), "not JSON"),
        (arrived(b"[1]"), "not a JSON object"),
        (arrived(b"{}"), "job_id"),
        (arrived(b'{"job_id":"","generation":1}'), "job_id"),
        (arrived(b'{"job_id":"%s","generation":1}' % (b"a" * 65)), "job_id"),
        (arrived(b'{"job_id":["a"],"generation":1}'), "job_id"),
        (arrived(b'{"job_id":"a"}'), "generation"),
        (arrived(b'{"job_id":"a","generation":"1"}'), "generation"),
        (arrived(b'{"job_id":"a","generation":true}'), "generation"),
        (arrived(b'{"job_id":"a","generation":0}'), "generation"),
        (arrived(b'{"job_id":"a","generation":1.5}'), "generation"),
        (arrived(BODY + b" " * 1024), "at most 1024"),
    ],
)
def test_what_cannot_be_read_says_why(envelope: Envelope, reason: str):
    found = read(envelope, JobKind.SEARCH)
    assert isinstance(found, Malformed)
    assert reason in found.reason


@given(st.binary(max_size=200))
def test_no_body_makes_it_raise(body: bytes):
    assert isinstance(read(arrived(body), JobKind.SEARCH), Malformed | JobMessage)


def test_headers_are_never_trusted_and_unknown_fields_passed_over():
    envelope = arrived(
        b'{"job_id":"a","generation":1,"new":{}}',
        headers={"x-attempt": "many", "traceparent": 7},
    )
    assert read(envelope, JobKind.SEARCH) == JobMessage("a", 1, JobKind.SEARCH, Lane.BULK)


def test_a_dead_letter_keeps_the_message_and_says_why():
    original = arrived(
        b"\x00junk", key="elsewhere", headers={"x-attempt": 3}, correlation_id="job_1"
    )
    letter = dead(original, "search.bulk", DeadReason.MALFORMED, "y" * 5000)
    assert (letter.body, letter.routing_key, letter.correlation_id) == (
        b"\x00junk", "search.bulk", "job_1",
    )  # fmt: skip
    assert letter.headers["x-attempt"] == 3
    assert letter.headers["x-forebay-reason"] == "malformed"
    assert letter.headers["x-forebay-routing-key"] == "elsewhere"
    assert len(str(letter.headers["x-forebay-detail"])) == 1000
    assert letter.message_id is None, "it gets a fresh one"


def test_a_huge_foreign_message_is_cut_and_says_so():
    letter = dead(arrived(b"z" * 1_000_000), "search.bulk", DeadReason.MALFORMED, "")
    assert len(letter.body) == MAX_DEAD_BODY_BYTES
    assert letter.headers["x-forebay-truncated-from-bytes"] == 1_000_000
