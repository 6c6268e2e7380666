"""From the bytes of a request to a validated model: read with a limit, parsed once, strictly.

Every way in which a body can be wrong ends here, in this order: 415, 413, 400, 422. Strict means
that JSON types are meant as they are written: `"5"` is not a number and `1` is not true.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json
from starlette.requests import Request

from ingress.bodies import Bodies
from ingress.problems import InvalidPart, ProblemCode, RequestRefused

MAX_DEPTH = 32
MAX_ERRORS = 20
"""A body can be wrong in a million places; nobody reads more than a screen of them."""
MAX_JUDGED = 2_000
"""Errors that are looked at to find those; each costs 2.5 us, and 1 MiB holds 100 000 of them."""
MAX_POINTER = 200
DISCARD_BYTES = 16 * 1024 * 1024
DISCARD_S = 2.0
"""How much of a body over the limit is still read, and for how many seconds."""

Model = TypeVar("Model")

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
# What could be read as a number that JSON cannot say back: NaN, Infinity, 1e400, 400 digits.
_NOT_FINITE = re.compile(rb"NaN|Infinity|[eE]\+?[0-9]{3}|[0-9]{300}")


async def read_body(request: Request, bodies: Bodies, lines: str | None = None) -> bytes:
    """The whole body, which is one of these.

    It must be JSON, or be declared as `lines` of it if that is given. Raises `RequestRefused` for
    another media type, too many bytes, too slow a caller, or when too many bodies are held already.
    """
    headers = request.headers
    _require_plain(headers.get("content-encoding"))
    _require_json(headers.get("content-type"), lines)
    try:
        async with asyncio.timeout(bodies.within_s):
            return await _read(request, bodies)
    except TimeoutError:
        raise RequestRefused(
            ProblemCode.REQUEST_TIMEOUT,
            f"The body did not come within {bodies.within_s:g} s; nothing was accepted.",
            headers={"Connection": "close"},
        ) from None


async def _read(request: Request, bodies: Bodies) -> bytes:
    """The bytes are counted as they come: a chunked body has no length to trust."""
    stream = request.stream()
    chunks: list[bytes] = []
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > bodies.largest:
            await _discard(stream)
            raise _too_large(bodies.largest)
        bodies.hold(request, len(chunk))
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _discard(stream: AsyncIterator[bytes]) -> None:
    """Read on for a while without keeping it.

    A connection closed on a client that still sends is reset, and the reset takes the answer with
    it: most clients would see a broken pipe instead of the 413.
    """
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_S):
            async for chunk in stream:
                size += len(chunk)
                if size > DISCARD_BYTES:
                    return


def parse(
    adapter: TypeAdapter[Model], body: bytes, *, tag: str | None = None, depth: int = MAX_DEPTH
) -> Model:
    """The validated value; raises `RequestRefused` with `malformed_json` or `validation_error`.

    Args:
        adapter: what the body must be.
        body: the bytes as received.
        tag: the field that chooses between the members of the union; pydantic puts its value in
            front of each error's place, and a JSON pointer must not have it.
        depth: how deep it may be nested.
    """
    _require_shallow(body, depth)
    try:
        value = adapter.validate_json(body, strict=True)
    except ValidationError as invalid:
        raise _refusal(invalid, body, tag) from None
    if _NOT_FINITE.search(body):
        _require_finite(from_json(body))
    return value


def _require_plain(encoding: str | None) -> None:
    if encoding not in (None, "identity"):
        raise RequestRefused(
            ProblemCode.UNSUPPORTED_MEDIA_TYPE,
            "A compressed body is not taken; send it without Content-Encoding.",
        )


def _require_json(content_type: str | None, lines: str | None) -> None:
    if content_type in {"application/json", lines or "application/json"}:
        return
    media, _, parameters = (content_type or "").lower().partition(";")
    media = media.strip()
    taken = {"application/json", lines or "application/json"}
    is_json = media in taken or re.fullmatch(r"application/[^\s/]+\+json", media)
    charset = re.search(r"(?:^|;)\s*charset\s*=\s*\"?([^\";\s]*)", parameters)
    if not is_json or (charset and charset.group(1) not in {"utf-8", "utf8"}):
        raise RequestRefused(
            ProblemCode.UNSUPPORTED_MEDIA_TYPE,
            f"Send the body as `Content-Type: {'` or `'.join(sorted(taken))}`, in UTF-8.",
            headers={"Accept-Post": ", ".join(sorted(taken))},
        )


def _too_large(limit: int) -> RequestRefused:
    # What is left of the body is not read, so the connection cannot be used again.
    return RequestRefused(
        ProblemCode.PAYLOAD_TOO_LARGE,
        f"The body may have at most {limit} bytes.",
        headers={"Connection": "close"},
    )


def _require_shallow(body: bytes, depth: int) -> None:
    """Refuse a body nested deeper than that, in linear time and before anything parses it.

    Without its strings a JSON text is a tree of brackets; each pass removes one level of leaves.
    """
    if body.count(b"[") + body.count(b"{") <= depth:
        return
    brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS).translate(_AS_ARRAYS)
    for _ in range(depth):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return
    raise malformed(f"The JSON may be nested at most {depth} levels, its brackets in pairs.")


def _require_finite(value: Any) -> None:
    if isinstance(value, float) and value - value != 0:
        raise malformed("A number is not finite, or too large to be kept as it is.")
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return
    for part in value:
        _require_finite(part)


def malformed(detail: str) -> RequestRefused:
    """The refusal of what is not JSON."""
    return RequestRefused(ProblemCode.MALFORMED_JSON, detail)


def _refusal(invalid: ValidationError, body: bytes, tag: str | None) -> RequestRefused:
    if invalid.error_count() > MAX_JUDGED:
        return too_many_errors()
    errors = invalid.errors(include_url=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        return malformed(f"{errors[0]['msg']}.")
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as unreadable:  # NaN, where pydantic itself expected another type
        return malformed(f"Invalid JSON: {unreadable}.")
    places = [pointer(error, document, tag) for error in errors]
    wholes = {place[: slash.start()] for place in places for slash in re.finditer("/", place)}
    return validation_error(
        InvalidPart(pointer=place, detail=say(error))
        for place, error in zip(places, errors, strict=True)
        # Where a part is wrong, pydantic also complains of the whole: the part says it better.
        if place not in wholes
    )


def too_many_errors() -> RequestRefused:
    """The refusal that names no place."""
    said = f"More than {MAX_JUDGED} of its parts are not valid, too many to name them"
    return validation_error([InvalidPart(pointer="", detail=said)])


def validation_error(parts: Iterable[InvalidPart]) -> RequestRefused:
    """The refusal that names each place once, at most `MAX_ERRORS` of them."""
    unique = tuple(dict.fromkeys(parts))
    several = "1 part" if len(unique) == 1 else f"{len(unique)} parts"
    return RequestRefused(
        ProblemCode.VALIDATION_ERROR,
        f"{several} of the request {'is' if len(unique) == 1 else 'are'} not valid.",
        errors=unique[:MAX_ERRORS],
    )


def pointer(error: ErrorDetails, document: Any, tag: str | None) -> str:
    """The JSON pointer of an error: pydantic's location without its names for union members."""
    location = error["loc"][1:] if tag is not None else error["loc"]
    steps: list[str] = []
    for i, step in enumerate(location):
        if _has(document, step):
            document = document[step]
        elif not (error["type"] == "missing" and i == len(location) - 1):
            continue
        steps.append(str(step).replace("~", "~0").replace("/", "~1"))
    if error["type"].startswith("union_tag"):
        steps.append(error["ctx"]["discriminator"].strip("'"))
    return "".join(f"/{step}" for step in steps)[:MAX_POINTER]


