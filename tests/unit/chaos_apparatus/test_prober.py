from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.chaos.prober import (
    BEAT_S,
    MOST_OURS_S,
    Heart,
    Probe,
    Prober,
    all_are_there,
    probing,
)


def a_probe(number: int, sent: float) -> Probe:
    return Probe(f"probe-{number}", sent, 0.1, 503, "1", None)


def test_a_probe_that_still_hangs_is_missed_though_later_ones_were_answered():
    answered = [a_probe(0, 10.0), a_probe(1, 10.1), a_probe(3, 10.3), a_probe(4, 10.4)]
    assert not all_are_there(answered, 10.25)
    assert all_are_there([*answered, a_probe(2, 10.2)], 10.25)


def test_as_long_as_none_is_there_that_was_sent_later_one_may_be_missing():
    assert not all_are_there([], 10.0)
    assert not all_are_there([a_probe(0, 10.0), a_probe(1, 10.1)], 10.2)


def test_a_line_is_read_when_it_is_whole_and_once(tmp_path: Path):
    path = tmp_path / "probes.jsonl"
    one, other = (json.dumps(asdict(a_probe(n, 10.0 + n))) + "\n" for n in range(2))
    prober = Prober(path)
    path.write_text(one + other[:20])
    assert [probe.key for probe in prober.probes()] == ["probe-0"]
    path.write_text(one + other)
    assert [probe.key for probe in prober.probes()] == ["probe-0", "probe-1"]
    assert len(prober.probes()) == 2


def beating_but_for(begin: float, end: float) -> Heart:
    """The heart of a prober whose loop stood still then; a probe takes from 10 to 13."""
    heart = Heart(9.0)
    for beat in (9.0 + n * BEAT_S for n in range(1, round(5 / BEAT_S))):
        if not begin < beat < end:
            heart.note(beat)
    return heart


@pytest.mark.parametrize(
    ("halt", "ours_s"),
    [
        pytest.param((10.0, 10.5), 0.5, id="before it was really sent"),
        pytest.param((12.5, 13.0), 0.5, id="while its answer lay there"),
        pytest.param((12.8, 13.5), 0.2, id="of a longer halt the part that is the probe's"),
        pytest.param((11.0, 12.0), 0.0, id="in the middle, where it costs nothing"),
        pytest.param((10.0, 13.0), MOST_OURS_S, id="of all the time not more than that"),
    ],
)
def test_a_halt_of_the_probers_loop_at_an_end_of_a_probe_is_the_probers(
    halt: tuple[float, float], ours_s: float
):
    heart = beating_but_for(*halt)
    assert heart.stood_still_s(10.0, 13.0) == pytest.approx(ours_s, abs=2 * BEAT_S)


def test_a_halt_that_the_answer_ends_counts_before_the_next_beat():
    assert Heart(10.0).stood_still_s(10.0, 10.5) == pytest.approx(0.5 - BEAT_S)


async def test_a_caller_who_hangs_is_waited_for(tmp_path: Path):
    held, release = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.headers["Idempotency-Key"] == "probe-3":
            held.set()
            await release.wait()
        return web.json_response({"id": "job_1"}, status=202)

    app = web.Application()
    app.router.add_post("/v1/search", answer)
    async with TestServer(app) as server, probing(str(server.make_url("")), tmp_path) as prober:
        await held.wait()
        moment = time.monotonic()
        waiting = asyncio.create_task(prober.all_sent_before(moment))
        await prober.first(lambda probe: probe.sent > moment + 0.3)
        assert not waiting.done()
        release.set()
        await waiting
        (hung,) = (probe for probe in prober.probes() if probe.key == "probe-3")
        assert hung.took_s > 0.3
