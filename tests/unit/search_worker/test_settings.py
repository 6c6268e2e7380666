from __future__ import annotations

import os

import pytest

from forebay.errors import ConfigurationError
from forebay.settings import load
from search_worker.providers import ProviderName
from search_worker.settings import SearchSettings


def test_no_setting_is_needed_to_start() -> None:
    settings = load(SearchSettings)
    assert settings.provider is ProviderName.SEARXNG
    assert settings.searxng_url is None
    assert settings.brave_api_key is None


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "FOREBAY_SEARCH_PROVIDER", "brave")
    monkeypatch.setitem(os.environ, "FOREBAY_SEARCH_CONCURRENCY", "7")
    monkeypatch.setitem(os.environ, "FOREBAY_SEARCH_BRAVE_API_KEY", " k3y\n")
    monkeypatch.setitem(os.environ, "FOREBAY_SEARCH_TAVILY_API_KEY", "")
    settings = load(SearchSettings)
    assert settings.provider is ProviderName.BRAVE
    assert settings.concurrency == 7
    assert settings.brave_api_key is not None
    assert settings.brave_api_key.get_secret_value() == "k3y"
    assert settings.tavily_api_key is None
    assert "k3y" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FOREBAY_SEARCH_PROVIDER", "altavista"),
        ("FOREBAY_SEARCH_SEARXNG_URL", "localhost:8080"),
        ("FOREBAY_SEARCH_SEARXNG_URL", "https://user:s3cret@searx.example"),
        ("FOREBAY_SEARCH_BRAVE_API_KEY", "s3cr\u00e9t"),
        ("FOREBAY_SEARCH_MAX_RESPONSE_BYTES", "1"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setitem(os.environ, name, value)
    with pytest.raises(ConfigurationError, match=name) as raised:
        load(SearchSettings)
    assert "s3cr" not in str(raised.value)
