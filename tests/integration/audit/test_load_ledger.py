"""The load test's callers keep a ledger that an audit can read."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from forebay.audit.ledger import Meaning, read_ledger
from tests.ingress_process import ROOT, environment

ENOUGH = 40
pytestmark = pytest.mark.timeout(180)


class Api:
    """Accepts every job but each tenth submission, and knows each job as done."""

    def __init__(self) -> None:
        self.accepted: set[str] = set()
        self.enough = asyncio.Event()
        self._numbers = itertools.count(1)
        self.url = ""

    async def submit(self, request: web.Request) -> web.Response:
        number = next(self._numbers)
        if number % 10 == 0:
            return web.Response(status=503, text="away")
        self.accepted.add(f"job_{number}")
        if len(self.accepted) > ENOUGH:
            self.enough.set()
        kind = request.path.rpartition("/")[2]
        job = {"id": f"job_{number}", "kind": kind, "state": "queued", "generation": 1}
        return web.json_response(job, status=202)

    async def look(self, request: web.Request) -> web.Response:
        job_id = request.match_info["job_id"]
        return web.json_response({"id": job_id, "state": "succeeded", "done": True})


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    served = Api()
    app = web.Application()
    app.router.add_post("/v1/{kind}", served.submit)
    app.router.add_get("/v1/jobs/{job_id}", served.look)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = site.name
    yield served
    await runner.cleanup()


async def locust(api: Api, **settings: str) -> str:
    """Three callers until they have submitted enough; what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--host", api.url),
        *("--headless", "--users", "3", "--spawn-rate", "3", "--run-time", "10m"),
        env=environment(**settings),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = asyncio.create_task(process.communicate())
    enough = asyncio.create_task(api.enough.wait())
    await asyncio.wait((said, enough), return_when=asyncio.FIRST_COMPLETED)
    enough.cancel()
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    out, _ = await said
    return out.decode()


async def test_every_answer_of_a_load_test_is_in_its_ledger(api: Api, tmp_path: Path) -> None:
    path = tmp_path / "results" / "ledger.jsonl"
    path.parent.mkdir()
    path.write_text("of the run before\n")
    said = await locust(api, LOAD_LEDGER=str(path))
    answers = read_ledger(path)
    accepted = {answer.job_id for answer in answers if answer.accepted}
    assert len(accepted) >= ENOUGH - 3, said
    # The very last answers may come when nobody listens any more.
    assert accepted <= api.accepted
    assert len(api.accepted - accepted) <= 3
    refused = [a for a in answers if a.submission and a.meaning is Meaning.UNKNOWN]
    assert {answer.status for answer in refused} == {503}
    assert {answer.kind for answer in answers if answer.accepted} == {"search", "crawl", "llm"}
    told = {answer.job_id for answer in answers if answer.state == "succeeded"}
    assert told <= accepted
    assert len(accepted - told) <= 3


async def test_without_the_setting_no_ledger_is_kept(api: Api) -> None:
    said = await locust(api)
    assert len(api.accepted) >= ENOUGH - 3, said
    assert "Traceback" not in said
