"""Settings come from the environment, and a wrong one is named in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay.errors import ConfigurationError
from forebay.jobs import JobKind
from forebay.settings import (
    AddressSettings,
    AttemptSettings,
    BrokerSettings,
    MongoDriver,
    StoreSettings,
    WorkerSettings,
    load,
)

URL = "amqp://user:hunter2@localhost/forebay"


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("AMQP_URL", "MONGODB_URL", "MONGODB_DRIVER", "SECRETS_DIR"):
        monkeypatch.delenv(f"FOREBAY_{name}", raising=False)
    return monkeypatch


@pytest.mark.usefixtures("env")
def test_a_missing_setting_is_named_with_what_it_is_for() -> None:
    with pytest.raises(ConfigurationError) as missing:
        load(BrokerSettings)
    assert str(missing.value) == (
        "FOREBAY_AMQP_URL is not set; it is needed: `amqp://user:password@host:port/vhost`"
    )


def test_a_wrong_setting_is_named_without_its_value(env: pytest.MonkeyPatch) -> None:
    env.setenv("FOREBAY_MONGODB_URL", "mongodb://localhost")
    env.setenv("FOREBAY_MONGODB_DRIVER", "hunter2")
    with pytest.raises(ConfigurationError) as wrong:
        load(StoreSettings)
    assert str(wrong.value).startswith("FOREBAY_MONGODB_DRIVER makes no sense")
    assert "hunter2" not in str(wrong.value)


def test_a_secret_is_not_in_the_repr(env: pytest.MonkeyPatch) -> None:
    env.setenv("FOREBAY_AMQP_URL", URL)
    settings = load(BrokerSettings)
    assert settings.amqp_url.get_secret_value() == URL
    assert "hunter2" not in repr(settings)


def test_a_secret_can_be_a_file(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "forebay_amqp_url").write_text(URL)
    env.setenv("FOREBAY_SECRETS_DIR", str(tmp_path))
    assert load(BrokerSettings).amqp_url.get_secret_value() == URL


def test_settings_are_frozen(env: pytest.MonkeyPatch) -> None:
    env.setenv("FOREBAY_MONGODB_URL", "mongodb://localhost")
    env.setenv("FOREBAY_MONGODB_DRIVER", "motor")
    settings = load(StoreSettings)
    assert settings.mongodb_driver is MongoDriver.MOTOR
    with pytest.raises(ValueError, match="frozen"):
        settings.mongodb_database = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("concurrency", "prefetch", "fits"),
    [(10, 12, True), (10, 13, False), (1, 2, True), (1, 3, False), (100, 50, True)],
)
def test_prefetch_stays_within_a_fifth_above_the_concurrency(
    concurrency: int, prefetch: int, fits: bool
) -> None:
    if fits:
        settings = WorkerSettings(concurrency=concurrency, prefetch=prefetch)
        assert settings.prefetch_or_default == prefetch
    else:
        with pytest.raises(ValueError, match="at most 20 % above concurrency"):
            WorkerSettings(concurrency=concurrency, prefetch=prefetch)


def test_every_kind_has_a_number_of_attempts() -> None:
    assert {kind: AttemptSettings().of(kind) for kind in JobKind} == dict.fromkeys(JobKind, 5)


def test_an_allow_list_is_exact_pairs_of_host_and_port() -> None:
    settings = AddressSettings(crawler_allow_hosts="localhost:8080, [::1]:81")
    assert settings.allowed == {("localhost", 8080), ("::1", 81)}
    with pytest.raises(ConfigurationError, match="FOREBAY_CRAWLER_ALLOW_HOSTS: 'localhost'"):
        _ = AddressSettings(crawler_allow_hosts="localhost").allowed


@pytest.mark.parametrize(
    "url",
    [
        "amqp://user:hunt/er2@localhost/",
        "amqp://user:12/hunter2@localhost/",
        "amqp://user:12?hunter2@localhost/",
        "amqp://user:12#hunter2@localhost/",
        "amqp://user:hunter2@localhost:port/",
        "amqp://user:hunter2@/",
        "http://user:hunter2@localhost/",
        "hunter2",
    ],
)
def test_a_broker_url_that_cannot_be_read_is_refused_without_its_value(
    env: pytest.MonkeyPatch, url: str
) -> None:
    env.setenv("FOREBAY_AMQP_URL", url)
    with pytest.raises(ConfigurationError, match="FOREBAY_AMQP_URL makes no sense") as wrong:
        load(BrokerSettings)
    assert "hunt" not in str(wrong.value)


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "amqps://host",
        "amqp://user:a%2Fb%40c@[::1]:5672/%2F?heartbeat=5",
        "amqp://user:p@ss@localhost/forebay",
    ],
)
def test_a_broker_url_that_can_be_read_is_taken_as_it_is(env: pytest.MonkeyPatch, url: str) -> None:
    env.setenv("FOREBAY_AMQP_URL", url)
    assert load(BrokerSettings).amqp_url.get_secret_value() == url
