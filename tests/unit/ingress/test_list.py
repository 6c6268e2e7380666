"""`GET /v1/jobs`: what its query may be, and the page that follows."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.ingress_by_hand import World


@pytest.mark.parametrize("query", ["state=", "state=queued,", "kind=,", "include="])
async def test_a_value_that_is_none_is_refused(world: World, query: str) -> None:
    answer = await world.client.get(f"/v1/jobs?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


async def test_the_next_page_keeps_the_times_that_were_asked_for(world: World) -> None:
    for _ in range(2):
        await world.submit()
    times = {"created_after": "2020-01-01T00:00:00Z", "created_before": "2099-01-01T00:00:00Z"}
    page = await world.client.get("/v1/jobs", params={**times, "limit": "1"})
    following = parse_qs(urlsplit(page.links["next"]["url"]).query)
    for name, time in times.items():
        assert datetime.fromisoformat(following[name][0]) == datetime.fromisoformat(time)
    last = await world.client.get(page.links["next"]["url"])
    assert (len(last.json()["data"]), last.json()["has_more"]) == (1, False)
