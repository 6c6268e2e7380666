"""What a caller may ask of a simulator, written inside text the caller controls.

Grammar (`words` are separated by spaces, commas or semicolons; case does not matter)::

    directive   = "[simulate" words "]"          in a search query or a prompt
                | "simulate=" words              in a URL's query string
    word        = action | key "=" value
    action      = hang | stall | truncate | drop | drip | huge | endless
                | invalid_json | wrong_shape | stream_error | auth
    key = value = status=<200..599> | latency=<seconds> | times=<calls> | retry_after=<value>
    retry_after = <seconds> | http-date[:<seconds from now>] | garbage | any other text, sent as is

`times=n` limits the directive to the first n calls of that job; later calls are answered well.
`retry_after` without `status` means 429. The last of several equal keys wins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum

_BRACKETED = re.compile(r"\[simulate\s+([^\]]*)\]", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s,;]+")
MAX_LATENCY_S = 3600.0


class Action(StrEnum):
    """How an answer is spoiled on its way out; each value is the directive's own word."""

    HANG = "hang"  # not one byte, until the client goes away
    STALL = "stall"  # the first half, then silence
    TRUNCATE = "truncate"  # the first half, then the connection closes
    DROP = "drop"  # the connection is reset before the first byte
    DRIP = "drip"  # a few bytes at a time
    HUGE = "huge"  # 64 MiB of padding
    ENDLESS = "endless"  # padding that never ends
    INVALID_JSON = "invalid_json"  # a complete message whose body is cut in half
    WRONG_SHAPE = "wrong_shape"  # valid JSON that is not this provider's
    STREAM_ERROR = "stream_error"  # the provider's own error event in the middle of a stream
    AUTH = "auth"  # the refusal the real provider sends for a bad key


class DirectiveError(ValueError):
    """The directive is not of the grammar; the simulator answers 400 with this message."""


@dataclass(frozen=True, slots=True)
class Directive:
    """One parsed directive; None means "not asked for"."""

    action: Action | None = None
    status: int | None = None
    latency_s: float | None = None
    retry_after: str | None = None
    times: int | None = None

    def applies(self, earlier_calls: int) -> bool:
        """Tell whether the directive still holds after so many calls of the same job."""
        return self.times is None or earlier_calls < self.times


def parse_directive(text: str) -> Directive | None:
    """Return the directive written in a query or prompt, or None; raises DirectiveError."""
    found = _BRACKETED.findall(text)
    return parse_words(" ".join(found)) if found else None


def parse_words(words: str) -> Directive | None:
    """Return the directive a word list spells, or None if it is empty; raises DirectiveError."""
    directive = Directive()
    for word in filter(None, _SEPARATORS.split(words)):
        directive = _with_word(directive, word)
    if directive.retry_after is not None and directive.status is None:
        directive = replace(directive, status=429)
    return directive if directive != Directive() else None


def without_directives(text: str) -> str:
    """Return the text a provider would see, so that a directive does not change the answer."""
    return " ".join(_BRACKETED.sub(" ", text).split())


def _with_word(directive: Directive, word: str) -> Directive:
    key, equals, value = word.partition("=")
    key = key.lower()
    if not equals:
        if key not in Action.__members__.values():
            raise DirectiveError(f"unknown simulate word: {word!r}")
        return replace(directive, action=Action(key))
    match key:
        case "status":
            return replace(directive, status=_number(word, value, 200, 599))
        case "times":
            return replace(directive, times=_number(word, value, 0, 1_000_000))
        case "latency":
            return replace(directive, latency_s=_seconds(word, value))
        case "retry_after":
            return replace(directive, retry_after=value)
        case _:
            raise DirectiveError(f"unknown simulate key: {word!r}")


def _number(word: str, value: str, low: int, high: int) -> int:
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        raise DirectiveError(f"not a number from {low} to {high}: {word!r}")
    return int(value)


def _seconds(word: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= MAX_LATENCY_S:
        raise DirectiveError(f"not a number of seconds from 0 to {MAX_LATENCY_S:g}: {word!r}")
    return seconds
