"""S5: whatever stands in a string of a request is stored as it is, or refused; it is never obeyed,
and never a defect."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

from forebay.jobs import Event
from tests.ingress_by_hand import JSON, SEARCH, World, ingress
from tests.odd_text import (
    INPUTS,
    ODD,
    REPLAY,
    Path,
    found,
    names,
    strings,
    submissions,
    with_name,
    with_text,
    written,
)

NDJSON = {"Content-Type": "application/x-ndjson"}
SUBMISSIONS = submissions()
REFUSED = {400, 413, 422}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ingress(max_batches=4) as opened:
        yield opened


def as_batch(body: bytes) -> bytes:
    return b'{"jobs":[' + body + b"]}"


BODIES: dict[str, tuple[str, dict[str, str], Any, Callable[[bytes], bytes]]] = {
    **{f"a {kind} job": ("/v1/jobs", JSON, body, bytes) for kind, body in SUBMISSIONS.items()},
    **{f"a {kind} alone": (f"/v1/{kind}", JSON, body, bytes) for kind, body in INPUTS.items()},
    **{
        f"a batch of {kind}": ("/v1/batches", JSON, body, as_batch)
        for kind, body in SUBMISSIONS.items()
    },
    "a line of a batch": ("/v1/batches", NDJSON, {**SUBMISSIONS["llm"], "custom_id": "a"}, bytes),
    "a replay": ("/v1/jobs/replay", JSON, REPLAY, bytes),
    "a batch": (
        "/v1/batches",
        JSON,
        {"jobs": [SUBMISSIONS["search"]], "on_invalid": "skip", "metadata": {"a": "b"}},
        bytes,
    ),
}


def oddities(body: Any) -> Iterator[tuple[Path, str, Any]]:
    for text in ODD:
        for path in strings(body):
            yield path, text, with_text(body, path, text)
        for path in names(body):
            yield (*path[:-1], text), text, with_name(body, path, text)


@pytest.mark.parametrize("what", BODIES)
async def test_an_odd_text_anywhere_is_kept_verbatim_or_refused(
    world: World, what: str, figures: list[str]
) -> None:
    path, headers, body, wrap = BODIES[what]
    answers: Counter[int] = Counter()
    assert (
        await world.client.post(path, content=wrap(next(written(body))), headers=headers)
    ).status_code == 202, "the body is right before anything odd is put into it"
    for at, text, odd in oddities(body):
        for content in written(odd):
            answer = await world.client.post(path, content=wrap(content), headers=headers)
            answers[answer.status_code] += 1
            assert answer.status_code in REFUSED | {202}, (at, text, answer.text)
            if answer.status_code == 202:
                await kept(world, what, answer.json(), at, found(odd, at))
    said = dict(sorted(answers.items()))
    figures.append(f"S5: {what}: {answers.total()} odd texts, answers {said}")
    assert not [log for log in world.logs if log.get("level") == "error"]


async def kept(world: World, what: str, said: Any, at: Path, value: Any) -> None:
    """It is in the store as it was sent."""
    if what.endswith("alone"):
        job = await world.stored(said["id"])
        assert found(json.loads(job.input), at) == as_kept(at, value)
    elif what.endswith("job") and at[0] in ("input", "metadata", "tags"):
        job = await world.stored(said["id"])
        shown = (await world.client.get(said["links"]["self"])).json()
        if at[0] == "input":
            assert found(json.loads(job.input), at[1:]) == as_kept(at, value)
        else:
            assert found(shown, at) == value


def as_kept(at: Path, value: Any) -> Any:
    """A query and the name of a model lose the blanks around them, and nothing else."""
    return value.strip() if at[-1] in ("query", "model") else value


FILTERS = (
    *("state", "kind", "provider", "tag", "batch_id", "error_code", "created_after"),
    *("created_before", "dead_lettered", "order", "limit", "cursor", "wait", "include"),
)


@pytest.mark.parametrize("text", ODD)
async def test_an_odd_text_in_a_query_a_path_or_a_header_is_no_defect(
    world: World, text: str
) -> None:
    raw = quote(text.encode(errors="surrogatepass"), safe="")
    job = await world.submit()
    paths = [f"/v1/jobs?{name}={raw}" for name in FILTERS]
    paths += [f"/v1/jobs?{raw}={raw}", f"/v1/jobs/{raw}", f"/v1/jobs/{raw}/events"]
    paths += [f"/v1/jobs/{raw}/result", f"/v1/batches/{raw}", f"/v1/batches/{raw}/results"]
    paths += [f"/v1/jobs/{job['id']}?wait={raw}", f"/v1/jobs/{job['id']}?include={raw}"]
    for path in paths:
        answer = await world.client.get(path)
        assert answer.status_code in {200, 400, 404, 405, 422}, (path, answer.text)
    for path in (f"/v1/jobs/{raw}/cancel", f"/v1/jobs/{raw}/retry", f"/v1/batches/{raw}/retry"):
        assert (await world.client.post(path)).status_code in {404, 405, 422}
    assert (await world.client.delete(f"/v1/jobs/{raw}")).status_code in {404, 405}
    for header in ("Idempotency-Key", "Prefer", "traceparent", "Content-Type"):
        value = text.encode(errors="surrogatepass")
        answer = await world.client.post(
            "/v1/search",
            content=json.dumps(SEARCH),
            headers={**JSON, header: value},  # type: ignore[dict-item] # bytes pass
        )
        assert answer.status_code in {202, 400, 415, 422}, (header, answer.text)
    # What was there before is there still: no filter became a condition on everything.
    assert (await world.client.get(f"/v1/jobs/{job['id']}")).json()["state"] == "queued"


@pytest.mark.parametrize("text", ["\ud800", "a\x00b \ud83d", "\U0001f600 \udc00"])
async def test_an_odd_text_that_a_model_wrote_is_told_as_events(world: World, text: str) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "x"}]}
    job = await world.submit("llm", body)
    result = json.dumps({"model": "small", "content": text})
    await world.finish(job["id"], Event.SUCCEEDED, result=result)
    answer = await world.client.get(f"/v1/jobs/{job['id']}/events")
    assert answer.status_code == 200
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    deltas = [said["delta"] for said in map(json.loads, events) if "delta" in said]
    assert "".join(deltas) == text
    shown = await world.client.get(f"/v1/jobs/{job['id']}")
    assert json.loads(shown.content)["result"]["content"] == text
