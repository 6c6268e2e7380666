"""Following a job over connections that break."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay.client import (
    Client,
    Gone,
    Moved,
    NotFound,
    Output,
    Reset,
    UnexpectedAnswer,
    Unreachable,
)
from tests.unit.client.conftest import Script, a_job, a_problem

SSE = {"Content-Type": "text/event-stream"}


def event(id_: int, type_: str, data: Any) -> bytes:
    return f"id: {id_}\nevent: {type_}\ndata: {json.dumps(data)}\n\n".encode()


def delta(id_: int, index: int, text: str) -> bytes:
    return event(id_, "job.output.delta", {"index": index, "delta": text})


QUEUED = b"retry: 1000\n\n" + event(1, "job.queued", a_job())
END = event(9, "job.succeeded", a_job("succeeded"))


async def test_events_come_as_values_and_the_text_is_joined(api: Script, client: Client) -> None:
    api.plays((200, QUEUED + b":\n\n" + delta(2, 0, "Wéi") + delta(3, 3, "r\ud800") + END, SSE))
    async with client.stream("job_1") as stream:
        events = [one async for one in stream]
    assert [type(one) for one in events] == [Moved, Output, Output, Moved]
    assert stream.text == "Wéir\ud800"
    assert stream.job is not None
    assert stream.job.succeeded


async def test_a_stream_that_breaks_goes_on_behind_its_last_event(
    api: Script, client: Client
) -> None:
    api.plays(
        QUEUED + delta(2, 0, "one ") + delta(3, 4, "two ")[:-30],
        None,
        (502, b"", {}),
        (200, delta(3, 4, "two "), SSE),
        (200, delta(4, 8, "three") + END, SSE),
    )
    stream = client.stream("job_1")
    ids = [one.id async for one in stream]
    assert ids == [1, 2, 3, 4, 9]
    assert stream.text == "one two three"
    last = [one.headers.get("Last-Event-ID") for one in api.seen]
    assert last == [None, "2", "2", "2", "3"]


async def test_a_new_attempt_takes_back_what_the_former_wrote(api: Script, client: Client) -> None:
    reset = event(5, "job.output.reset", {"id": "job_1"})
    api.plays((200, delta(2, 0, "wrong") + reset + delta(6, 0, "right") + END, SSE))
    stream = client.stream("job_1")
    events = [one async for one in stream]
    assert Reset(5) in events
    assert stream.text == "right"


async def test_who_has_the_last_event_already_is_at_the_end(api: Script, client: Client) -> None:
    api.plays((200, QUEUED, SSE), (204, b"", {}))
    assert [one.id async for one in client.stream("job_1")] == [1]


async def test_an_event_of_a_later_version_is_passed_over(api: Script, client: Client) -> None:
    later = event(2, "job.dreamed", {"of": "sheep"}) + b"mood: good\n"
    api.plays((200, QUEUED + later + END, SSE))
    assert [one.id async for one in client.stream("job_1")] == [1, 9]


@pytest.mark.parametrize(
    "said",
    [
        delta(2, 5, "a gap"),
        b"id: x\nevent: job.queued\ndata: {}\n\n",
        b"id: 1\nevent: job.queued\ndata: {\n\n",
        b"id: 1\nevent: job.output.delta\ndata: []\n\n",
        event(1, "job.queued", {"state": "queued"}),
    ],
)
async def test_what_makes_no_sense_is_an_error_and_not_a_wrong_text(
    api: Script, client: Client, said: bytes
) -> None:
    api.plays((200, said, SSE))
    with pytest.raises(UnexpectedAnswer, match="cannot be read"):
        [one async for one in client.stream("job_1")]


async def test_a_job_that_is_not_there_or_no_more_is_told(api: Script, client: Client) -> None:
    api.plays((404, a_problem(404, "not_found")), (410, a_problem(410, "events_expired")))
    for kind in (NotFound, Gone):
        with pytest.raises(kind):
            await anext(client.stream("job_1"))


async def test_a_stream_without_any_event_is_given_up_when_patience_ends(api: Script) -> None:
    api.plays(*[(200, b"retry: 1000\n\n", SSE)] * 200)
    async with Client(api.url, patience_s=3) as client:
        with pytest.raises(Unreachable, match="ended before the job did"):
            await anext(client.stream("job_1"))
    assert len(api.seen) > 1


async def test_a_comment_is_a_sign_of_life(api: Script) -> None:
    api.plays(*[(200, b":\n\n", SSE)] * 12, (200, END, SSE))
    async with Client(api.url, patience_s=1.5) as client:
        assert [one.id async for one in client.stream("job_1")] == [9]


async def test_who_leaves_early_hangs_up(api: Script, client: Client) -> None:
    api.streams([QUEUED], hold=True)
    async with client.stream("job_1") as stream:
        await anext(stream)
    await api.gone.wait()
