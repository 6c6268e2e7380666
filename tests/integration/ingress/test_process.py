from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import aiohttp
import pytest

from forebay.local.mongodb import MongoServer
from forebay.testing.polling import until
from ingress.event_stream import HEARTBEAT
from tests.ingress_process import NOBODY, IngressProcess, serving, start

SEARCH = {"query": "hydro power forebay"}
JSON = {"Content-Type": "application/json"}


async def submit(session: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, Any]:
    async with session.post(f"{url}/v1/search", json=SEARCH, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"MONGODB_URL": "mongodb://127.0.0.1:1/"}, "FOREBAY_AMQP_URL is not set"),
        ({"AMQP_URL": "amqp://127.0.0.1:1/"}, "FOREBAY_MONGODB_URL is not set"),
        ({"INGRESS_HOST": "0.0.0.0"}, "FOREBAY_INGRESS_ALLOW_OPEN=true"),  # noqa: S104 - refused
        ({"INGRESS_MAX_BODY_BYTES": "many"}, "FOREBAY_INGRESS_MAX_BODY_BYTES makes no sense"),
    ],
)
async def test_a_setting_that_is_missing_or_wrong_is_one_sentence_and_exit_2(
    settings: dict[str, str], said: str
) -> None:
    ingress = await start(**settings)
    code, errors = await ingress.ended()
    assert code == 2
    assert said in errors.splitlines()[-1]
    assert "Traceback" not in errors


async def test_a_port_in_use_is_one_sentence_and_exit_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        urls = {"AMQP_URL": "amqp://127.0.0.1:1/", "MONGODB_URL": "mongodb://127.0.0.1:1/"}
        code, errors = await (await start(INGRESS_PORT=port, **urls)).ended()
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in errors


async def test_a_store_that_is_not_there_at_start_is_waited_for_until_a_stop() -> None:
    url = "mongodb://user:hunter2@127.0.0.1:1/?replicaSet=x"
    ingress = await start(MONGODB_URL=url, MONGODB_TIMEOUT_S="0.3", AMQP_URL=NOBODY)
    errors = ""
    while errors.count("store.retried") < 2:
        assert ingress.process.stderr is not None
        errors += (await ingress.process.stderr.readline()).decode()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", ingress.port)
    ingress.ask_to_stop()
    async with asyncio.timeout(10):
        code, rest = await ingress.ended()
    assert code == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    nobody = "MongoDB at 127.0.0.1:1: nobody listens there (ServerSelectionTimeoutError)"
    (lost,) = [line for line in lines if line["event"] == "store.lost"]
    assert (lost["hosts"], lost["reason"]) == ("127.0.0.1:1", nobody)
    retried = [line for line in lines if line["event"] == "store.retried"]
    assert [(line["operation"], line["error"]) for line in retried] == [("prepare", nobody)] * 2
    assert "hunter2" not in errors + rest


async def test_a_store_that_will_never_do_is_one_sentence_and_exit_1(standalone_url: str) -> None:
    code, errors = await (await start(MONGODB_URL=standalone_url, AMQP_URL=NOBODY)).ended()
    assert code == 1
    assert errors.splitlines()[-1].startswith("ingress: this MongoDB is a standalone server")


async def test_five_hundred_at_once_are_all_accepted_with_the_broker_down(
    session: aiohttp.ClientSession, ingress: IngressProcess
) -> None:
    answers = await asyncio.gather(*(submit(session, ingress.url) for _ in range(500)))
    assert {status for status, _ in answers} == {202}
    ids = {job["id"] for _, job in answers}
    assert len(ids) == 500
    some = next(iter(ids))
    async with session.get(f"{ingress.url}/v1/jobs/{some}") as answer:
        assert (await answer.json())["id"] == some


async def test_fifty_at_once_with_one_key_are_one_job(
    session: aiohttp.ClientSession, ingress: IngressProcess
) -> None:
    key = {"Idempotency-Key": "one-of-fifty"}
    answers = await asyncio.gather(*(submit(session, ingress.url, **key) for _ in range(50)))
    assert {status for status, _ in answers} == {202}
    assert len({job["id"] for _, job in answers}) == 1


