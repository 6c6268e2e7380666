"""The ledger: what callers asked and were answered, one JSON line for each answer.

It is kept by the callers, outside the system, so it stays when the system loses everything. Only
an answer that a caller can rely on counts as accepted: a 200 or 202 to a submission, with an id.
Where no answer came, or one that promises nothing either way, the outcome is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from forebay.errors import ConfigurationError
from forebay.jobs import CALLER_KINDS, JobState

VERSION = 1
"""Of the lines' meaning; the first line of every ledger says it."""

NO_ANSWER = 0
"""The status of a request that was not answered: the connection broke, or the caller gave up."""

SUBMISSIONS = frozenset({"/v1/jobs", *(f"/v1/{kind}" for kind in CALLER_KINDS)})
"""The paths that a POST submits a job to."""


class Meaning(StrEnum):
    """What the answer to a submission lets its caller believe."""

    ACCEPTED = "accepted"
    """The job is durable."""
    REFUSED = "refused"
    """The caller's mistake (4xx): there is no job."""
    UNKNOWN = "unknown"
    """There may be a job or none: no answer, a 5xx, or a success without an id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One request and what came back."""

    at: datetime
    """When the answer came, by the caller's clock."""
    method: str
    path: str
    status: int
    """The HTTP status; `NO_ANSWER` for none."""
    kind: str | None = None
    key: str | None = None
    """The `Idempotency-Key` that was sent."""
    job_id: str | None = None
    """The job in the answer; for a GET the job that was asked for."""
    state: str | None = None
    """The job's state, if the answer told one."""
    generation: int | None = None
    """The job's generation, if the answer told one."""
    result_ttl_s: int | None = None
    """The retention that was asked for, in seconds; None for the default."""
    note: str | None = None
    """For a person."""

    @property
    def submission(self) -> bool:
        """Whether it answers an attempt to submit a job."""
        return self.method == "POST" and self.path in SUBMISSIONS

    @property
    def meaning(self) -> Meaning:
        """What the answer to a submission promises."""
        if self.status in {200, 202} and self.job_id is not None:
            return Meaning.ACCEPTED
        return Meaning.REFUSED if 400 <= self.status < 500 else Meaning.UNKNOWN

    @property
    def accepted(self) -> bool:
        """Whether a job was promised by it."""
        return self.submission and self.meaning is Meaning.ACCEPTED


class LedgerWriter:
    """Appends answers to a file; each is with the kernel when `write` returns.

    For one process at a time; within it any number of tasks or greenlets may write.

    with LedgerWriter(Path("ledger.jsonl")) as ledger:
        ledger.note("POST", "/v1/search", 202, job_id="job_...", key="order-42")
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One write a line: after a kill the file ends with a whole one.
        self._file = path.open("a", buffering=1, encoding="utf-8")
        if self._file.tell() == 0:
            self._file.write(json.dumps({"ledger": VERSION}) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, answer: Answer) -> None:
        """Append one."""
        said = {name: getattr(answer, name) for name in answer.__slots__}
        line = {name: value for name, value in said.items() if value is not None}
        line["at"] = answer.at.astimezone(UTC).isoformat()
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def note(self, method: str, path: str, status: int, **said: Any) -> Answer:
        """Append an answer that came just now; `said` are fields of `Answer`."""
        answer = Answer(at=datetime.now(UTC), method=method, path=path, status=status, **said)
        self.write(answer)
        return answer

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_ledger(path: Path) -> list[Answer]:
    """Every answer, in the order they came.

    Raises `ConfigurationError` naming the line and what is wrong with it: of a ledger that is not
    whole nothing can be concluded.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return list(_answers(path, lines))
    except OSError as reason:
        raise ConfigurationError(f"{path} cannot be read: {reason.strerror}") from None
    except UnicodeDecodeError as reason:
        raise ConfigurationError(f"{path} is not text in UTF-8: {reason.reason}") from None


def _answers(path: Path, lines: Iterator[str]) -> Iterator[Answer]:
    first = next(lines, "")
    try:
        _check_version(_object(first))
    except ValueError as wrong:
        raise ConfigurationError(f"{path}, line 1: {wrong}") from None
    for number, line in enumerate(lines, start=2):
        try:
            yield _answer(_object(line))
        except ValueError as wrong:
            raise ConfigurationError(f"{path}, line {number}: {wrong}") from None


def _check_version(line: dict[str, Any]) -> None:
    if "ledger" not in line:
        raise ValueError(f'a ledger begins with {{"ledger": {VERSION}}}')
    if line["ledger"] != VERSION:
        raise ValueError(f"a ledger of version {line['ledger']}; this reads version {VERSION}")


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON; was its writer ended in the middle of it?") from None
    match found:
        case dict():
            return found
        case _:
            raise ValueError("it is not a JSON object")


_TEXTS = ("method", "path", "kind", "key", "job_id", "state", "note")
_NUMBERS = ("status", "generation", "result_ttl_s")
_MOST = 2**31 - 1
_NEEDED = ("at", "method", "path", "status")


def _answer(line: dict[str, Any]) -> Answer:
    for name in _NEEDED:
        if line.get(name) is None:
            raise ValueError(f"`{name}` is missing")
    unknown = sorted(line.keys() - {"at", *_TEXTS, *_NUMBERS})
    if unknown:
        raise ValueError(f"`{unknown[0]}` is not known")
    for name in _TEXTS:
        _check(line, name, str, "text")
    for name in _NUMBERS:
        _check(line, name, int, "a whole number")
        if not 0 <= (line.get(name) or 0) <= _MOST:
            raise ValueError(f"`{name}` is not between 0 and {_MOST}")
    if line.get("state") is not None:
        _check_state(line["state"])
    return Answer(**{**line, "at": _moment(line["at"])})


def _check(line: dict[str, Any], name: str, kind: type, said: str) -> None:
    value = line.get(name)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise ValueError(f"`{name}` is not {said}")


def _check_state(state: str) -> None:
    if state not in set(JobState):
        raise ValueError(f"`state` is {state!r}, which is none")


def _moment(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValueError("`at` is not a time") from None
    if moment.tzinfo is None:
        raise ValueError("`at` has no offset")
    return moment
