"""A large batch, some of its items wrong, through real processes.

`--count=10000` is the long form: the largest batch there may be, accepted within 3 s.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from forebay.local.stack import Stack
from forebay.testing.polling import until

from .worker_settings import of_workers

ITEMS = 500
BAD, FAILING = 70, 30
WITHIN_S = 3.0


def items(count: int) -> list[dict[str, Any]]:
    """Some cannot be accepted; some are, and their provider refuses them."""
    queries = [f"number {n}" for n in range(count)]
    for n in range(BAD):
        queries[n * count // BAD] = ""
    for n in range(FAILING):
        queries[n * count // FAILING + 1] = f"failing {n} [simulate status=400]"
    return [
        {"custom_id": f"item-{n}", "kind": "search", "lane": "bulk", "input": {"query": query}}
        for n, query in enumerate(queries)
    ]


@pytest.mark.e2e
@pytest.mark.timeout(600)
async def test_a_batch_names_what_is_wrong_and_one_call_runs_again_what_failed(
    tmp_path: Path, request: pytest.FixtureRequest, figures: list[str]
) -> None:
    count = request.config.getoption("--count") or ITEMS
    sent = items(count)
    bad = [n for n, one in enumerate(sent) if one["input"]["query"] == ""]
    failing = {one["custom_id"] for one in sent if "failing" in one["input"]["query"]}
    assert (len(bad), len(failing)) == (BAD, FAILING)
    quick = of_workers("SEARCH", CONCURRENCY=200)
    async with (
        Stack(tmp_path, env=quick) as stack,
        aiohttp.ClientSession(stack.ingress_url) as session,
    ):
        batch = json.dumps({"jobs": sent, "on_invalid": "skip"})
        headers = {"Content-Type": "application/json"}
        began = time.monotonic()
        async with session.post("/v1/batches", data=batch, headers=headers) as answer:
            said = await answer.json()
            seconds = time.monotonic() - began
        assert answer.status == 202, said
        assert (said["total"], said["rejected"]) == (count, BAD)
        assert [error["index"] for error in said["errors"]] == bad
        assert {error["error"]["errors"][0]["pointer"] for error in said["errors"]} == {
            "/input/query"
        }
        path = f"/v1/batches/{said['id']}"

        async def counts_of_the_end() -> dict[str, int]:
            async def done() -> bool:
                async with session.get(path) as answer:
                    found.update(await answer.json())
                return bool(found["done"])

            found: dict[str, Any] = {}
            await until(done, 240)
            return dict(found["counts"])

        ended = {"succeeded": count - BAD - FAILING, "failed": FAILING}
        assert await counts_of_the_end() == ended
        async with session.post(f"{path}/retry") as answer:
            assert answer.status == 202
        assert await counts_of_the_end() == ended
        async with session.get(f"{path}/results") as answer:
            lines = [json.loads(line) async for line in answer.content]
        assert {line["custom_id"] for line in lines if line["state"] == "failed"} == failing
        async with session.get("/v1/jobs?state=failed&limit=200") as answer:
            assert {job["generation"] for job in (await answer.json())["data"]} == {2}
        async with session.get("/v1/jobs?state=succeeded&limit=200") as answer:
            assert {job["generation"] for job in (await answer.json())["data"]} == {1}
    figures.append(f"a batch of {count} with {BAD} bad items: 202 after {seconds:.2f} s")
    assert seconds <= WITHIN_S
