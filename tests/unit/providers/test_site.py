from __future__ import annotations

import gzip
import zlib
from urllib.parse import urljoin, urlsplit

import aiohttp
import pytest
from protego import Protego
from selectolax.lexbor import LexborHTMLParser

from loadtest.providers import Kind, Providers


async def test_every_page_is_reached_by_links_from_the_first(
    world: Providers, client: aiohttp.ClientSession
):
    found, waiting = {"/pages/1"}, ["/pages/1"]
    while waiting:
        async with client.get(world.site_url + waiting.pop()) as answer:
            assert answer.status == 200
            tree = LexborHTMLParser(await answer.text())
        for link in tree.css("main a[href]"):
            path = urlsplit(urljoin("/pages/", link.attributes["href"] or "")).path
            if path.startswith("/pages/") and path.removeprefix("/pages/").isdigit():
                waiting += [] if path in found else [path]
                found.add(path)
    assert len(found) == 400


async def test_a_page_has_what_a_crawler_extracts(world: Providers, client: aiohttp.ClientSession):
    async with client.get(f"{world.site_url}/pages/3") as answer:
        tree = LexborHTMLParser(await answer.text())
    assert tree.css_first("title").text()
    assert tree.css_first('meta[name="description"]').attributes["content"]
    for selector in ("nav a", "main h1", "main h2", "main p", "footer", 'a[href^="#"]'):
        assert tree.css_first(selector) is not None, selector
    external = [a for a in tree.css("a") if "outside.example" in (a.attributes["href"] or "")]
    assert len(external) == 1


async def test_pages_depend_on_the_seed_alone(client: aiohttp.ClientSession):
    texts = []
    for seed in (1, 1, 2):
        async with (
            Providers(seed=seed) as world,
            client.get(f"{world.site_url}/pages/5") as answer,
        ):
            texts.append(await answer.text())
    assert texts[0] == texts[1] != texts[2]


async def test_robots_txt_keeps_a_subtree_closed(world: Providers, client: aiohttp.ClientSession):
    async with client.get(f"{world.site_url}/robots.txt") as answer:
        robots = Protego.parse(await answer.text())
    assert not robots.can_fetch("/private/1", "forebay")
    assert robots.can_fetch("/pages/1", "forebay")
    assert robots.crawl_delay("forebay") == 0.01
    assert robots.crawl_delay("slowbot") == 5
    assert not robots.can_fetch("/pages/1", "bannedbot")


async def test_redirects_lead_where_they_say(world: Providers, client: aiohttp.ClientSession):
    async with client.get(f"{world.site_url}/redirect/chain/3") as answer:
        assert (answer.status, answer.url.path, len(answer.history)) == (200, "/pages/1", 3)
    with pytest.raises(aiohttp.TooManyRedirects):
        await client.get(f"{world.site_url}/redirect/loop")
    url = f"{world.site_url}/redirect/forbidden"
    async with client.get(url, allow_redirects=False) as answer:
        assert answer.headers["Location"].startswith("http://169.254.169.254/")


@pytest.mark.parametrize(
    ("name", "charset", "declared"),
    [
        ("latin1-header", "latin-1", "text/html; charset=ISO-8859-1"),
        ("latin1-meta", "latin-1", "text/html"),
        ("utf8-bom", "utf-8-sig", "text/html"),
        ("lying", "latin-1", "text/html; charset=utf-8"),
    ],
)
async def test_charsets_are_declared_in_several_ways(
    world: Providers, client: aiohttp.ClientSession, name: str, charset: str, declared: str
):
    async with client.get(f"{world.site_url}/charset/{name}") as answer:
        body = await answer.read()
    assert answer.headers["Content-Type"] == declared
    assert "Café déjà vu" in body.decode(charset)
    assert (b"iso-8859-1" in body) == (name == "latin1-meta")