async def test_what_a_caller_writes_survives_the_database(
    session: aiohttp.ClientSession, ingress: IngressProcess
) -> None:
    body = {
        "kind": "search",
        "input": {"query": "$where \x00 a.b"},
        "tags": ["$ne", "nul\x00", "a.b"],
        "metadata": {"$ne": 1, "a.b": {"$where": "x"}, "n": 2**70, "s": "\x00\U0001f30a"},
    }
    async with session.post(f"{ingress.url}/v1/jobs", json=body) as answer:
        job = await answer.json()
    async with session.get(f"{ingress.url}/v1/jobs/{job['id']}") as answer:
        shown = await answer.json()
    assert (shown["metadata"], shown["tags"]) == (body["metadata"], body["tags"])
    assert shown == job


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413_on_the_wire_and_others_are_served(
    session: aiohttp.ClientSession, ingress: IngressProcess, chunked: bool
) -> None:
    content = json.dumps({"query": "x" * 1_200_000}).encode()

    async def pieces() -> Any:
        for i in range(0, len(content), 65_536):
            yield content[i : i + 65_536]

    data: Any = pieces() if chunked else io.BytesIO(content)
    async with session.post(f"{ingress.url}/v1/search", data=data, headers=JSON) as answer:
        assert answer.status == 413
        assert (await answer.json(content_type=None))["code"] == "payload_too_large"
    assert (await submit(session, ingress.url))[0] == 202


async def test_an_endless_body_is_cut_off(ingress: IngressProcess) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
    writer.write(
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    async def send_without_end() -> None:
        while True:
            writer.write(chunk)
            await writer.drain()

    with pytest.raises(ConnectionError):
        await send_without_end()
    writer.close()


async def test_a_store_that_stands_still_is_503_within_three_seconds_and_recovers(
    session: aiohttp.ClientSession,
    ingress_on_own_mongodb: IngressProcess,
    own_mongodb: MongoServer,
) -> None:
    ingress = ingress_on_own_mongodb
    assert (await submit(session, ingress.url))[0] == 202
    own_mongodb.freeze()
    try:
        began = monotonic()
        answers = await asyncio.gather(*(submit(session, ingress.url) for _ in range(20)))
        took = monotonic() - began
    finally:
        own_mongodb.thaw()
    assert {status for status, _ in answers} == {503}
    assert {problem["code"] for _, problem in answers} == {"store_unavailable"}
    assert took < 3.5
    async with asyncio.timeout(20):
        while (await submit(session, ingress.url))[0] != 202:
            pass


async def test_sigterm_lets_the_waiting_go_and_exits_0(
    session: aiohttp.ClientSession, ingress: IngressProcess
) -> None:
    _, job = await submit(session, ingress.url)

    async def wait() -> Any:
        async with session.get(f"{ingress.url}/v1/jobs/{job['id']}?wait=60") as answer:
            return await answer.json()

    waiting = asyncio.create_task(wait())
    # The server has the request once it answers another one sent after it on a second connection.
    for _ in range(3):
        async with session.get(f"{ingress.url}/livez") as alive:
            assert alive.status == 200
    ingress.ask_to_stop()
    assert (await waiting)["state"] == "queued"
    code, errors = await ingress.ended()
    assert code == 0, errors
    assert "process.stopped" in errors


async def test_sigterm_under_load_costs_no_caller_anything_with_a_lame_duck_time(
    session: aiohttp.ClientSession, mongodb_url: str, database: str
) -> None:
    settings = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": database, "AMQP_URL": NOBODY}
    async with serving(session, INGRESS_LAME_DUCK_S="6", **settings) as ingress:
        answers = [0] * 20
        clients = [asyncio.create_task(_send(ingress.url, answers, n)) for n in range(20)]
        await until(_all_answered(answers, 3))
        before = list(answers)
        ingress.ask_to_stop()
        asked = monotonic()
        # Newcomers are served, and not kept. For longer than a second: uvicorn makes the headers
        # of all answers anew each second.
        noticed: float | None = None
        while noticed is None or monotonic() - noticed < 1.5:
            async with _client() as newcomer, newcomer.get(f"{ingress.url}/readyz") as answer:
                closing = answer.headers.get("connection") == "close"
                assert (answer.status, closing) in {(200, False), (503, True)}
            assert closing or noticed is None, "once begun, it goes on"
            noticed = noticed or (monotonic() if closing else None)
        async with asyncio.timeout(20):
            assert await asyncio.gather(*clients) == ["close"] * 20
        assert sum(answers) > sum(before)
        code, errors = await ingress.ended()
    assert code == 0, errors
    assert monotonic() - asked >= 6
    assert "ingress.leaving" in errors
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", ingress.port)


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))


