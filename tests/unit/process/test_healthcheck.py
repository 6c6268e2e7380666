"""The check that a container runs inside itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from forebay.healthcheck import check, main

ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def answering(answer: bytes, host: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[str]]]:
    """A server with one answer; its port and the request lines it got."""
    lines: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines.append(head.split(b"\r\n")[0].decode())
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    async with server:
        yield server.sockets[0].getsockname()[1], lines


async def asked(answer: bytes, url: str = "http://127.0.0.1:{}/readyz") -> tuple[str | None, str]:
    async with answering(answer) as (port, lines):
        why_not = await asyncio.to_thread(check, url.format(port))
    return why_not, lines[0]


@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
async def test_2xx_is_healthy(status: str) -> None:
    assert await asked(f"HTTP/1.1 {status}\r\n\r\n".encode()) == (None, "GET /readyz HTTP/1.1")


async def test_another_status_is_not_and_the_words_of_the_probe_are_said() -> None:
    answer = b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nno queue\nforebay.search.bulk\n"
    why_not, _ = await asked(answer)
    assert why_not == "503 Service Unavailable: no queue forebay.search.bulk"


async def test_what_is_not_http_is_said() -> None:
    why_not, _ = await asked(b"220 mail.example ESMTP\r\n")
    assert why_not == "not an HTTP answer: '220 mail.example ESMTP'"
    assert (await asked(b""))[0] == "not an HTTP answer: ''"


async def test_a_path_left_out_is_the_root() -> None:
    assert (await asked(b"HTTP/1.0 200 OK\r\n\r\n", "http://127.0.0.1:{}"))[1] == "GET / HTTP/1.1"


def test_nobody_there_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert "refused" in (check(f"http://127.0.0.1:{taken.getsockname()[1]}/") or "")


def test_who_accepts_and_does_not_answer_is_not_waited_for_beyond_the_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert check(url, timeout_s=0.1) == "no answer within 0.1 s"


async def test_who_answers_without_end_is_cut_off() -> None:
    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"H" * 1000)
                await writer.drain()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        why_not = await asyncio.to_thread(check, url, 30)
    assert (why_not or "").startswith("not an HTTP answer")


@pytest.mark.parametrize("url", ["https://host/", "127.0.0.1:80/", "http://:80/", "http://h:x/"])
def test_a_url_that_it_cannot_ask_is_said(url: str) -> None:
    assert "is not of the form http://HOST[:PORT]/PATH" in (check(url) or "")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a", "b"],
        ["http://127.0.0.1:1/", "--timeout", "x"],
        ["--timeout", "1"],
        ["--help", "http://127.0.0.1:1/"],
        ["127.0.0.1:1/readyz"],
    ],
)
def test_a_wrong_command_line_is_answered_with_the_right_one(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("usage: ")


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_who_asks_for_help_gets_it(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    said = capsys.readouterr()
    assert (said.out.startswith("usage: "), said.err) == (True, "")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "services")}
    command = [sys.executable, *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)


async def test_the_command_says_it_by_its_exit_code() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\nok\n") as (port, _):
        url = f"http://127.0.0.1:{port}/readyz"
        done = await asyncio.to_thread(run, "-m", "forebay.healthcheck", url, "--timeout", "20")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = await asyncio.to_thread(run, "-m", "forebay.healthcheck", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{url}: ")
    assert done.stderr.count("\n") == 1


def test_it_imports_nothing_that_takes_time() -> None:
    script = "import sys, forebay.healthcheck; print(*sorted(sys.modules))"
    loaded = set(run("-c", script).stdout.split())
    heavy: Callable[[str], bool] = lambda name: name.split(".")[0] in {  # noqa: E731
        "asyncio", "email", "http", "httpx", "aiohttp", "pydantic", "ssl", "typing", "urllib",
    }  # fmt: skip
    assert "socket" in loaded
    assert not {name for name in loaded if heavy(name)}
    assert {name for name in loaded if name.startswith("forebay")} == {
        "forebay",
        "forebay.healthcheck",
    }
