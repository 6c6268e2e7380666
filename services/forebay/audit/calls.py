"""The providers' own log of calls: what really reached them, by job and attempt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from forebay.errors import ConfigurationError

_KINDS = {
    "job_id": (str, NoneType),
    "attempt": (int, NoneType),
    "kind": (str,),
    "path": (str,),
}


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One request that a provider saw, for an attempt of a job."""

    job_id: str
    attempt: int
    kind: str
    path: str
    """What was asked for, without its query."""


def read_calls(path: Path) -> list[ProviderCall]:
    """The calls in a JSON-lines log of the simulated providers (`provider-calls.jsonl`).

    Raises `ConfigurationError` naming the line that cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return [*calls_of(_objects(path, lines))]
    except OSError as reason:
        raise ConfigurationError(f"{path} cannot be read: {reason.strerror}") from None
    except UnicodeDecodeError as reason:
        raise ConfigurationError(f"{path} is not text in UTF-8: {reason.reason}") from None


def calls_of(said: Iterable[Mapping[str, Any]]) -> Iterator[ProviderCall]:
    """The calls that came for a job.

    Requests of others are left out: of a probe, of a browser, and the crawler's own for robots.txt,
    which it makes for all jobs together and in the name of none.
    """
    for one in said:
        if one["job_id"] is not None and one["attempt"] is not None:
            yield ProviderCall(one["job_id"], one["attempt"], one["kind"], one["path"])


def _objects(path: Path, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        try:
            found = json.loads(line)
            call = {name: found[name] for name in _KINDS}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ConfigurationError(f"{path}, line {number}: it is no provider call") from None
        for name, value in call.items():
            if not isinstance(value, _KINDS[name]):
                raise ConfigurationError(f"{path}, line {number}: `{name}` is of the wrong type")
        yield call
