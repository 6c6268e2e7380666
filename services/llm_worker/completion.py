"""The one shape in which every provider's answer is stored, streamed or not."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict

from forebay.jobs import Usage
from forebay.outcomes import Call, Succeeded
from forebay.requests import ToolCall


class TokenUsage(BaseModel):
    """Tokens as the provider counted them."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    input_tokens: int
    """Of the conversation sent, tokens from the provider's cache included."""
    output_tokens: int


class Completion(BaseModel):
    """The result of an LLM job."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    model: str
    """The model that answered, by the provider's name; may be more exact than the one asked for."""
    content: str | None
    """The text; None when the model only asked for tools or declined."""
    finish_reason: str
    """`stop`, `length`, `tool_calls` or `content_filter`, else the provider's own word."""
    tool_calls: tuple[ToolCall, ...] | None = None
    """Tools the model asks for, in the shape of chat completions."""
    refusal: str | None = None
    """Why the model declined, if it gave words for it."""
    usage: TokenUsage | None
    """None when the provider does not count."""

    @classmethod
    def of(
        cls,
        *,
        model: str,
        text: str,
        finish_reason: str,
        tool_calls: tuple[ToolCall, ...],
        refusal: str = "",
        usage: TokenUsage | None,
    ) -> Self:
        """From the parts; an empty text beside tool calls or a refusal is no text.

        Providers say null, an empty string or nothing at all there, and not the same when
        streaming; the stored result must not depend on it.
        """
        content = None if not text and (tool_calls or refusal) else text
        return cls(
            model=model,
            content=content,
            finish_reason=finish_reason,
            tool_calls=tool_calls or None,
            refusal=refusal or None,
            usage=usage,
        )

    def succeeded(self, call: Call) -> Succeeded:
        """The outcome that stores it."""
        counted = self.usage
        usage = Usage(counted.input_tokens, counted.output_tokens) if counted else Usage()
        return Succeeded(self.model_dump_json(), call, usage)