def _has(document: Any, step: int | str) -> bool:
    if isinstance(document, dict):
        return step in document
    return isinstance(document, list) and isinstance(step, int) and step < len(document)


def say(error: ErrorDetails) -> str:
    """What is wrong, without the value that is wrong."""
    message = error["msg"]
    match error["type"]:
        case "union_tag_invalid":
            return f"Input should be one of {error['ctx']['expected_tags']}"
        case "union_tag_not_found":
            return "Field required"
        case "extra_forbidden":
            return "This field is not known"
        case "literal_error":
            # Of members of an enum pydantic shows the code: <JobKind.LLM: 'llm'>.
            return re.sub(r"<\w+\.\w+: ('\w+')>", r"\1", message)
        case "too_short" | "too_long":
            return _amount(error["ctx"])
        case "value_error" | "assertion_error":
            message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
            # The standard library quotes the value in its messages; ours never do. A quote opens
            # after a space or a bracket; what follows a letter is an apostrophe.
            return "The value is not valid" if re.search(r"(?<!\w)['\"]", message) else message
        case _:
            return message.partition(", unable to ")[0]


def _amount(limits: dict[str, Any]) -> str:
    # pydantic speaks of tuples here, and of "after validation".
    bound, amount = ("most", "max_length") if "max_length" in limits else ("least", "min_length")
    items = "item" if limits[amount] == 1 else "items"
    return f"Input should have at {bound} {limits[amount]} {items}"
