"""What the LLM worker can be told; every name begins with `FOREBAY_LLM_`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from forebay.settings import ApiKey, EndpointUrl, ProviderWorkerSettings
from llm_worker.providers import ProviderName

OPENAI_URL = "https://api.openai.com/v1"
_OPENAI_HOSTS = ("api.openai.com", ".openai.azure.com")


class TokenLimitField(StrEnum):
    """How an OpenAI-shaped API is told the longest answer."""

    AUTO = "auto"
    """`max_completion_tokens` for OpenAI and Azure, whose newer models refuse the older name;
    `max_tokens` for everybody else."""
    MAX_TOKENS = "max_tokens"
    MAX_COMPLETION_TOKENS = "max_completion_tokens"


class LlmSettings(ProviderWorkerSettings):
    """How the LLM worker digests its jobs, and with which APIs.

    The process starts without any key; a job for a provider whose key is missing fails with
    `provider_auth` and names the setting.
    """

    # An empty value is how compose files and manifests spell "not set".
    model_config = SettingsConfigDict(env_prefix="FOREBAY_LLM_", env_ignore_empty=True)

    timeout_s: Annotated[float, Field(gt=0)] = 300.0
    """Upper bound of one call; the attempt then ends with `provider_timeout`."""
    provider: ProviderName = ProviderName.OPENAI
    """The provider for jobs that name none."""
    max_response_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    """Largest answer, in bytes on the wire; a stream is about 50 times as long as its text."""
    base_url: EndpointUrl | None = None
    """Short for `openai_base_url`."""
    api_key: ApiKey | None = None
    """Short for `openai_api_key`."""
    openai_base_url: EndpointUrl | None = None
    """Base URL of an OpenAI-shaped API, `/v1` included; OpenAI's own by default."""
    openai_api_key: ApiKey | None = None
    """API key for it; for a server that asks for none, any word."""
    openai_token_limit_field: TokenLimitField = TokenLimitField.AUTO
    """How that API is told the longest answer."""
    anthropic_base_url: EndpointUrl = "https://api.anthropic.com"
    """Base URL of an Anthropic-shaped API, without `/v1`."""
    anthropic_api_key: ApiKey | None = None
    """API key for it."""
    anthropic_max_tokens: Annotated[int, Field(ge=1)] = 4096
    """Longest answer, in tokens, for jobs that do not say: Anthropic has no default."""

    @property
    def openai_url(self) -> str:
        """The OpenAI-shaped API's base URL in force."""
        return self.openai_base_url or self.base_url or OPENAI_URL

    @property
    def openai_key(self) -> ApiKey | None:
        """The OpenAI-shaped API's key in force."""
        return self.openai_api_key or self.api_key

    @property
    def openai_token_field(self) -> TokenLimitField:
        """The field in force, never `auto`."""
        if self.openai_token_limit_field is not TokenLimitField.AUTO:
            return self.openai_token_limit_field
        host = urlsplit(self.openai_url).hostname or ""
        if host.endswith(_OPENAI_HOSTS):
            return TokenLimitField.MAX_COMPLETION_TOKENS
        return TokenLimitField.MAX_TOKENS
