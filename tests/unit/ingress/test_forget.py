"""`DELETE /v1/jobs/{id}`."""

from __future__ import annotations

import pytest

from forebay.jobs import Event
from tests.ingress_by_hand import World

UNKNOWN = "job_" + "0" * 32


async def test_a_job_that_is_done_is_forgotten(world: World) -> None:
    job = await world.submit()
    await world.finish(job["id"], Event.SUCCEEDED, result="[1]")
    answer = await world.client.delete(f"/v1/jobs/{job['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    for path in ("", "/result"):
        assert (await world.client.get(f"/v1/jobs/{job['id']}{path}")).status_code == 404
    assert (await world.client.delete(f"/v1/jobs/{job['id']}")).status_code == 404


async def test_its_key_makes_a_new_job(world: World) -> None:
    job = await world.submit(**{"Idempotency-Key": "one"})
    await world.finish(job["id"], Event.SUCCEEDED, result="[1]")
    await world.client.delete(f"/v1/jobs/{job['id']}")
    assert (await world.submit(**{"Idempotency-Key": "one"}))["id"] != job["id"]


async def test_a_job_that_is_not_done_is_409(world: World) -> None:
    job = await world.submit()
    answer = await world.client.delete(f"/v1/jobs/{job['id']}")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_terminal")
    assert (await world.client.get(f"/v1/jobs/{job['id']}")).status_code == 200


@pytest.mark.parametrize("job_id", [UNKNOWN, "nonsense"])
async def test_no_such_job_is_404(world: World, job_id: str) -> None:
    assert (await world.client.delete(f"/v1/jobs/{job_id}")).status_code == 404
