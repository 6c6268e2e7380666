"""Open mode and the browser: what a web page sends is no program's request."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ingress.settings import Authentication
from tests.ingress_by_hand import World, ingress

SECRET = "/v1/webhook-endpoints/default/secret"
ROTATE = "/v1/webhook-endpoints/default/rotate-secret"


@pytest.fixture
async def behind_a_gate() -> AsyncIterator[World]:
    async with ingress(allow_open=True) as opened:
        yield opened


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8080", "a.localhost:1", "127.0.0.1", "127.1.2.3:8080", "[::1]:8080"],
)
async def test_this_machine_is_served_by_its_own_names(world: World, host: str) -> None:
    answer = await world.client.get("/v1/jobs", headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8080",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "10.0.0.1",
        "0.0.0.0:8080",
        "[::1",
        "",
    ],
)
async def test_another_name_is_refused_everywhere_but_at_the_probes(
    world: World, host: str
) -> None:
    headers = {"Host": host}
    for method, path in (("GET", "/v1/jobs"), ("POST", ROTATE), ("GET", SECRET)):
        answer = await world.client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), path
        assert "call http://localhost" in answer.json()["detail"]
        assert not host or host not in answer.text
    for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
        assert (await world.client.get(path, headers=headers)).status_code == 200, path


async def test_two_names_at_once_are_refused(world: World) -> None:
    headers = [("Host", "localhost"), ("Host", "evil.example")]
    assert (await world.client.get("/v1/jobs", headers=headers)).status_code == 403


OTHER_PAGES = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost.evil.example:8080"},
    {"Origin": "null"},
    {"Origin": "http://localhost:8080", "Sec-Fetch-Site": "cross-site"},
)


@pytest.mark.parametrize("headers", OTHER_PAGES)
async def test_a_page_of_another_site_changes_nothing(
    world: World, headers: dict[str, str]
) -> None:
    before = (await world.client.get(SECRET)).json()["secret"]
    for method, path in (("POST", ROTATE), ("GET", SECRET)):
        answer = await world.client.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "a web page of another site" in answer.json()["detail"]
    assert (await world.client.get(SECRET)).json()["secret"] == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8080"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost:8080"},
    ],
)
async def test_our_own_page_and_the_address_bar_are_served(
    world: World, headers: dict[str, str]
) -> None:
    assert (await world.client.post(ROTATE, headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", OTHER_PAGES)
async def test_behind_a_gate_of_somebody_else_a_page_of_another_site_is_refused_too(
    behind_a_gate: World, headers: dict[str, str]
) -> None:
    named = {"Host": "ingress:8080"}
    assert (await behind_a_gate.client.post(ROTATE, headers=named)).status_code == 200
    answer = await behind_a_gate.client.post(ROTATE, headers=named | headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "ingress:8080", "Origin": "http://ingress:8080"},
        # A proxy says the name of the service in `Host`.
        {"Host": "ingress", "Origin": "https://forebay.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_behind_a_gate_of_somebody_else_our_page_may_have_any_name(
    behind_a_gate: World, headers: dict[str, str]
) -> None:
    assert (await behind_a_gate.client.post(ROTATE, headers=headers)).status_code == 200


async def test_where_keys_are_asked_for_names_and_pages_do_not_matter() -> None:
    async with ingress(authentication=Authentication.KEYS) as world:
        headers = {"Host": "evil.example", **OTHER_PAGES[0]}
        assert (await world.client.get("/v1/jobs", headers=headers)).status_code == 401
