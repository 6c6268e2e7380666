"""The crawler on a real site: Debian's `python3-doc`, served by nginx, 200 pages."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from crawler_worker.handler import open_handler
from crawler_worker.settings import CrawlerSettings, FirecrawlSettings, SiteSettings
from forebay.jobs import Job, JobKind, JobState, Lane
from forebay.outcomes import Succeeded
from forebay.requests import CrawlFormat, CrawlRequest, Follow

MANUAL = Path(os.environ.get("FOREBAY_TEST_PYTHON_DOCS", "/usr/share/doc/python3.11/html"))
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
PAGES = 200
CRAWL_DELAY_S = 0.05
CLOCK_GRAIN_S = 0.012
"""nginx's log has milliseconds of a clock it refreshes once an event round."""
ROBOTS = f"""\
User-agent: ForebayBot
Disallow: /library/
Allow: /library/intro.html
Crawl-delay: {CRAWL_DELAY_S}

User-agent: *
Disallow: /
"""

pytestmark = [
    pytest.mark.skipif(
        not (MANUAL / "index.html").exists(),
        reason="needs Debian's python3-doc (or FOREBAY_TEST_PYTHON_DOCS)",
    ),
    pytest.mark.skipif(not Path(NGINX).exists(), reason="needs Debian's nginx-light"),
    pytest.mark.timeout(120),
]


@dataclass(frozen=True)
class Line:
    at: float
    path: str
    status: int
    agent: str


@dataclass(frozen=True)
class Server:
    port: int
    log: Path

    def requests(self) -> list[Line]:
        lines = [line.split("|") for line in self.log.read_text().splitlines()]
        return sorted(
            (Line(float(at), path, int(status), agent) for at, path, status, agent in lines),
            key=lambda line: line.at,
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def configuration(folder: Path, port: int) -> str:
    return f"""
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
  include /etc/nginx/mime.types; charset utf-8; gzip on; gzip_types text/css;
  log_format seen '$msec|$uri|$status|$http_user_agent';
  access_log {folder}/access.log seen;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {MANUAL};
    location = /robots.txt {{ alias {folder}/robots.txt; }}
  }}
}}
"""


async def answers(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0)
            continue
        writer.close()
        await writer.wait_closed()
        return


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    port = free_port()
    (tmp_path / "robots.txt").write_text(ROBOTS)
    (tmp_path / "nginx.conf").write_text(configuration(tmp_path, port))
    process = await asyncio.create_subprocess_exec(
        NGINX, "-e", str(tmp_path / "error.log"), "-c", str(tmp_path / "nginx.conf"),
        "-p", str(tmp_path),
    )  # fmt: skip
    try:
        async with asyncio.timeout(10):
            await answers(port)
        yield Server(port, tmp_path / "access.log")
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


def crawl_job() -> Job:
    return Job(
        id="job_manual",
        tenant="test",
        kind=JobKind.CRAWL,
        lane=Lane.DEFAULT,
        state=JobState.RUNNING,
        input="{}",
        created_at=datetime.now(UTC),
        attempts=1,
        max_attempts=1,
    )


async def test_two_hundred_pages_of_the_python_manual_are_read_politely(server: Server) -> None:
    request = CrawlRequest(
        url=f"http://127.0.0.1:{server.port}/index.html",
        formats=(CrawlFormat.MARKDOWN, CrawlFormat.LINKS),
        max_bytes=400_000,
        follow=Follow(max_depth=6, max_pages=PAGES),
    )
    sites = SiteSettings(crawl_delay_s=0.0, per_host_concurrency=2, host_patience_s=60)
    allow = frozenset({("127.0.0.1", server.port)})
    settings = CrawlerSettings(timeout_s=110)
    async with open_handler(settings, sites, FirecrawlSettings(), allow) as handler:
        outcome = await handler.handle(crawl_job(), request)

    assert isinstance(outcome, Succeeded), outcome
    result = json.loads(outcome.result)
    pages = result["pages"]
    assert result["pages_fetched"] == len(pages) == PAGES
    assert result["stopped_by"] == "max_pages"
    assert all(page["title"] and page["links"] for page in pages)
    assert all(len(page["markdown"]) > 100 for page in pages)
    assert len({page["final_url"] for page in pages}) == PAGES
    assert any(re.search(r"\[[^]]+\]\([^)]+\)", page["markdown"]) for page in pages)

    seen = server.requests()
    assert seen[0].path == "/robots.txt"
    assert sum(line.path == "/robots.txt" for line in seen) == 1
    fetched = seen[1:]
    assert len(fetched) >= PAGES
    assert all(line.agent.startswith("ForebayBot/") for line in seen)
    assert {line.path for line in fetched if line.path.startswith("/library/")} <= {
        "/library/intro.html"
    }
    denied = [entry for entry in result["skipped"] if entry["reason"] == "robots_denied"]
    assert denied, "the manual links into its library, so the rule must have been met"

    gaps = sorted(b.at - a.at for a, b in pairwise(fetched))
    took_s = fetched[-1].at - fetched[0].at
    assert took_s >= (len(fetched) - 1) * CRAWL_DELAY_S - CLOCK_GRAIN_S
    # The log tells when an answer ended, so single gaps are blurred; the middle one is not.
    assert gaps[len(gaps) // 2] >= CRAWL_DELAY_S - CLOCK_GRAIN_S
    in_a_second = max(sum(a.at <= b.at < a.at + 1 for b in fetched) for a in fetched)
    assert in_a_second <= 1 / CRAWL_DELAY_S + 2
    logging.getLogger(__name__).info(
        "%d pages in %.1f s, %.1f a second, %d in the busiest; gaps %d ms at least, %d ms median; "
        "%d links skipped",
        *(len(pages), took_s, len(fetched) / took_s, in_a_second),
        *(gaps[0] * 1000, gaps[len(gaps) // 2] * 1000, result["skipped_total"]),
    )
