"""What a simulated provider is: it checks a key, understands a request, and words an answer.

A provider knows its wire format and nothing of latency, faults or logs: those are the desk's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from loadtest.providers.behaviour import Kind
from loadtest.providers.directives import Action

WRONG_KEY = "wrong"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response before it is sent: one body, or events sent one after another over time."""

    status: int = 200
    content_type: str = "application/json"
    body: bytes = b""
    events: tuple[bytes, ...] = ()
    failure_event: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request once understood.

    `text` is what the caller controls, where directives are looked for; `scope` is what `times`
    and the seed count by; `action` is a fault the target stands for (a bomb, a drip); `faults`
    off keeps the seed's faults away from it.
    """

    text: str
    scope: str
    answer: Callable[[], Answer]
    words: str = ""
    action: Action | None = None
    faults: bool = True


class Refused(Exception):
    """The provider does not take the request; answered in its own error shape."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Provider(Protocol):
    """One simulated API."""

    @property
    def name(self) -> str:
        """The provider as the call log names it."""

    @property
    def kind(self) -> Kind:
        """The kind of call."""

    @property
    def auth_status(self) -> int:
        """The status the real provider refuses a bad key with."""

    def key_of(self, request: web.Request) -> str | None:
        """Return the key sent, or None; a provider that needs none returns any text."""

    async def read(self, request: web.Request) -> Ask:
        """Understand the request; raises Refused."""

    def error(self, status: int, message: str) -> Answer:
        """Word an error in the provider's own shape."""


def as_json(document: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def json_answer(document: object, status: int = 200, **headers: str) -> Answer:
    """Return a JSON answer; underscores in header names become dashes."""
    spelled = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body=as_json(document), headers=spelled)


async def json_object(request: web.Request) -> dict[str, Any]:
    """Return the request's JSON object; raises Refused with 400."""
    try:
        document = json.loads(await request.read())
    except ValueError as error:
        raise Refused(400, "The request body is not valid JSON.") from error
    if not isinstance(document, dict):
        raise Refused(400, "The request body is not a JSON object.")
    return document


def bearer(request: web.Request) -> str | None:
    """Return the token of an `Authorization: Bearer` header."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def whole_number(value: object, default: int, low: int, high: int, name: str) -> int:
    """Return a parameter as a number within its range; raises Refused with 422."""
    if value is None or value == "":
        return default
    try:
        number = int(str(value))
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise Refused(422, f"{name} must be a number from {low} to {high}")
    return number
