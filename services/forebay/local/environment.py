"""What each process of the local stack is told: ports, addresses, settings, passwords."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from forebay.local.ports import HOST, Ports
from forebay.local.processes import PAUSES_S, ProcessSpec, write_json
from forebay.local.servers import Servers

ROOT = Path(__file__).resolve().parents[3]
VHOST = "forebay"
ROLES = ("ingress", "worker", "reconciler", "monitor")
PREFIXES = {"search": "SEARCH", "crawl": "CRAWLER", "llm": "LLM", "webhook": "WEBHOOK"}
_WORKERS = dict.fromkeys(
    ("search_worker", "crawler_worker", "llm_worker", "webhook_worker"), "worker"
)
PROBED = {**_WORKERS, "reconciler": "reconciler"}
# The simulators take any key; the value says so wherever it turns up.
_NO_KEY = "simulated"


@dataclass(frozen=True, slots=True)
class Crew:
    """Our processes of one stack: how many of each, and how soon one that died is back."""

    copies: Mapping[str, int] = field(default_factory=dict)
    """Of processes that are not single: `{"reconciler": 2}` is `reconciler` and `reconciler-2`."""
    pauses_s: tuple[float, float] = PAUSES_S
    """Before a dead process is started again: the first time, and at most, in seconds."""

    def names(self, process: str) -> tuple[str, ...]:
        """The names of a process's copies; the first has the process's own."""
        count = self.copies.get(process, 1)
        return (process, *(f"{process}-{n}" for n in range(2, count + 1)))


@dataclass(frozen=True, slots=True)
class World:
    """The simulated outside world: `profile` is how it behaves (loadtest/providers/README.md)."""

    profile: str = "demo"
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts of one stack listen."""

    ingresses: Mapping[str, str]
    """By process name; `ingress` comes first."""
    providers: str
    site: str
    probes: Mapping[str, str]

    @classmethod
    def choose(cls, ports: Ports, crew: Crew = Crew()) -> Addresses:
        """Free ports, the memorable ones where a person looks."""
        first, *others = crew.names("ingress")
        workers = [name for process in PROBED for name in crew.names(process)]
        return cls(
            ingresses={
                first: f"http://{HOST}:{ports.take('the ingress', preferred=8080)}",
                **{name: f"http://{HOST}:{ports.take(f'the {name}')}" for name in others},
            },
            providers=f"http://{HOST}:{ports.take('the simulated providers', preferred=9080)}",
            site=f"http://{HOST}:{ports.take('the simulated web site', preferred=9081)}",
            probes={name: f"http://{HOST}:{ports.take(f'the {name}')}" for name in workers},
        )

    @property
    def ingress(self) -> str:
        """The first ingress."""
        return self.ingresses["ingress"]


@dataclass(frozen=True, slots=True)
class Told:
    """Everything the processes of one stack are told, from which their settings are made."""

    servers: Servers
    addresses: Addresses
    concurrency: Mapping[str, int]
    extra: Mapping[str, str] = field(repr=False)
    passwords: Mapping[str, str] = field(repr=False)

    def topology(self) -> ProcessSpec:
        """The step that makes virtual host, users, exchanges, queues and policies."""
        passwords = {
            f"FOREBAY_TOPOLOGY_{role.upper()}_PASSWORD": word
            for role, word in self.passwords.items()
        }
        env = self._environment("ingress") | passwords
        env["FOREBAY_RABBITMQ_MANAGEMENT_URL"] = self.servers.management_url
        return ProcessSpec("topology", _python("forebay.cli", "topology", "apply"), env)

    def providers(self, world: World, log: Path) -> ProcessSpec:
        """The simulated outside world."""
        listening = (
            *("--port", str(_port(self.addresses.providers))),
            *("--site-port", str(_port(self.addresses.site))),
        )
        chosen = ("--profile", world.profile, "--seed", str(world.seed), "--log", str(log))
        return ProcessSpec(
            "providers",
            _python("loadtest.providers", *listening, *chosen),
            base_environment(),
            ready_url=f"{self.addresses.providers}/_stats",
        )

    def ingresses(self) -> list[ProcessSpec]:
        """The HTTP API."""
        specs = []
        for name, url in self.addresses.ingresses.items():
            env = self._environment("ingress") | {
                "FOREBAY_INGRESS_HOST": HOST,
                "FOREBAY_INGRESS_PORT": str(_port(url)),
            }
            specs.append(ProcessSpec(name, _python("ingress"), env, ready_url=f"{url}/readyz"))
        return specs

    def probed(self) -> list[ProcessSpec]:
        """The workers and the reconciler, each with its small probe port."""
        specs = []
        for name, url in self.addresses.probes.items():
            process = name.partition("-")[0]
            env = self._environment(PROBED[process]) | {"FOREBAY_PROBE_PORT": str(_port(url))}
            specs.append(ProcessSpec(name, _python(process), env, ready_url=f"{url}/readyz"))
        return specs

    def concurrency_in_force(self) -> dict[str, int]:
        """The bound of each kind's worker, as its process reads it."""
        env = self._environment("worker")
        return {kind: int(env[f"FOREBAY_{word}_CONCURRENCY"]) for kind, word in PREFIXES.items()}

    def _environment(self, role: str) -> dict[str, str]:
        bounds = {
            f"FOREBAY_{PREFIXES[kind]}_CONCURRENCY": str(bound)
            for kind, bound in self.concurrency.items()
        }
        return {
            **base_environment(),
            **_simulated(self.addresses),
            **bounds,
            # One site stands for the whole web here: its worker's bound is the only one, and the
            # pace is the one of its robots.txt.
            "FOREBAY_CRAWLER_PER_HOST_CONCURRENCY": bounds["FOREBAY_CRAWLER_CONCURRENCY"],
            "FOREBAY_CRAWLER_CRAWL_DELAY_S": "0",
            "FOREBAY_AMQP_URL": self.amqp_url(role),
            "FOREBAY_MONGODB_URL": self.servers.mongodb_url,
            **self.extra,
        }

    def amqp_url(self, role: str) -> str:
        """Where a role reaches the broker; a given URL is used as it is when it is all we have."""
        if not self.servers.management_url:
            return self.servers.amqp_url
        return with_login(
            self.servers.amqp_url, f"forebay-{role}", self.passwords[role], f"/{VHOST}"
        )


