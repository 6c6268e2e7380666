"""What a process can be told, in small frozen groups, read once from the environment.

Every name begins with `FOREBAY_`. A secret has no default and is a `SecretStr`; it can also be
given as a file: `FOREBAY_SECRETS_DIR` names a folder with one file per setting.
docs/configuration.md lists every setting; a test keeps it complete.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from forebay.errors import ConfigurationError
from forebay.jobs import JobKind
from forebay.retry import RetryPolicy

SECRETS_DIR = "FOREBAY_SECRETS_DIR"


class SettingsGroup(BaseSettings):
    """The base of every group: frozen, from the environment, unknown names left alone."""

    model_config = SettingsConfigDict(
        env_prefix="FOREBAY_",
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


def _as_header(key: SecretStr) -> SecretStr:
    # A secret made with `echo` ends in a line break, which no HTTP header can carry.
    text = key.get_secret_value().strip()
    if not text.isascii() or not text.isprintable():
        raise ValueError("a key must be printable ASCII, to be sent in a header")
    return SecretStr(text)


def _is_amqp_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    try:
        parts = urlsplit(text)
        readable = parts.scheme in {"amqp", "amqps"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message quotes the URL, and the URL holds the password
        readable = False
    # A password with a bare `/`, `?` or `#` ends the host too early and leaves the `@` behind it.
    if not readable or "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise ValueError(
            "it must be amqp://user:password@host:port/vhost, with `/`, `?`, `#` and `@` in the "
            "user, the password and the vhost written as %2F, %3F, %23 and %40"
        )
    return url


AmqpUrl = Annotated[SecretStr, AfterValidator(_is_amqp_url)]
"""The broker's URL; one that cannot be read is refused at the start and not retried for ever."""
ApiKey = Annotated[SecretStr, AfterValidator(_as_header)]
"""A provider's key; blanks around it are dropped."""
EndpointUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]
"""A provider's base URL, without credentials: URLs are shown in logs, keys have settings."""


class BrokerSettings(SettingsGroup):
    """How to reach RabbitMQ."""

    amqp_url: AmqpUrl
    """`amqp://user:password@host:port/vhost`."""
    amqp_heartbeat_s: Annotated[int, Field(ge=1, le=60)] = 15
    """Heartbeat in seconds; a dead peer is noticed after three, and a second each."""
    publish_timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """How long to wait for the broker's confirm before the job is left to the relay."""


class MongoDriver(StrEnum):
    """Which client library speaks to MongoDB."""

    PYMONGO = "pymongo"
    MOTOR = "motor"


class StoreSettings(SettingsGroup):
    """How to reach MongoDB."""

    mongodb_url: SecretStr
    """`mongodb://…/?replicaSet=…`; a replica set is needed for majority writes."""
    mongodb_database: str = "forebay"
    """The database that holds the jobs."""
    mongodb_driver: MongoDriver = MongoDriver.PYMONGO
    """The client library: `pymongo`, or `motor` with the extra of that name."""
    mongodb_timeout_s: Annotated[float, Field(gt=0)] = 2.5
    """Upper bound of one store call, server selection included."""
    mongodb_pool_size: Annotated[int, Field(ge=1)] = 50
    """Connections to MongoDB at most, in each process."""


class LogFormat(StrEnum):
    """How log lines look."""

    JSON = "json"
    CONSOLE = "console"


class TelemetrySettings(SettingsGroup):
    """What a process tells about itself."""

    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    """The least level that is written: `debug`, `info`, `warning` or `error`."""
    log_format: LogFormat = LogFormat.JSON
    """`json` for machines, `console` for a person at a terminal."""


class CrashSettings(SettingsGroup):
    """For tests that must see what a crash leaves behind; never set in a deployment."""

    crashpoint: str | None = None
    """Kill the process at this named place (`forebay.crashpoints`); `worker.after_claim:3` at its
    third hit. Nothing is cleaned up, as in a real crash. `worker.after_claim:3:term` sends SIGTERM
    instead. Alone it is refused: a process arms itself only with the file of
    `FOREBAY_CRASHPOINT_LOG`."""
    crashpoint_log: Path | None = None
    """The file to which a process that dies so appends the place and its process id. It says that
    the crash is meant."""


