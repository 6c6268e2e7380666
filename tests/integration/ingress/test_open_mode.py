"""Open mode on a real socket: programs of this machine are served, web pages of other sites not."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from forebay.healthcheck import check
from tests.ingress_process import NOBODY, IngressProcess, serving

ENDPOINT = "/v1/webhook-endpoints/default"
REBOUND = {"Host": "evil.example:8080"}
FORM = {
    "Content-Type": "text/plain",
    "Sec-Fetch-Site": "cross-site",
    "Origin": "http://evil.example",
}


async def asked(
    session: aiohttp.ClientSession, method: str, url: str, headers: dict[str, str]
) -> tuple[int, Any]:
    async with session.request(method, url, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def secret(session: aiohttp.ClientSession, ingress: IngressProcess) -> str:
    status, said = await asked(session, "GET", f"{ingress.url}{ENDPOINT}/secret", {})
    assert status == 200
    return str(said["secret"])


async def test_on_loopback_a_web_page_reads_and_changes_nothing(
    session: aiohttp.ClientSession, ingress: IngressProcess
) -> None:
    before = await secret(session, ingress)
    for method, path, headers in (
        ("GET", "/v1/jobs", REBOUND),
        ("GET", f"{ENDPOINT}/secret", REBOUND),
        ("POST", f"{ENDPOINT}/rotate-secret", REBOUND),
        ("POST", f"{ENDPOINT}/rotate-secret", FORM),
    ):
        status, problem = await asked(session, method, f"{ingress.url}{path}", headers)
        assert (status, problem["code"]) == (403, "forbidden"), (method, path)
    assert await secret(session, ingress) == before
    local = {"Host": f"localhost:{ingress.port}"}
    assert (await asked(session, "GET", f"{ingress.url}/v1/jobs", local))[0] == 200


async def test_probes_and_the_page_of_the_docs_are_served_to_everybody(
    session: aiohttp.ClientSession, ingress: IngressProcess
) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
        async with session.get(f"{ingress.url}{path}", headers=REBOUND) as answer:
            assert answer.status == 200, path
    assert await asyncio.to_thread(check, f"{ingress.url}/readyz") is None


async def test_where_open_mode_is_allowed_on_every_address_the_name_may_be_any(
    session: aiohttp.ClientSession, mongodb_url: str, database: str
) -> None:
    settings = {"MONGODB_URL": mongodb_url, "MONGODB_DATABASE": database, "AMQP_URL": NOBODY}
    everywhere = {"INGRESS_HOST": "0.0.0.0", "INGRESS_ALLOW_OPEN": "true"}  # noqa: S104
    async with serving(session, **settings, **everywhere) as ingress:
        named = {"Host": "ingress:8080"}
        assert (await asked(session, "GET", f"{ingress.url}/v1/jobs", named))[0] == 200
        url = f"{ingress.url}{ENDPOINT}/rotate-secret"
        assert (await asked(session, "POST", url, named | FORM))[0] == 403
        own_page = named | {"Origin": "http://ingress:8080"}
        assert (await asked(session, "POST", url, own_page))[0] == 200
