"""How the outside world behaves: pure decisions, drawn from the seed and the call's identity.

The same seed, job, attempt and target always meet the same fate, so a run can be repeated; a
retry is another attempt and draws again, so it normally succeeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from hashlib import blake2b
from types import MappingProxyType

from loadtest.providers.directives import Action, Directive

# Answers lean towards the quick end, as real providers' do: the median is at a third of the range.
_LATENCY_SKEW = 1.6
_HTTP_DATE = "http-date"


class Kind(StrEnum):
    """The kind of external call, as the call log counts it."""

    SEARCH = "search"
    CRAWL = "crawl"
    LLM = "llm"


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of calls, 0 to 1, that meet each fault; what is left is answered well."""

    rate_limited: float = 0.0
    server_error: float = 0.0
    hang: float = 0.0
    truncate: float = 0.0
    drop: float = 0.0
    invalid_json: float = 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """One temper of the world: latency ranges in seconds by kind, fault shares, robots delay."""

    name: str
    latency_s: Mapping[Kind, tuple[float, float]]
    faults: Faults
    retry_after: tuple[str, ...]
    crawl_delay_s: float


@dataclass(frozen=True, slots=True)
class CallKey:
    """What identifies one call for the draw: equal keys meet the same fate."""

    seed: int
    provider: str
    job: str
    attempt: int
    scope: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The fate of one call; no action and no status means a good answer after the latency."""

    latency_s: float
    action: Action | None = None
    status: int | None = None
    retry_after: str | None = None

    @property
    def fault(self) -> str | None:
        """Name the fault for the call log, or None for a good answer."""
        if self.action is not None:
            return str(self.action)
        return f"status_{self.status}" if self.status is not None else None


def _latencies(search: float, crawl: float, llm: float) -> Mapping[Kind, tuple[float, float]]:
    highest = {Kind.SEARCH: search, Kind.CRAWL: crawl, Kind.LLM: llm}
    return MappingProxyType({kind: (high / 10, high) for kind, high in highest.items()})


QUIET = Profile(
    name="quiet",
    latency_s=MappingProxyType(dict.fromkeys(Kind, (0.004, 0.006))),
    faults=Faults(),
    retry_after=("1",),
    crawl_delay_s=0.01,
)
DEMO = Profile(
    name="demo",
    latency_s=MappingProxyType(
        {Kind.SEARCH: (0.3, 1.2), Kind.CRAWL: (0.1, 0.6), Kind.LLM: (0.8, 2.5)}
    ),
    faults=Faults(rate_limited=0.02, server_error=0.01),
    retry_after=("1",),
    # One polite host serves every crawl job of the demo: 50 pages a second, not one.
    crawl_delay_s=0.02,
)
STEADY = replace(DEMO, name="steady", faults=Faults())
CHAOS = Profile(
    name="chaos",
    latency_s=_latencies(search=3.0, crawl=2.0, llm=6.0),
    faults=Faults(
        rate_limited=0.06,
        server_error=0.06,
        hang=0.01,
        truncate=0.03,
        drop=0.02,
        invalid_json=0.02,
    ),
    retry_after=("1", "2", "http-date:2", "garbage"),
    crawl_delay_s=0.1,
)
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {p.name: p for p in (QUIET, DEMO, STEADY, CHAOS)}
)


def draw(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the parts only."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / (1 << 56)


def decide(profile: Profile, kind: Kind, key: CallKey, *, faults: bool = True) -> Plan:
    """Return the fate the seed gives this call; `faults=False` keeps the latency only."""
    identity = (key.seed, key.provider, key.job, key.attempt, key.scope)
    low, high = profile.latency_s[kind]
    latency_s = low + (high - low) * float(draw("latency", *identity) ** _LATENCY_SKEW)
    if not faults:
        return Plan(latency_s)
    point = draw("fault", *identity)
    for share, action, status in _ladder(profile.faults):
        if point < share:
            return Plan(latency_s, action, status, _retry_after(profile, status, identity))
        point -= share
    return Plan(latency_s)


def direct(plan: Plan, directive: Directive) -> Plan:
    """Return the plan a directive makes of a faultless one."""
    latency_s = plan.latency_s if directive.latency_s is None else directive.latency_s
    return Plan(latency_s, directive.action, directive.status, directive.retry_after)


def retry_after_header(value: str, now: datetime) -> str:
    """Spell a Retry-After value for the wire: seconds, an HTTP date (RFC 9110 10.2.3) or junk."""
    name, _, seconds = value.partition(":")
    if name.lower() == _HTTP_DATE:
        ahead = float(seconds) if seconds.isdigit() else 2.0
        return format_datetime((now + timedelta(seconds=ahead)).astimezone(UTC), usegmt=True)
    return "soon; try later" if value.lower() == "garbage" else value


def _ladder(faults: Faults) -> tuple[tuple[float, Action | None, int | None], ...]:
    return (
        (faults.rate_limited, None, 429),
        (faults.server_error, None, 500),
        (faults.hang, Action.HANG, None),
        (faults.truncate, Action.TRUNCATE, None),
        (faults.drop, Action.DROP, None),
        (faults.invalid_json, Action.INVALID_JSON, None),
    )


def _retry_after(profile: Profile, status: int | None, identity: tuple[object, ...]) -> str | None:
    if status != 429:
        return None
    return profile.retry_after[int(draw("retry", *identity) * len(profile.retry_after))]