class ProbeSettings(SettingsGroup):
    """The small port with /livez, /readyz and /metrics of every process but the ingress."""

    probe_host: str = "127.0.0.1"
    """The address the probes listen on; in a container `0.0.0.0`."""
    probe_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0 takes any free port."""


class AttemptSettings(SettingsGroup):
    """How many attempts a job of each kind gets when its caller does not say."""

    search_max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """For search jobs; read by the ingress."""
    crawler_max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """For crawl jobs; read by the ingress."""
    llm_max_attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """For llm jobs; read by the ingress."""

    def of(self, kind: JobKind) -> int:
        """The default of a kind."""
        return {
            JobKind.SEARCH: self.search_max_attempts,
            JobKind.CRAWL: self.crawler_max_attempts,
            JobKind.LLM: self.llm_max_attempts,
        }[kind]


class WorkerSettings(SettingsGroup):
    """How one worker process digests its kind; each has its own prefix, e.g. `FOREBAY_LLM_`."""

    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Calls in flight at most, in this process."""
    prefetch: Annotated[int, Field(ge=1)] | None = None
    """Messages held per lane at most; at most 20 % above the concurrency, which is the default."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Upper bound of one call; the attempt then ends with `provider_timeout`."""
    lease_s: Annotated[float, Field(ge=3)] = 30.0
    """How long a claim holds without a renewal; renewed every third of it."""
    grace_s: Annotated[float, Field(ge=0)] = 30.0
    """After SIGTERM: how long running calls may take to finish."""

    @model_validator(mode="after")
    def _prefetch_is_close_to_concurrency(self) -> WorkerSettings:
        if self.prefetch is not None and self.prefetch > self.most_prefetch:
            raise ValueError(
                f"prefetch may be at most 20 % above concurrency, here {self.most_prefetch}: what "
                "one worker holds without working on it, no other worker can take"
            )
        return self

    @property
    def most_prefetch(self) -> int:
        """The largest prefetch that the concurrency allows."""
        return max(self.concurrency + 1, int(self.concurrency * 1.2))

    @property
    def prefetch_or_default(self) -> int:
        """The prefetch in force."""
        return self.prefetch if self.prefetch is not None else self.most_prefetch


class ProviderWorkerSettings(WorkerSettings):
    """Of a worker that calls a provider: besides, how it waits before it calls again."""

    retry_base_s: Annotated[float, Field(gt=0)] = 1.0
    """Upper bound of the first backoff."""
    retry_cap_s: Annotated[float, Field(gt=0)] = 60.0
    """Upper bound of any backoff."""

    @property
    def backoff(self) -> RetryPolicy:
        """How long to wait between two attempts."""
        return RetryPolicy(self.retry_base_s, self.retry_cap_s)


class AddressSettings(SettingsGroup):
    """Which targets may be called although the address guard forbids them."""

    crawler_allow_hosts: str = ""
    """For development: exact `host:port` pairs that may be crawled, separated by commas."""
    webhook_allow_hosts: str = ""
    """For development: exact `host:port` pairs that webhooks may be sent to, separated by
    commas."""

    @property
    def allowed(self) -> frozenset[tuple[str, int]]:
        """What may be crawled; raises `ConfigurationError` for what is not `host:port`."""
        return _host_ports("FOREBAY_CRAWLER_ALLOW_HOSTS", self.crawler_allow_hosts)

    @property
    def webhook_allowed(self) -> frozenset[tuple[str, int]]:
        """What webhooks may be sent to; raises `ConfigurationError` as `allowed` does."""
        return _host_ports("FOREBAY_WEBHOOK_ALLOW_HOSTS", self.webhook_allow_hosts)


def _host_ports(setting: str, text: str) -> frozenset[tuple[str, int]]:
    return frozenset(_host_port(setting, part) for part in text.split(",") if part)


def _host_port(setting: str, text: str) -> tuple[str, int]:
    host, _, port = text.strip().rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(
            f"{setting}: '{text}' is not host:port; name exact pairs such as localhost:8080"
        )
    return host.strip("[]").lower(), int(port)


Group = TypeVar("Group", bound=SettingsGroup)


def load(group: type[Group]) -> Group:
    """The group as the environment and the secrets' folder have it.

    What is set in the environment wins over a file. Raises `ConfigurationError` naming the setting,
    or the file that cannot be read.
    """
    folder = _secrets_folder()
    try:
        return group(_secrets_dir=folder)
    except ValidationError as invalid:
        raise ConfigurationError(_explain(group, invalid)) from None
    except SettingsError as error:
        raise ConfigurationError(_unreadable(folder, error)) from None


def _secrets_folder() -> Path | None:
    """The folder of `FOREBAY_SECRETS_DIR`; an empty text is as good as none."""
    named = os.environ.get(SECRETS_DIR)
    if not named:
        return None
    folder = Path(named)
    try:
        readable = folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
    except OSError:
        readable = False
    if not readable:
        raise ConfigurationError(f"{SECRETS_DIR}: {folder} is not a folder that can be read")
    return folder


def _unreadable(folder: Path | None, error: SettingsError) -> str:
    """Which file; the library names the field, and keeps the reason as the cause."""
    reason = error.__cause__
    if isinstance(reason, OSError):
        return f"{SECRETS_DIR}: {reason.filename or folder} cannot be read ({reason.strerror})"
    if isinstance(reason, UnicodeDecodeError):
        return f"{SECRETS_DIR}: a file in {folder} is not text in UTF-8: {error}"
    return str(error)


def _explain(group: type[SettingsGroup], invalid: ValidationError) -> str:
    prefix = group.model_config.get("env_prefix", "")
    said = []
    for error in invalid.errors(include_url=False, include_input=False):
        name = f"{prefix}{'_'.join(str(part) for part in error['loc'])}".upper()
        if error["type"] == "missing":
            said.append(f"{name} is not set; {_purpose(group, error['loc'])}")
        else:
            why = error["msg"].removeprefix("Value error, ")
            said.append(f"{name} makes no sense: {why}")
    return "; ".join(said)


def _purpose(group: type[SettingsGroup], location: tuple[int | str, ...]) -> str:
    field = group.model_fields.get(str(location[0])) if location else None
    meaning = (field.description or "").strip().rstrip(".") if field else ""
    return f"it is needed: {meaning}" if meaning else "it is needed"