async def test_gzip_is_a_page_and_the_bomb_is_a_bomb(world: Providers):
    async with aiohttp.ClientSession(auto_decompress=False) as raw:
        async with raw.get(f"{world.site_url}/gzip") as answer:
            assert b"<h1>" in gzip.decompress(await answer.read())
        async with raw.get(f"{world.site_url}/bomb") as answer:
            bomb = await answer.read()
    assert len(bomb) < 300_000
    opened = zlib.decompressobj(31)
    size = len(opened.decompress(bomb, 1 << 20))
    while opened.unconsumed_tail:
        size += len(opened.decompress(opened.unconsumed_tail, 1 << 20))
    assert opened.eof
    assert size == 256 * 1024 * 1024


async def test_an_endless_body_goes_on_until_the_reader_leaves(
    world: Providers, client: aiohttp.ClientSession
):
    async with client.get(f"{world.site_url}/endless") as answer:
        got = 0
        async for piece in answer.content.iter_any():
            got += len(piece)
            if got > 1_000_000:
                break
        answer.close()
    await world.calls.until(lambda: world.calls.in_flight(Kind.CRAWL) == 0)
    assert world.calls.calls()[0].client_gone


async def test_a_huge_body_is_64_mib(world: Providers, client: aiohttp.ClientSession):
    async with client.get(f"{world.site_url}/huge") as answer:
        size = sum([len(piece) async for piece in answer.content.iter_any()])
    assert 64 * 1024 * 1024 < size < 65 * 1024 * 1024


async def test_a_drip_is_a_few_bytes_at_a_time(world: Providers, client: aiohttp.ClientSession):
    async with client.get(f"{world.site_url}/drip") as answer:
        assert len(await answer.content.readany()) <= 16
        answer.close()


@pytest.mark.parametrize("status", [404, 410, 429, 500, 503])
async def test_statuses_are_answered_as_asked(
    world: Providers, client: aiohttp.ClientSession, status: int
):
    async with client.get(f"{world.site_url}/status/{status}") as answer:
        assert answer.status == status
        assert ("Retry-After" in answer.headers) == (status in {429, 503})


async def test_what_is_not_there_is_404(world: Providers, client: aiohttp.ClientSession):
    for path in ("/pages/401", "/pages/0", "/nothing", "/redirect/nowhere", "/type/odd"):
        async with client.get(world.site_url + path) as answer:
            assert answer.status == 404, path


async def test_a_directive_in_the_url_counts_calls_by_path(
    world: Providers, client: aiohttp.ClientSession
):
    statuses = []
    headers = {"X-Request-ID": "job_1.1"}
    for path in ("/robots.txt", "/pages/1", "/pages/1", "/pages/2"):
        words = "" if path == "/robots.txt" else "?simulate=status=500,times=1"
        async with client.get(world.site_url + path + words, headers=headers) as answer:
            statuses.append(answer.status)
    assert statuses == [200, 500, 200, 500]


async def test_firecrawl_gives_the_formats_asked_for(
    world: Providers, client: aiohttp.ClientSession
):
    page = f"{world.site_url}/pages/3"
    body = {"url": page, "formats": ["markdown", "links", {"type": "html"}]}
    headers = {"Authorization": "Bearer k"}
    for version in ("v1", "v2"):
        url = f"{world.providers_url}/firecrawl/{version}/scrape"
        async with client.post(url, json=body, headers=headers) as answer:
            document = await answer.json()
        assert document["success"] is True
        assert set(document["data"]) == {"markdown", "html", "links", "metadata"}
        assert document["data"]["metadata"]["sourceURL"] == page
        assert document["data"]["metadata"]["statusCode"] == 200
    async with client.get(page) as answer:
        assert await answer.text() == document["data"]["html"]


async def test_firecrawl_refuses_in_its_own_shape(world: Providers, client: aiohttp.ClientSession):
    url = f"{world.providers_url}/firecrawl/v2/scrape"
    async with client.post(url, json={"url": "https://a.example/"}) as answer:
        assert answer.status == 401
        assert (await answer.json())["success"] is False
    for bad in ({"url": "ftp://a.example/"}, {"url": 3}, {}, {"url": "https://a", "formats": "x"}):
        async with client.post(url, json=bad, headers={"Authorization": "Bearer k"}) as answer:
            assert answer.status == 400, bad
