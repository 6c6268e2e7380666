"""Settings come from the environment, and a wrong one is named in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.broker.management import TopologySettings
from forebay.errors import ConfigurationError
from forebay.jobs import CALLER_KINDS
from forebay.settings import (
    AddressSettings,
    AttemptSettings,
    BrokerSettings,
    MongoDriver,
    SettingsGroup,
    StoreSettings,
    WorkerSettings,
    load,
)
from forebay.store.initiation import InitiationSettings
from llm_worker.settings import LlmSettings

ROOT = Path(__file__).parents[3]
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


@pytest.mark.parametrize(
    ("group", "name", "text", "field"),
    [
        (BrokerSettings, "forebay_amqp_url", URL, "amqp_url"),
        (StoreSettings, "forebay_mongodb_url", "mongodb://u:p@host/?replicaSet=f", "mongodb_url"),
        (TopologySettings, "forebay_topology_worker_password", "pw", "topology_worker_password"),
        (InitiationSettings, "forebay_mongodb_app_password", "pw", "mongodb_app_password"),
        (LlmSettings, "forebay_llm_openai_api_key", "sk-1", "openai_api_key"),
    ],
)
def test_a_line_break_at_the_end_of_a_file_does_not_matter(
    env: pytest.MonkeyPatch,
    tmp_path: Path,
    group: type[SettingsGroup],
    name: str,
    text: str,
    field: str,
) -> None:
    needed = {"forebay_rabbitmq_management_url": "http://h:1", "forebay_mongodb_members": "h:1"}
    for file, content in {**needed, name: text}.items():
        (tmp_path / file).write_text(f"{content}\n")
    env.setenv("FOREBAY_SECRETS_DIR", str(tmp_path))
    assert getattr(load(group), field).get_secret_value() == text


def test_the_environment_wins_over_a_file(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "forebay_amqp_url").write_text("amqp://file/")
    env.setenv("FOREBAY_SECRETS_DIR", str(tmp_path))
    env.setenv("FOREBAY_AMQP_URL", "amqp://environment/")
    assert load(BrokerSettings).amqp_url.get_secret_value() == "amqp://environment/"


def test_a_secrets_folder_as_kubernetes_mounts_it_is_read(
    env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = tmp_path / "..2026_11_22"
    data.mkdir()
    (data / "forebay_amqp_url").write_text(URL)
    (tmp_path / "..data").symlink_to(data.name)
    (tmp_path / "forebay_amqp_url").symlink_to("..data/forebay_amqp_url")
    env.setenv("FOREBAY_SECRETS_DIR", str(tmp_path))
    assert load(BrokerSettings).amqp_url.get_secret_value() == URL


@pytest.mark.parametrize("name", ["gone", "file"])
def test_a_secrets_folder_that_is_none_is_named(
    env: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    env.setenv("FOREBAY_SECRETS_DIR", str(tmp_path / name))
    with pytest.raises(ConfigurationError, match=rf"FOREBAY_SECRETS_DIR: {tmp_path}/{name} is not"):
        load(BrokerSettings)


def test_a_secret_that_is_not_text_is_named_without_its_bytes(
    env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "forebay_amqp_url").write_bytes(b"hunter2\xff")
    env.setenv("FOREBAY_SECRETS_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match="amqp_url") as wrong:
        load(BrokerSettings)
    assert str(tmp_path) in str(wrong.value)
    assert "hunter2" not in str(wrong.value)


def test_a_secret_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "forebay_amqp_url"
    file.write_text(URL)
    file.chmod(0)
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o055)
        if folder.name.startswith("pytest-of-"):
            break
    # Root may read everything, so the process is somebody else.
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    script = "from forebay.settings import *; load(BrokerSettings)"
    done = subprocess.run(
        [*(other if os.geteuid() == 0 else []), sys.executable, "-c", script],
        env={"PYTHONPATH": str(ROOT / "services"), "FOREBAY_SECRETS_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"FOREBAY_SECRETS_DIR: {file} cannot be read (Permission denied)"
    assert done.stderr.splitlines()[-1].endswith(said)


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
    assert {kind: AttemptSettings().of(kind) for kind in CALLER_KINDS} == dict.fromkeys(
        CALLER_KINDS, 5
    )


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
