"""What the callers' verbs say of answers that a whole system seldom gives."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from forebay.cli.options import Kind
from forebay.cli.verbs import run
from forebay.jobs import CALLER_KINDS
from tests.ingress_process import free_port
from tests.typed import typed

JOB = {"id": "job_1", "kind": "llm", "done": False, "generation": 1, "state": "queued"}
DONE = {**JOB, "done": True, "state": "succeeded"}


@dataclass
class Service:
    """Answers every request the same, and keeps the keys and bodies it was sent."""

    url: str
    keys: list[str | None] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.keys.append(self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            service.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service = Service(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()


def problem(status: int, code: str, **more: Any) -> bytes:
    return json.dumps({"status": status, "code": code, "detail": "No.", **more}).encode()


def sse(*events: tuple[str, Any]) -> bytes:
    return b"".join(
        f"id: {n}\nevent: {type_}\ndata: {json.dumps(data)}\n\n".encode()
        for n, (type_, data) in enumerate(events, 1)
    )


def test_a_key_that_is_not_taken_is_named_as_a_setting_and_never_shown() -> None:
    with answering(401, problem(401, "unauthenticated")) as service:
        said = typed("get", "job_1", URL=service.url, API_KEY="key-of-mine")
    assert said.code == 1
    assert said.err == (
        "forebay: No. (401 unauthenticated); FOREBAY_API_KEY is the key that is sent\n"
    )
    assert service.keys == ["Bearer key-of-mine"]


@pytest.mark.parametrize(
    ("words", "follow"),
    [
        ([], None),
        (["--max-depth", "3"], {"max_depth": 3}),
        (["--max-depth", "0"], {"max_depth": 0}),
        (["--max-pages", "7"], {"max_pages": 7}),
        (["--max-pages", "7", "--max-depth", "3"], {"max_pages": 7, "max_depth": 3}),
    ],
)
def test_a_crawl_follows_links_as_far_as_either_option_says(
    words: list[str], follow: dict[str, int] | None
) -> None:
    with answering(202, json.dumps(JOB).encode()) as service:
        assert typed("crawl", "https://example.com/", *words, URL=service.url).code == 0
    (body,) = service.bodies
    assert body["input"].get("follow") == follow


@pytest.mark.parametrize(
    ("words", "settings", "said"),
    [
        (("webhooks", "create", "http://x", "--event", "no"), {}, "'--event': 'no' is not one of"),
        (("search", "weir", "--lane", "no"), {}, "'--lane': 'no' is not one of"),
        (("get", "job_1"), {"URL": "http://x/y"}, "makes no sense: it must be the address alone"),
    ],
)
def test_what_makes_no_sense_is_said_in_words_of_ours(
    words: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    ended = typed(*words, **settings)
    assert ended.code == 2
    assert said in ended.err


def test_a_service_that_is_not_there_is_sought_for_a_while_and_its_setting_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    said = typed("get", "job_1", URL=url, URL_PATIENCE_S="0.2")
    assert (said.code, said.out) == (1, "")
    assert said.err == (
        f"forebay: {url} does not answer (ConnectError); FOREBAY_URL is where the ingress is\n"
    )


@pytest.mark.parametrize(
    "setting",
    [{"URL": "forebay:8080"}, {"URL": "http://x/v1"}, {"API_KEY": "schl\u00fcssel"}],
)
def test_a_setting_that_makes_no_sense_ends_with_2(setting: dict[str, str]) -> None:
    said = typed("get", "job_1", **setting)
    assert said.code == 2
    assert f"FOREBAY_{next(iter(setting))} makes no sense" in said.err
    assert "schl\u00fcssel" not in said.err


def test_what_a_former_attempt_wrote_is_told_apart_on_the_screen() -> None:
    events = sse(
        ("job.output.delta", {"index": 0, "delta": "wrong"}),
        ("job.output.reset", {"id": "job_1"}),
        ("job.output.delta", {"index": 0, "delta": "right \ud800"}),
        ("job.succeeded", DONE),
    )
    with answering(200, events) as service:
        said = typed("stream", "job_1", URL=service.url)
        lines = typed("stream", "job_1", "--json", URL=service.url).out.splitlines()
    assert (said.code, said.out) == (0, "wrong\nright \\ud800\n")
    assert said.err == "job.output.reset: a new attempt begins anew\njob.succeeded\n"
    assert [json.loads(line)["event"] for line in lines] == [
        "job.output.delta", "job.output.reset", "job.output.delta", "job.succeeded",
    ]  # fmt: skip


def test_on_one_screen_the_text_has_ended_when_its_end_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = sse(("job.output.delta", {"index": 0, "delta": "text"}), ("job.succeeded", DONE))
    screen = io.StringIO()
    with answering(200, events) as service, redirect_stdout(screen), redirect_stderr(screen):
        monkeypatch.setenv("FOREBAY_URL", service.url)
        with pytest.raises(SystemExit):
            run(("stream", "job_1"))
    assert screen.getvalue() == "text\njob.succeeded\n"


def test_words_of_others_are_no_markup() -> None:
    failed = {**DONE, "state": "failed", "error": json.loads(problem(502, "x", detail="[red]a[/]"))}
    with answering(200, json.dumps(failed).encode()) as service:
        said = typed("get", "job_1", URL=service.url)
    assert "x: [red]a[/]" in said.out


def test_programs_get_all_that_a_newer_service_says() -> None:
    newer = {**JOB, "state": "hibernating", "mood": {"a": [1]}}
    with answering(200, json.dumps(newer).encode()) as service:
        said = typed("get", "job_1", "--json", URL=service.url)
    assert json.loads(said.out) == newer


def test_the_kinds_of_the_verbs_are_those_a_caller_can_submit() -> None:
    assert {kind.value for kind in Kind} == {kind.value for kind in CALLER_KINDS}


def test_a_problem_whose_detail_says_it_all_says_it_once() -> None:
    part = {"pointer": "/url", "detail": "It must not be called."}
    body = problem(422, "address_forbidden", detail="`url`: It must not be called.", errors=[part])
    with answering(422, body) as service:
        said = typed("get", "job_1", URL=service.url)
    assert said.err == "forebay: `url`: It must not be called. (422 address_forbidden)\n"