def _simulated(addresses: Addresses) -> dict[str, str]:
    return {
        "FOREBAY_SEARCH_PROVIDER": "searxng",
        "FOREBAY_SEARCH_SEARXNG_URL": f"{addresses.providers}/searxng",
        "FOREBAY_SEARCH_BRAVE_URL": f"{addresses.providers}/brave",
        "FOREBAY_SEARCH_BRAVE_API_KEY": _NO_KEY,
        "FOREBAY_SEARCH_TAVILY_URL": f"{addresses.providers}/tavily",
        "FOREBAY_SEARCH_TAVILY_API_KEY": _NO_KEY,
        "FOREBAY_SEARCH_SERPER_URL": f"{addresses.providers}/serper",
        "FOREBAY_SEARCH_SERPER_API_KEY": _NO_KEY,
        "FOREBAY_CRAWLER_FIRECRAWL_URL": f"{addresses.providers}/firecrawl",
        "FOREBAY_CRAWLER_FIRECRAWL_API_KEY": _NO_KEY,
        "FOREBAY_CRAWLER_ALLOW_HOSTS": addresses.site.removeprefix("http://"),
        "FOREBAY_WEBHOOK_ALLOW_HOSTS": addresses.providers.removeprefix("http://"),
        "FOREBAY_CRAWLER_IDENTIFY_JOB": "true",
        "FOREBAY_LLM_PROVIDER": "openai",
        "FOREBAY_LLM_OPENAI_BASE_URL": f"{addresses.providers}/openai/v1",
        "FOREBAY_LLM_OPENAI_API_KEY": _NO_KEY,
        "FOREBAY_LLM_ANTHROPIC_BASE_URL": f"{addresses.providers}/anthropic",
        "FOREBAY_LLM_ANTHROPIC_API_KEY": _NO_KEY,
        # Ctrl-C should not take as long as a deployment.
        **{f"FOREBAY_{prefix}_GRACE_S": "5" for prefix in PREFIXES.values()},
    }


def base_environment() -> dict[str, str]:
    """Our own environment without settings of Forebay, and with the source on Python's path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOREBAY_")}
    paths = [str(ROOT / "services"), str(ROOT), kept.get("PYTHONPATH", "")]
    return kept | {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
    }


def kept_passwords(path: Path) -> dict[str, str]:
    """The role users' passwords of this data folder, made at random on the first run."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {role: secrets.token_urlsafe(18) for role in ROLES})
    found: dict[str, str] = json.loads(path.read_text())
    return found


def with_login(url: str, user: str, password: str, path: str) -> str:
    """The same server with another login and path; none at all when `user` is empty."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{user}:{password}@{host}" if user else host
    return urlunsplit((parts.scheme, netloc, path, parts.query, ""))


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
