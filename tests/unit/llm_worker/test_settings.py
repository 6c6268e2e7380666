from __future__ import annotations

import os

import pytest
from pydantic import SecretStr

from forebay.errors import ConfigurationError
from forebay.settings import load
from llm_worker.providers import ProviderName
from llm_worker.settings import LlmSettings, TokenLimitField


def test_no_setting_is_needed_to_start() -> None:
    settings = load(LlmSettings)
    assert settings.provider is ProviderName.OPENAI
    assert settings.timeout_s == 300
    assert settings.openai_url == "https://api.openai.com/v1"
    assert settings.openai_key is None


def test_the_short_names_stand_for_the_openai_shaped_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "FOREBAY_LLM_BASE_URL", "http://127.0.0.1:8000/v1")
    monkeypatch.setitem(os.environ, "FOREBAY_LLM_API_KEY", "short-s3cret")
    settings = load(LlmSettings)
    assert settings.openai_url == "http://127.0.0.1:8000/v1"
    assert settings.openai_key == SecretStr("short-s3cret")
    assert "s3cret" not in repr(settings)


def test_the_long_names_win_over_the_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "FOREBAY_LLM_API_KEY", "short")
    monkeypatch.setitem(os.environ, "FOREBAY_LLM_OPENAI_API_KEY", "long")
    monkeypatch.setitem(os.environ, "FOREBAY_LLM_OPENAI_BASE_URL", "")
    settings = load(LlmSettings)
    assert settings.openai_key == SecretStr("long")
    assert settings.openai_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("https://api.openai.com/v1", TokenLimitField.MAX_COMPLETION_TOKENS),
        ("https://us.example.openai.azure.com/openai/v1", TokenLimitField.MAX_COMPLETION_TOKENS),
        ("http://127.0.0.1:11434/v1", TokenLimitField.MAX_TOKENS),
    ],
)
def test_the_longest_answer_is_said_as_the_host_wants_it(url: str, field: TokenLimitField) -> None:
    assert LlmSettings(openai_base_url=url).openai_token_field is field
    fixed = LlmSettings(openai_base_url=url, openai_token_limit_field=TokenLimitField.MAX_TOKENS)
    assert fixed.openai_token_field is TokenLimitField.MAX_TOKENS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FOREBAY_LLM_PROVIDER", "nobody"),
        ("FOREBAY_LLM_BASE_URL", "ftp://x"),
        ("FOREBAY_LLM_ANTHROPIC_API_KEY", "s3cret\nX-Injected: 1"),
        ("FOREBAY_LLM_ANTHROPIC_MAX_TOKENS", "0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setitem(os.environ, name, value)
    with pytest.raises(ConfigurationError, match=name) as raised:
        load(LlmSettings)
    assert "s3cret" not in str(raised.value)
