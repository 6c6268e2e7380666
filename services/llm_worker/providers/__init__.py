"""The LLM APIs the worker can speak to, one adapter each, each over its maker's own SDK."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from forebay.outcomes import Failed, Retry, Succeeded
from forebay.progress import Write
from forebay.requests import LlmRequest


class ProviderName(StrEnum):
    """The names for `provider.order` and FOREBAY_LLM_PROVIDER."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class LlmProvider(Protocol):
    """One LLM API."""

    @property
    def name(self) -> str:
        """Its name in requests and history."""

    @property
    def missing_setting(self) -> str | None:
        """The setting without which it cannot be called, or None when it is complete."""

    async def complete(
        self, request: LlmRequest, call_id: str, write: Write
    ) -> Succeeded | Retry | Failed:
        """Call it once. Every error is a value.

        Args:
            request: the conversation.
            call_id: names the attempt to the provider.
            write: takes the text of a streamed answer as it comes; what it was given is the text
                of the completion.
        """