async def _send(url: str, answers: list[int], n: int) -> str:
    """Send on one connection until the server ends it by saying so; any other end raises."""
    async with _client() as session:
        while True:
            async with session.post(f"{url}/v1/search", json=SEARCH) as answer:
                assert answer.status == 202
                answers[n] += 1
                connection = answer.headers.get("connection")
                if connection is not None:
                    return connection


def _all_answered(answers: list[int], times: int) -> Callable[[], Awaitable[bool]]:
    async def answered() -> bool:
        return min(answers) >= times

    return answered


async def test_a_second_signal_ends_the_lame_duck_time(
    session: aiohttp.ClientSession, mongodb_url: str, database: str
) -> None:
    settings = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": database, "AMQP_URL": NOBODY}
    async with serving(session, INGRESS_LAME_DUCK_S="3600", **settings) as ingress:

        async def leaving() -> bool:
            async with session.get(f"{ingress.url}/readyz") as answer:
                return answer.status == 503

        ingress.ask_to_stop()
        await until(leaving)
        ingress.ask_to_stop()
        async with asyncio.timeout(20):
            code, errors = await ingress.ended()
    assert code == 0, errors


async def test_a_stream_outlives_a_store_that_stands_still(
    session: aiohttp.ClientSession,
    ingress_on_own_mongodb: IngressProcess,
    own_mongodb: MongoServer,
) -> None:
    ingress = ingress_on_own_mongodb
    _, job = await submit(session, ingress.url)
    job_url = f"{ingress.url}/v1/jobs/{job['id']}"
    # Nothing is said over the broker here, so only time makes the stream look at the store.
    patient = aiohttp.ClientTimeout(total=90)
    async with session.get(f"{job_url}/events", timeout=patient) as stream:
        said = await stream.content.readuntil(b"\n\n")
        said += await stream.content.readuntil(b"\n\n")
        assert b"event: job.queued" in said
        own_mongodb.freeze()
        try:
            # The first comment is of the look before; the second one is of a look in vain.
            assert await stream.content.readuntil(b"\n\n") == HEARTBEAT
            assert await stream.content.readuntil(b"\n\n") == HEARTBEAT
        finally:
            own_mongodb.thaw()
        async with asyncio.timeout(60):
            while not await _canceled(session, job_url):
                pass
            rest = await stream.content.read()
    assert b"event: job.canceled" in rest
    ingress.ask_to_stop()
    code, errors = await ingress.ended()
    assert code == 0
    assert "request.failed" not in errors
    assert all(json.loads(line)["event"] for line in errors.splitlines())


async def _canceled(session: aiohttp.ClientSession, job_url: str) -> bool:
    async with session.post(f"{job_url}/cancel") as answer:
        return answer.status == 200


async def test_what_is_no_request_is_logged_like_all_else(
    session: aiohttp.ClientSession, ingress: IngressProcess
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", ingress.port)
    writer.write(b"hello\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    async with session.get(f"{ingress.url}/livez", headers=upgrade) as answer:
        assert answer.status == 200
    ingress.ask_to_stop()
    _, errors = await ingress.ended()
    lines = [json.loads(line) for line in errors.splitlines()]
    said = [(line["library"], line["level"]) for line in lines if line["event"] == "library.warned"]
    assert said[0] == ("uvicorn.error", "warning")
    assert {line["process"] for line in lines} == {"ingress"}
