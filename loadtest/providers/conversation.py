"""The language model behind both LLM dialects: one prompt, one text, one count of tokens.

A token is a word between blanks. Input tokens are the words of all messages, the system prompt's
too, whatever dialect carried them; output tokens are the words of the answer. A limit on output
tokens cuts the answer after so many words.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from loadtest.providers.directives import without_directives
from loadtest.providers.exchange import Refused
from loadtest.providers.text import paragraph, rng

_WORDS_PER_PIECE = 3
_ECHO_WORDS = 12


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, whatever its dialect; the system prompt is the first turn."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The model's answer with its usage; `cut` when the token limit ended it."""

    text: str
    input_tokens: int
    output_tokens: int
    cut: bool

    def pieces(self) -> list[str]:
        """Return the text in the pieces a stream sends; joined they are the text."""
        words = self.text.split(" ")
        groups = [
            " ".join(words[at : at + _WORDS_PER_PIECE])
            for at in range(0, len(words), _WORDS_PER_PIECE)
        ]
        return [group if at == 0 else f" {group}" for at, group in enumerate(groups)]


def reply(seed: int, turns: tuple[Turn, ...], limit: int | None, *, as_object: bool) -> Reply:
    """Return the answer to a conversation, as a JSON object if asked for."""
    asked = without_directives(next((t.text for t in reversed(turns) if t.role == "user"), ""))
    chance = rng(seed, "llm", *((turn.role, without_directives(turn.text)) for turn in turns))
    echo = " ".join(asked.split()[:_ECHO_WORDS])
    text = f"About “{echo}”: {paragraph(chance, chance.randint(4, 9))}"
    if as_object:
        text = json.dumps({"answer": text}, ensure_ascii=False)
    words = text.split(" ")
    cut = limit is not None and limit < len(words)
    if cut:
        words = words[:limit]
    spoken = sum(len(turn.text.split()) for turn in turns)
    return Reply(" ".join(words), spoken, len(words), cut)


def turns_of(messages: object, system: object = None) -> tuple[Turn, ...]:
    """Read a `messages` list of either dialect; raises Refused with 400."""
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages: at least one message is required")
    turns = [Turn(_role(message), _content(message)) for message in messages]
    if system:
        turns.insert(0, Turn("system", _text(system)))
    return tuple(turns)


def prompt_of(turns: tuple[Turn, ...]) -> str:
    """Return everything the caller wrote, where directives are looked for."""
    return "\n".join(turn.text for turn in turns)


def _role(message: object) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in {"system", "developer", "user", "assistant", "tool"}:
        raise Refused(400, "messages: every message needs a known role")
    return "system" if role == "developer" else str(role)


def _content(message: Any) -> str:
    return _text(message.get("content"))


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        raise Refused(400, "messages: content must be a string or a list of parts")
    parts = (part.get("text", "") for part in content if isinstance(part, dict))
    return " ".join(str(part) for part in parts)
