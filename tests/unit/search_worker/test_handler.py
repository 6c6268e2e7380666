"""One call a job, whatever comes back; over a real local server."""

from __future__ import annotations

import asyncio
import gzip
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from forebay.errors import ErrorCode
from forebay.jobs import JobKind
from forebay.outcomes import Call, Failed, Outcome, Retry, Succeeded
from forebay.requests import SearchRequest
from search_worker.handler import SearchHandler, open_handler
from search_worker.settings import SearchSettings
from tests.jobs_by_hand import running_job
from tests.local_api import LocalApi

REQUEST = SearchRequest(query="hydro power")
GOOD = {"results": [{"url": "https://a.example/", "title": "T", "content": "S"}]}


async def search(handler: SearchHandler, *order: str, attempts: int = 1) -> Outcome:
    return await handler.handle(running_job(JobKind.SEARCH, *order, attempts=attempts), REQUEST)


async def test_a_good_answer_is_stored_with_whom_we_called(
    api: LocalApi, handler: SearchHandler
) -> None:
    api.answers(GOOD, X_Request_ID="req-7")
    outcome = await search(handler, attempts=3)
    assert isinstance(outcome, Succeeded)
    assert outcome.call == Call("searxng", 200, "req-7")
    assert json.loads(outcome.result)["results"][0]["url"] == "https://a.example/"
    [seen] = api.seen
    assert (seen.method, seen.path) == ("GET", "/searxng/search")
    assert seen.headers["X-Request-ID"] == "job_0199.3"


@pytest.mark.parametrize(
    ("name", "header", "value", "path"),
    [
        ("brave", "X-Subscription-Token", "brave-key", "/brave/res/v1/web/search"),
        ("tavily", "Authorization", "Bearer tavily-key", "/tavily/search"),
        ("serper", "X-API-KEY", "serper-key", "/serper/search"),
    ],
)
async def test_each_api_is_called_where_it_is_with_its_key(
    api: LocalApi, handler: SearchHandler, name: str, header: str, value: str, path: str
) -> None:
    api.answers({**GOOD, "type": "search", "searchParameters": {}})
    assert isinstance(await search(handler, name), Succeeded)
    [seen] = api.seen
    assert seen.path == path
    assert seen.headers[header] == value


@pytest.mark.parametrize("name", ["searxng", "brave", "tavily", "serper"])
@pytest.mark.parametrize(
    ("status", "code", "passing"),
    [
        (400, ErrorCode.PROVIDER_REJECTED, False),
        (401, ErrorCode.PROVIDER_AUTH, False),
        (403, ErrorCode.PROVIDER_AUTH, False),
        (404, ErrorCode.PROVIDER_REJECTED, False),
        (408, ErrorCode.PROVIDER_TIMEOUT, True),
        (422, ErrorCode.PROVIDER_REJECTED, False),
        (429, ErrorCode.PROVIDER_RATE_LIMITED, True),
        (500, ErrorCode.PROVIDER_ERROR, True),
        (503, ErrorCode.PROVIDER_ERROR, True),
        (301, ErrorCode.PROVIDER_REJECTED, False),
    ],
)
async def test_a_refusal_is_a_value_after_exactly_one_call(
    api: LocalApi, handler: SearchHandler, name: str, status: int, code: ErrorCode, passing: bool
) -> None:
    api.answers({"error": "no"}, status, Location="http://127.0.0.1:9/elsewhere")
    outcome = await search(handler, name)
    assert isinstance(outcome, Retry if passing else Failed)
    assert (outcome.error.code, outcome.error.retryable) == (code, passing)
    assert outcome.call == Call(name, status)
    assert len(api.seen) == 1


@pytest.mark.parametrize(
    ("said", "low", "high"),
    [("7", 7, 7), ("http-date", 50, 60), ("soon", None, None), ("", None, None)],
)
async def test_retry_after_is_honoured_where_it_can_be_read(
    api: LocalApi, handler: SearchHandler, said: str, low: int | None, high: int | None
) -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    api.answers({}, 429, Retry_After=in_a_minute if said == "http-date" else said)
    outcome = await search(handler)
    assert isinstance(outcome, Retry)
    wish = outcome.error.retry_after_s
    assert wish is None if low is None or high is None else low <= (wish or 0) <= high


