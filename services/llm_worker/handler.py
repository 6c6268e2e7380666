"""LLM jobs: pick the provider, call it once, store the completion in one shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from forebay.http import build_client, call_id
from forebay.jobs import Job
from forebay.outcomes import Failed, Outcome
from forebay.progress import Write, unheard
from forebay.requests import LlmRequest
from forebay.worker.choice import choose
from llm_worker.carrier import sdk_client
from llm_worker.providers import LlmProvider, ProviderName
from llm_worker.providers.anthropic import Anthropic
from llm_worker.providers.openai import OpenAI
from llm_worker.settings import LlmSettings


class LlmHandler:
    """The handler of LLM jobs.

    Args:
        providers: by the name that `provider.order` uses.
        default: for jobs that name none.
    """

    def __init__(self, providers: Mapping[str, LlmProvider], default: ProviderName) -> None:
        self._providers = providers
        self._default = default

    async def handle(self, job: Job, request: LlmRequest, write: Write = unheard, /) -> Outcome:
        """One call at most; no call when no provider can be called."""
        provider = choose(self._providers, job.provider, self._default)
        if isinstance(provider, Failed):
            return provider
        return await provider.complete(request, call_id(job), write)


@asynccontextmanager
async def open_handler(settings: LlmSettings) -> AsyncIterator[LlmHandler]:
    """The handler with its client, closed at the end."""
    async with (
        build_client(concurrency=settings.concurrency, timeout_s=settings.timeout_s) as client,
        sdk_client(client, settings.max_response_bytes) as carried,
    ):
        adapters: tuple[LlmProvider, ...] = (
            OpenAI(settings.openai_url, settings.openai_key, carried, settings.openai_token_field),
            Anthropic(
                settings.anthropic_base_url,
                settings.anthropic_api_key,
                carried,
                settings.anthropic_max_tokens,
            ),
        )
        yield LlmHandler({adapter.name: adapter for adapter in adapters}, settings.provider)
