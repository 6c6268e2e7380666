"""Every verb for callers, typed against the whole system, with what it prints."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from forebay.cli.verbs import CALLERS
from forebay.client import Client
from forebay.local.stack import Stack
from forebay.testing.polling import until
from tests.command import Ended, begin
from tests.typed import typed
from tests.verbs import verbs_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
WAIT = ("--wait", "60")
ANSWER = "About “Say hello.”: Engineers measured the spillway every morning and wrote the\n"
REFUSED = "provider_rejected: searxng answered 400: it refuses the request as it stands"
NEVER = ("submit", "search", '{"query": "weir"}', "--not-before", "2099-01-01T00:00:00Z")
REJECTED = ("submit", "search", '{"query": "weir [simulate status=400]"}')


class Terminal:
    """A caller at a terminal, with the words for what it finds on its screen."""

    def __init__(self, url: str) -> None:
        self._url = url

    def types(self, *words: str, code: int = 0, stdin: str = "") -> Ended:
        ended = typed(*words, stdin=stdin, URL=self._url)
        assert ended.code == code, ended
        return ended

    def reads(self, *words: str, code: int = 0, stdin: str = "") -> Any:
        """The same with `--json`, understood."""
        return json.loads(self.types(*words, "--json", code=code, stdin=stdin).out)


@pytest.fixture
def terminal(stack: Stack) -> Terminal:
    return Terminal(stack.ingress_url)


def fields(screen: str) -> dict[str, str]:
    """Names and values as `show_fields` puts them."""
    return {line[:11].strip(): line[11:].strip() for line in screen.splitlines()}


def test_a_search_is_received_waited_for_shown_and_forgotten(terminal: Terminal) -> None:
    receipt = terminal.types("search", "hydro power", "--limit", "2", "--tag", "a", "--key", "k-1")
    shown = fields(receipt.out)
    job_id = shown.pop("id")
    assert re.fullmatch(r"job_[0-9a-f]{32}", job_id)
    assert shown == {
        "kind": "search", "state": "queued", "waits for": "queued", "lane": "default",
        "attempts": "0 of 5", "tags": "a",
    }  # fmt: skip
    assert terminal.reads("search", "hydro power", "--limit", "2", "--tag", "a", "--key", "k-1")[
        "id"
    ] == job_id  # fmt: skip
    ended = terminal.types("wait", job_id, "--timeout", "60").out
    assert "state     succeeded" in ended
    assert "provider  searxng" in ended
    result = json.loads(terminal.types("result", job_id).out)
    assert [one["position"] for one in result["results"]] == [1, 2]
    assert terminal.reads("result", job_id) == result
    assert terminal.reads("get", job_id)["result"] == result
    attempts = terminal.types("get", job_id, "--attempts").out
    assert re.search(r"attempt 1 +succeeded by searxng in \d+ ms", attempts)
    assert terminal.types("delete", job_id).out == f"{job_id} is deleted\n"
    gone = terminal.types("get", job_id, code=1)
    assert re.fullmatch(
        r"forebay: There is no such job. \(404 not_found, req_[0-9a-f]{32}\)\n", gone.err
    )


def test_with_wait_the_result_itself_is_printed(terminal: Terminal, stack: Stack) -> None:
    found = json.loads(terminal.types("search", "weir", "--limit", "1", *WAIT).out)
    assert len(found["results"]) == 1
    page = ("crawl", f"{stack.site_url}/pages/1", "--format", "metadata", "--max-pages", "2")
    assert json.loads(terminal.types(*page, *WAIT).out)["pages_fetched"] == 2
    said = terminal.types("llm", "Say hello.", "--model", "small", "--max-tokens", "12", *WAIT)
    assert said.out == ANSWER
    assert re.fullmatch(r"job_[0-9a-f]{32}\n", said.err)


def test_what_an_llm_writes_is_streamed(terminal: Terminal) -> None:
    words = ("llm", "-", "--model", "small", "--max-tokens", "12", "--stream")
    said = terminal.types(*words, stdin="Say hello.")
    assert said.out == ANSWER
    job_id, *told = said.err.split()
    assert told[-1] == "job.succeeded"
    assert terminal.types("stream", job_id).out == ANSWER
    lines = terminal.types("stream", job_id, "--json").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert events[0]["event"] == "job.queued"
    assert events[-1]["data"]["state"] == "succeeded"
    deltas = [event["data"] for event in events if event["event"] == "job.output.delta"]
    assert "".join(delta["delta"] for delta in deltas) == ANSWER.rstrip("\n")


def test_everything_that_can_be_said_of_a_job_is_said(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text('{"query": "weir"}')
    job = terminal.reads(
        "submit", "search", f"@{tmp_path}/input.json", "--lane", "bulk", "--provider", "searxng",
        "--not-before", "2098-01-01T00:00:00Z", "--start-by", "2098-02-01T00:00:00Z",
        "--deadline", "2099-01-01T00:00:00+01:00", "--max-attempts", "2", "--result-ttl", "600",
        "--tag", "a", "--tag", "b", "--metadata", '{"user": "42"}',
    )  # fmt: skip
    assert (job["lane"], job["max_attempts"], job["tags"]) == ("bulk", 2, ["a", "b"])
    assert job["not_before"] == "2098-01-01T00:00:00.000Z"
    assert job["deadline"] == "2098-12-31T23:00:00.000Z"
    assert job["metadata"] == {"user": "42"}
    canceled = terminal.types("cancel", job["id"]).out
    assert "state     canceled" in canceled
    assert "error     canceled: " in canceled
    again = terminal.types("retry", job["id"]).out
    assert "state      queued" in again
    assert terminal.reads("wait", job["id"])["generation"] == 2


def test_a_job_that_does_not_succeed_ends_with_4_and_says_why(terminal: Terminal) -> None:
    failed = terminal.types(*REJECTED, *WAIT, code=4)
    job_id = failed.err.split()[0]
    assert f"forebay: {job_id} failed: {REFUSED}" in failed.err
    assert failed.out == ""
    for verb in ("result", "stream"):
        assert REFUSED in terminal.types(verb, job_id, code=4).err
    assert terminal.reads("wait", job_id, code=4)["error"]["code"] == "provider_rejected"


def test_what_is_not_done_in_time_ends_with_5_and_goes_on(terminal: Terminal) -> None:
    job_id = terminal.reads(*NEVER)["id"]
    for words in (("wait", job_id), ("result", job_id)):
        late = terminal.types(*words, "--timeout", "0.2", code=5)
        assert late.err == f"forebay: {job_id} was not done within 0.2 s\n"
    assert terminal.reads("cancel", job_id)["state"] == "canceled"


def test_jobs_are_found_and_run_again_by_what_they_are(terminal: Terminal) -> None:
    mine = ("--tag", "found-by-verbs")
    ids = [terminal.reads(*REJECTED, *mine)["id"] for _ in range(2)]
    for job_id in ids:
        terminal.types("wait", job_id, code=4)
    head, *rows = terminal.types("jobs", "list", *mine, "--error-code", "provider_rejected") \
        .out.splitlines()  # fmt: skip
    assert head.split() == ["id", "kind", "state", "age", "error"]
    wanted = [job_id + r"  search  failed +\d+[sm] +provider_rejected" for job_id in ids[::-1]]
    for row, pattern in zip(rows, wanted, strict=True):
        assert re.match(pattern, row), row
    listed = terminal.reads(
        "jobs", "list", *mine, "--oldest", "--limit", "1", "--kind", "search", "--state", "failed",
        "--created-after", "2020-01-01T00:00:00Z", "--created-before", "2099-01-01T00:00:00Z",
        "--provider", "searxng",
    )  # fmt: skip
    assert [job["id"] for job in listed] == ids[:1]
    dry = terminal.types("replay", *mine, "--dry-run").out
    assert dry == f"{ids[0]}\n{ids[1]}\nWould run again: 2\n"
    assert terminal.reads("replay", *mine, "--dry-run", "--limit", "1")["has_more"]
    batch = terminal.reads("replay", *mine)
    assert batch["total"] == 2
    terminal.types("batch", "wait", batch["id"], code=4)
    listed = terminal.reads("jobs", "list", "--batch", batch["id"])
    assert {job["id"]: job["generation"] for job in listed} == dict.fromkeys(ids, 2)


def a_line(name: str, query: str, **more: Any) -> str:
    return json.dumps({"custom_id": name, "kind": "search", "input": {"query": query}, **more})


def test_a_batch_is_sent_followed_read_and_run_again(terminal: Terminal, tmp_path: Path) -> None:
    lines = [a_line("good", "weir"), "", a_line("bad", "")]
    rejected = terminal.types("batch", "submit", "-", stdin="\n".join(lines), code=1)
    assert " /1/input/query: String should have at least 1 character" in rejected.err
    words = ("batch", "submit", "-", "--on-invalid", "skip", "--key", "k-2")
    batch_id = terminal.reads(*words, stdin="\n".join(lines))["id"]
    shown = terminal.types(*words, *WAIT, stdin="\n".join(lines), code=4)
    assert shown.err == f"{batch_id}\n"
    names = [line.split()[0] for line in shown.out.splitlines()]
    assert names[:6] == ["id", "done", "jobs", "succeeded", "refused", "item"]
    assert fields(shown.out)["id"] == batch_id
    (line,) = terminal.types("batch", "results", batch_id).out.splitlines()
    assert (json.loads(line)["custom_id"], json.loads(line)["state"]) == ("good", "succeeded")

    (tmp_path / "jobs.ndjson").write_text(
        f"{a_line('a', 'weir')}\n{a_line('b', 'weir [simulate status=400]')}\n"
        f"{a_line('c', 'weir', not_before='2099-01-01T00:00:00Z')}\n"
    )
    batch_id = terminal.reads("batch", "submit", f"{tmp_path}/jobs.ndjson")["id"]
    late = terminal.types("batch", "wait", batch_id, "--timeout", "0.2", code=5)
    assert late.err == f"forebay: {batch_id} was not done within 0.2 s\n"
    terminal.types("batch", "cancel", batch_id)
    ended = terminal.reads("batch", "wait", batch_id, code=4)
    assert (ended["done"], ended["counts"]["canceled"] >= 1) == (True, True)
    assert "done" in terminal.types("batch", "get", batch_id).out
    again = terminal.reads("batch", "retry", batch_id, "--state", "canceled")
    assert again["counts"].get("canceled", 0) == 0
    assert terminal.types("batch", "cancel", batch_id).code == 0


def test_an_endpoint_hears_of_jobs_until_it_is_removed(terminal: Terminal, stack: Stack) -> None:
    url = f"{stack.providers_url}/hooks/verbs"
    made = terminal.types(
        "webhooks", "create", url, "--event", "job.failed", "--description", "ops"
    )
    rows = dict(line.strip().split(maxsplit=1) for line in made.out.splitlines())
    endpoint_id, secret = rows.pop("id"), rows.pop("secret")
    assert rows == {"url": url, "events": "job.failed", "about": "ops"}
    assert re.fullmatch(r"we_[0-9a-f]{32}", endpoint_id)
    assert terminal.types("webhooks", "secret", endpoint_id).out == f"{secret}\n"
    rotated = terminal.types("webhooks", "rotate-secret", endpoint_id).out.strip()
    assert terminal.reads("webhooks", "secret", endpoint_id)["secret"] == rotated != secret
    default = terminal.reads("webhooks", "secret")
    assert (default["id"], default["url"]) == ("default", None)
    head, *listed = terminal.types("webhooks", "list").out.splitlines()
    assert head.split() == ["id", "state", "url,", "events"]
    row = next(n for n, line in enumerate(listed) if line.startswith(endpoint_id))
    joined = " ".join(" ".join(listed[row : row + 2]).split())
    assert joined.startswith(f"{endpoint_id} live {url[:20]}")
    seen = next(one for one in terminal.reads("webhooks", "list") if one["id"] == endpoint_id)
    assert (seen["events"], "secret" in seen) == (["job.failed"], False)
    tested = terminal.types("webhooks", "test", endpoint_id, *WAIT)
    delivery_id = tested.err.strip()
    shown = fields(tested.out)
    assert shown == {
        "id": delivery_id, "event": "webhook.test", "state": "succeeded", "endpoint": endpoint_id,
        "attempts": "1 of 10", "attempt 1": "200",
    }  # fmt: skip
    mine = ("--endpoint", endpoint_id, "--state", "succeeded", "--event", "webhook.test")
    head, row = terminal.types("webhooks", "deliveries", *mine).out.splitlines()
    assert head.split() == ["id", "event", "state", "age", "answered"]
    assert re.fullmatch(delivery_id + r"  webhook.test  succeeded  \d+[sm] +200 *", row)
    again = terminal.reads("webhooks", "redeliver", delivery_id, *WAIT)
    assert (again["generation"], again["state"]) == (2, "succeeded")
    assert terminal.types("webhooks", "remove", endpoint_id).out == f"{endpoint_id} is removed\n"
    gone = terminal.types("webhooks", "test", endpoint_id, code=1)
    assert "There is no such webhook endpoint. (404 not_found" in gone.err


def test_what_a_receiver_refuses_for_good_ends_with_4(terminal: Terminal, stack: Stack) -> None:
    gone = f"{stack.providers_url}/hooks/gone?simulate=status%3D410"
    endpoint_id = terminal.reads("webhooks", "create", gone)["id"]
    tested = terminal.types("webhooks", "test", endpoint_id, *WAIT, code=4)
    assert fields(tested.out)["attempt 1"] == "410"
    assert "disabled (gone)" in terminal.types("webhooks", "list").out
    terminal.types("webhooks", "remove", endpoint_id)


async def until_told(url: str, job_id: str) -> None:
    """A delivery is written down just after the end that it tells of."""
    async with Client(url) as client:

        async def told() -> bool:
            return bool((await client.list_deliveries(job_id=job_id)).data)

        await until(told)


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "search", '{"query": "weir"}'),
        ("search", "weir"),
        ("crawl", "SITE/pages/1"),
        ("llm", "Say hello.", "--model", "small"),
    ],
    ids=lambda words: words[0],
)
def test_a_job_tells_a_url_of_its_own(
    terminal: Terminal, stack: Stack, words: tuple[str, ...]
) -> None:
    here = f"{stack.providers_url}/hooks/own"
    typed_ = [word.replace("SITE", stack.site_url) for word in words]
    job_id = terminal.types(*typed_, "--webhook", here, *WAIT).err.strip()
    of_job = ("webhooks", "deliveries", "--job", job_id, "--endpoint", "default", "--limit", "1")
    asyncio.run(until_told(stack.ingress_url, job_id))
    (told,) = terminal.reads(*of_job)
    assert (told["event"], told["job_id"]) == ("job.succeeded", job_id)
    assert told["id"] in terminal.types("webhooks", "deliveries", "--job", job_id).out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("submit", "search", "nonsense"), "not JSON"),
        (("submit", "search", "[1]"), "a JSON object"),
        (("submit", "search", "@/nowhere"), "cannot be read"),
        (("submit", "mail", "{}"), "mail"),
        ((*NEVER[:3], "--deadline", "tomorrow"), "a time with its offset"),
        ((*NEVER[:3], "--deadline", "2099-01-01T00:00:00"), "a time with its offset"),
        (("batch", "submit", "/nowhere"), "cannot be read"),
        (("batch", "submit", "-"), "there is no line in it"),
        (("llm", "Say hello."), "--model"),
    ],
)
def test_words_that_make_no_sense_end_with_2(
    terminal: Terminal, words: tuple[str, ...], said: str
) -> None:
    assert said in " ".join(terminal.types(*words, code=2).err.split())


def test_what_the_service_refuses_ends_with_1_and_names_the_place(terminal: Terminal) -> None:
    refused = terminal.types("submit", "search", '{"qeury": "secret"}', code=1)
    assert "/input/query: Field required; /input/qeury: This field is not known" in refused.err
    assert "secret" not in refused.err


async def test_ctrl_c_ends_a_wait_quietly_with_130(stack: Stack) -> None:
    waiting = await begin("search", "weir [simulate latency=60]", *WAIT, URL=stack.ingress_url)
    assert waiting.stderr is not None
    job_id = (await waiting.stderr.readline()).decode().strip()
    waiting.send_signal(signal.SIGINT)
    out, err = await waiting.communicate()
    assert (waiting.returncode, out, err) == (130, b"", b"")
    stopping = await begin("cancel", job_id, URL=stack.ingress_url)
    assert await stopping.wait() == 0


@pytest.mark.parametrize("verb", verbs_of(CALLERS), ids=" ".join)
def test_a_verb_for_callers_is_typed_here(verb: tuple[str, ...]) -> None:
    words = ", ".join(f'"{word}"' for word in verb)
    assert re.search(rf"[(\s]{words}", Path(__file__).read_text("utf-8"))


def test_there_are_verbs_for_callers() -> None:
    assert len(verbs_of(CALLERS)) == 27