async def test_a_plan_that_is_used_up_is_not_called_again(
    api: LocalApi, handler: SearchHandler
) -> None:
    api.answers({"detail": {"error": "limit"}}, 432)
    outcome = await search(handler, "tavily")
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_AUTH


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"results":', b'{"a":[1]}'])
async def test_an_unreadable_answer_can_pass(
    api: LocalApi, handler: SearchHandler, body: bytes
) -> None:
    api.answers(body)
    outcome = await search(handler)
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_ERROR
    assert outcome.call == Call("searxng", 200)
    assert len(api.seen) == 1


async def test_an_answer_that_breaks_off_can_pass(api: LocalApi, handler: SearchHandler) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"results":[]}')
        assert request.transport is not None
        request.transport.close()
        return response

    api.respond = half
    outcome = await search(handler)
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_ERROR
    assert len(api.seen) == 1


async def test_an_answer_over_the_limit_is_not_read_on(
    api: LocalApi, handler: SearchHandler
) -> None:
    api.answers(json.dumps({"results": [], "pad": "x" * 70_000}).encode())
    outcome = await search(handler)
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.TOO_LARGE


async def test_compression_is_understood_and_a_bomb_is_not_expanded(
    api: LocalApi, handler: SearchHandler
) -> None:
    api.answers(gzip.compress(json.dumps(GOOD).encode()), Content_Encoding="gzip")
    assert isinstance(await search(handler), Succeeded)
    api.answers(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip")
    outcome = await search(handler)
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.TOO_LARGE


async def test_nobody_listening_can_pass(api: LocalApi) -> None:
    settings = SearchSettings(searxng_url="http://127.0.0.1:1")
    async with open_handler(settings) as handler:
        outcome = await search(handler)
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_ERROR
    assert not api.seen


async def test_a_canceled_call_passes_on_the_cancellation_and_hangs_up(
    api: LocalApi, handler: SearchHandler
) -> None:
    api.hangs()
    call = asyncio.create_task(search(handler))
    await api.arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await api.gone.wait()


async def test_a_server_that_says_nothing_ends_in_a_timeout(api: LocalApi) -> None:
    api.hangs()
    async with open_handler(SearchSettings(searxng_url=api.url, timeout_s=1)) as handler:
        outcome = await search(handler)
    assert isinstance(outcome, Retry)
    assert outcome.error.code is ErrorCode.PROVIDER_TIMEOUT
    assert len(api.seen) == 1


async def test_the_first_of_the_order_that_is_set_up_is_called(api: LocalApi) -> None:
    api.answers(GOOD)
    settings = SearchSettings.model_validate(
        {"searxng_url": None, "tavily_url": api.url, "tavily_api_key": "k"}
    )
    async with open_handler(settings) as handler:
        outcome = await search(handler, "nobody", "brave", "tavily", "serper")
    assert isinstance(outcome, Succeeded)
    assert outcome.call.provider == "tavily"


@pytest.mark.parametrize(
    ("order", "setting"),
    [
        ((), "FOREBAY_SEARCH_SEARXNG_URL"),
        (("brave",), "FOREBAY_SEARCH_BRAVE_API_KEY"),
        (("tavily",), "FOREBAY_SEARCH_TAVILY_API_KEY"),
        (("nobody", "serper"), "FOREBAY_SEARCH_SERPER_API_KEY"),
    ],
)
async def test_a_missing_setting_fails_the_job_and_is_named(
    order: tuple[str, ...], setting: str
) -> None:
    async with open_handler(SearchSettings()) as handler:
        outcome = await search(handler, *order)
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_AUTH
    assert f"{setting} is not set" in outcome.error.detail
    assert outcome.call is None


async def test_an_unknown_provider_is_the_callers_to_mend(handler: SearchHandler) -> None:
    outcome = await search(handler, "altavista")
    assert isinstance(outcome, Failed)
    assert outcome.error.code is ErrorCode.PROVIDER_REJECTED
    assert "altavista" not in outcome.error.detail
    assert "searxng" in outcome.error.detail


async def test_without_fallbacks_only_the_first_of_the_order_counts(
    api: LocalApi, handler: SearchHandler
) -> None:
    api.answers(GOOD)
    job = running_job(JobKind.SEARCH, "nobody", "searxng", allow_fallbacks=False)
    assert isinstance(await handler.handle(job, REQUEST), Failed)
    assert not api.seen
