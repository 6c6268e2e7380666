"""How an answer goes out: whole, over time, or spoiled the way an Action says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from loadtest.providers.directives import Action
from loadtest.providers.exchange import Answer

# A stream sends its events in at most this many writes: 1000 streams at once stay cheap.
_BURSTS = 8
# The first event of a stream comes after this part of the latency.
_FIRST_PART = 0.3
# Nobody waits longer than this for a provider that hangs.
_SILENCE_S = 3600.0
_PAD = b"x" * 65536
_HUGE_PADS = 1024  # 64 MiB
_ENDLESS_PAUSE_S = 0.005  # about 12 MB a second: endless, but not a load
_DRIP_PAUSE_S = 0.2
_DRIP_BYTES = 8

Done = Callable[[], None]


async def send(
    request: web.Request, answer: Answer, latency_s: float, action: Action | None, done: Done
) -> web.StreamResponse:
    """Send the answer after its latency; `done` is called before a connection is broken off."""
    match action:
        case None | Action.AUTH:
            if answer.events:
                return await _stream(request, answer, answer.events, latency_s)
            await asyncio.sleep(latency_s)
            return _whole(answer, answer.body)
        case Action.HANG:
            await asyncio.sleep(_SILENCE_S)
            return _whole(answer, b"")
        case Action.DROP:
            await asyncio.sleep(latency_s)
            done()
            _cut(request, reset=True)
            return web.Response(status=answer.status)
        case Action.STALL | Action.TRUNCATE:
            return await _half(request, answer, latency_s, action, done)
        case Action.INVALID_JSON:
            await asyncio.sleep(latency_s)
            return _whole(answer, _invalid(answer))
        case Action.WRONG_SHAPE:
            await asyncio.sleep(latency_s)
            start, end = (b"data: ", b"\n\n") if answer.events else (b"", b"")
            return _whole(answer, start + b'{"unexpected":[1]}' + end)
        case Action.STREAM_ERROR:
            return await _stream(request, answer, _failing(answer), latency_s)
        case Action.DRIP | Action.HUGE | Action.ENDLESS:
            await asyncio.sleep(latency_s)
            return await _pour(request, answer, action)


def _whole(answer: Answer, body: bytes) -> web.Response:
    response = web.Response(status=answer.status, body=body, headers=answer.headers)
    _set_type(response, answer)
    return response


def _set_type(response: web.StreamResponse, answer: Answer) -> None:
    if answer.content_type:
        response.headers["Content-Type"] = answer.content_type
    else:
        response.headers.popall("Content-Type", None)


async def _stream(
    request: web.Request, answer: Answer, events: tuple[bytes, ...], latency_s: float
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    _set_type(response, answer)
    await asyncio.sleep(latency_s * _FIRST_PART)
    await response.prepare(request)
    await _bursts(response, events, latency_s * (1 - _FIRST_PART))
    await response.write_eof()
    return response


async def _bursts(response: web.StreamResponse, events: tuple[bytes, ...], seconds: float) -> None:
    size = -(-len(events) // _BURSTS)
    bursts = [b"".join(events[at : at + size]) for at in range(0, len(events), size)]
    for number, burst in enumerate(bursts):
        if number:
            await asyncio.sleep(seconds / (len(bursts) - 1))
        await response.write(burst)


async def _half(
    request: web.Request, answer: Answer, latency_s: float, action: Action, done: Done
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    _set_type(response, answer)
    await asyncio.sleep(latency_s * _FIRST_PART)
    if not answer.events:
        response.content_length = len(answer.body)
    await response.prepare(request)
    if answer.events:
        half = answer.events[: len(answer.events) // 2]
        await _bursts(response, half, latency_s * (1 - _FIRST_PART))
    else:
        await asyncio.sleep(latency_s * (1 - _FIRST_PART))
        await response.write(answer.body[: len(answer.body) // 2])
    if action is Action.STALL:
        await asyncio.sleep(_SILENCE_S)
    done()
    _cut(request, reset=False)
    return response


async def _pour(request: web.Request, answer: Answer, action: Action) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    _set_type(response, answer)
    await response.prepare(request)
    async for piece in _pieces(answer, action):
        await response.write(piece)
    await response.write_eof()
    return response


async def _pieces(answer: Answer, action: Action) -> AsyncIterator[bytes]:
    if action is Action.DRIP:
        body = answer.body or b"".join(answer.events)
        for at in range(0, len(body), _DRIP_BYTES):
            yield body[at : at + _DRIP_BYTES]
            await asyncio.sleep(_DRIP_PAUSE_S)
        return
    json_like = "json" in answer.content_type
    yield b'{"padding":"' if json_like else b"<!doctype html><title>Padding</title><p>"
    sent = 0
    while action is Action.ENDLESS or sent < _HUGE_PADS:
        yield _PAD
        sent += 1
        # A write returns at once while the buffer has room: let the other calls have their turn.
        await asyncio.sleep(_ENDLESS_PAUSE_S if action is Action.ENDLESS else 0)
    yield b'"}' if json_like else b"</p>"


def _invalid(answer: Answer) -> bytes:
    if not answer.events:
        return answer.body[: len(answer.body) // 2]
    half = answer.events[: len(answer.events) // 2]
    return b"".join(half) + b'data: {"broken":\n\n'


def _failing(answer: Answer) -> tuple[bytes, ...]:
    return (*answer.events[: len(answer.events) // 2], answer.failure_event)


def _cut(request: web.Request, *, reset: bool) -> None:
    transport = request.transport
    if transport is None:
        return
    if reset:
        transport.abort()
    else:
        transport.close()
