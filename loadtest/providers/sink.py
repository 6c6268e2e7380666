"""A receiver of webhooks: keeps what it heard, and answers as well or as badly as its path asks.

`POST /hooks/<anything>?simulate=<words>` (directives.py); `times=n` is for the first n calls under
one `webhook-id`. It verifies nothing: who reads the log has the secret, and does.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from aiohttp import web

from loadtest.providers.directives import Directive, DirectiveError, parse_words
from loadtest.providers.exchange import Answer
from loadtest.providers.wire import send

KEEP = 100_000
ELSEWHERE = "/hooks/elsewhere"
"""Where its redirects lead; whoever follows one is heard there."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One POST, noted before it is answered: who dies before the answer is in the log too."""

    at: float
    """Seconds since 1970."""
    path: str
    message_id: str
    headers: dict[str, str]
    """With lower-case names."""
    body: str
    status: int | None
    """What is answered; None: nothing, or not to its end."""


class Sink:
    """Hears webhooks. `log_path` appends each as a JSON line."""

    def __init__(self, log_path: Path | None = None) -> None:
        self.heard: list[Heard] = []
        self._file: TextIO | None = log_path.open("a", buffering=1) if log_path else None
        self._seen: Counter[str] = Counter()

    def routes(self) -> list[web.RouteDef]:
        """What an application serves as a receiver, and its log."""
        return [web.post("/hooks/{name:.*}", self.take), web.get("/_hooks", self._show)]

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Hear one webhook."""
        body = (await request.read()).decode(errors="replace")
        message_id = request.headers.get("webhook-id", "")
        try:
            asked = parse_words(request.query.get("simulate", ""))
        except DirectiveError as unknown:
            return web.Response(status=400, text=str(unknown))
        earlier = self._seen[message_id]
        self._seen[message_id] += 1
        directive = asked if asked is not None and asked.applies(earlier) else Directive()
        answer = _answer(directive)
        self._note(
            Heard(
                at=time.time(),
                path=request.path,
                message_id=message_id,
                headers={name.lower(): value for name, value in request.headers.items()},
                body=body,
                status=None if directive.action else answer.status,
            )
        )
        return await send(request, answer, directive.latency_s or 0.0, directive.action, _ignore)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _note(self, heard: Heard) -> None:
        del self.heard[: len(self.heard) - KEEP + 1]
        self.heard.append(heard)
        if self._file is not None:
            self._file.write(json.dumps(asdict(heard)) + "\n")

    async def _show(self, request: web.Request) -> web.Response:
        path = request.query.get("path")
        shown = [asdict(one) for one in self.heard if path in (None, one.path)]
        return web.json_response({"heard": shown})


def _answer(directive: Directive) -> Answer:
    status = directive.status or 200
    headers: dict[str, Any] = {}
    if 300 <= status < 400:
        headers["Location"] = ELSEWHERE
    if directive.retry_after is not None:
        headers["Retry-After"] = directive.retry_after
    return Answer(status=status, content_type="text/plain", body=b"heard\n" * 50, headers=headers)


def _ignore() -> None:
    """The end of an answer is nothing to note."""
