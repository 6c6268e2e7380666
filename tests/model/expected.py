"""The simple model: what must be true of one job, in as few words as possible.

It knows nothing of clocks: a wait, a lease and a limit have passed or have not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forebay.jobs import TRANSITIONS, Event, JobState, OnUnknown
from forebay.store import Refusal

ERRORS = {Event.FAILED: "provider_rejected", Event.EXPIRED: "deadline_exceeded"}


@dataclass
class Expected:
    """A job as it must be in any store."""

    id: str
    max_attempts: int
    on_unknown: OnUnknown
    state: JobState
    generation: int = 1
    attempts: int = 0
    token: str | None = None
    """Of the lease."""
    live: bool = False
    """The lease has not run out."""
    due: bool = False
    """What it waits for has come."""
    start_passed: bool = False
    """Its `start_by` has passed."""
    deadline_passed: bool = False
    published: bool = False
    dead_lettered: bool = False
    result: str | None = None
    error: str | None = None
    outcomes: list[str] = field(default_factory=list)
    last_token: str | None = None
    """Under which the last attempt was ended."""
    ends_before: list[tuple[int, JobState]] = field(default_factory=list)
    """Of the generations before this one."""
    tokens: list[str] = field(default_factory=list)
    """All leases there ever were."""

    @property
    def untold(self) -> list[tuple[int, JobState]]:
        """Every end it had: each is to be told, and nobody tells here."""
        now = [(self.generation, self.state)] if self.state.terminal else []
        return [*self.ends_before, *now]

    @property
    def leased(self) -> bool:
        """Whether somebody has a lease, live or not."""
        return self.token is not None

    @property
    def out_of_time(self) -> bool:
        """Whether it may not begin any more."""
        return self.deadline_passed or (self.start_passed and self.attempts == 0)

    @property
    def suspect(self) -> bool:
        """Whether it lost its worker twice in a row, or once before the last attempt it has."""
        told = [said for said in self.outcomes if said not in {"snoozed", "handed_back"}]
        told += ["lease_lost"] if self.leased else []
        lost = 0
        while lost < len(told) and told[-1 - lost] == "lease_lost":
            lost += 1
        return lost >= (1 if self.attempts + 1 >= self.max_attempts else 2)

    def refusal(self, generation: int, suspects: bool) -> Refusal | None:
        """Why a claim must be refused."""
        if generation != self.generation:
            return Refusal.STALE
        if self.state.terminal or self.state is JobState.CANCELING:
            return Refusal.FINISHED
        if self.state is JobState.RUNNING and self.live:
            return Refusal.BUSY
        if self.out_of_time:
            return Refusal.EXPIRED
        waits = self.state is JobState.RETRYING and not self.due
        if waits or self.state is JobState.SCHEDULED:
            return Refusal.NOT_DUE
        unrepeatable = self.leased and self.on_unknown is OnUnknown.FAIL
        if unrepeatable or self.attempts >= self.max_attempts:
            return Refusal.EXHAUSTED
        return Refusal.SUSPECT if self.suspect and not suspects else None

    def claim(self, token: str, live: bool) -> None:
        """A worker took it."""
        if self.leased:
            self.outcomes.append("lease_lost")
        self.state, self.token, self.live = JobState.RUNNING, token, live
        self.attempts += 1
        self.tokens.append(token)

    def allows(self, event: Event, uncount: bool) -> bool:
        """Whether the attempt may end so."""
        if event is Event.RETRY_LATER and not uncount and self.attempts >= self.max_attempts:
            return False
        return event in TRANSITIONS[self.state]

    def end(self, event: Event, result: str | None, *, due: bool, uncount: bool) -> None:
        """The attempt ended."""
        self.outcomes.append(event.value.replace(" ", "_"))
        self.attempts -= uncount
        self.state = TRANSITIONS[self.state][event]
        self.last_token, self.token, self.live, self.due = self.token, None, False, due
        self.result = result
        if event is Event.SUCCEEDED:
            self.error = None
        else:
            self.error = ERRORS.get(event, self.error)
        self.published = self.published and self.state.terminal

    def queue(self) -> None:
        """Its time has come."""
        self.state, self.due, self.published = JobState.QUEUED, False, False

    def cancel(self) -> None:
        """Its caller asked to stop it."""
        if self.state is JobState.RUNNING:
            self.state = JobState.CANCELING
        elif not self.state.terminal and self.state is not JobState.CANCELING:
            self.state, self.error, self.due = JobState.CANCELED, "canceled", False

    def rescue(self) -> None:
        """Its lease ran out."""
        self.outcomes.append("lease_lost")
        spent = self.attempts >= self.max_attempts
        if self.state is JobState.CANCELING:
            self.state, self.error = JobState.CANCELED, "canceled"
        elif self.on_unknown is OnUnknown.FAIL:
            self.state, self.error = JobState.FAILED, "outcome_unknown"
        elif spent:
            self.state, self.error = JobState.FAILED, "attempts_exhausted"
            self.dead_lettered = True
        else:
            self.state = JobState.QUEUED
        self.token, self.live, self.published = None, False, False

    def expire(self) -> None:
        """A limit passed while it waited."""
        self.state, self.error, self.due = JobState.EXPIRED, "deadline_exceeded", False

    def replay(self) -> None:
        """Queued again by hand."""
        self.ends_before.append((self.generation, self.state))
        self.generation += 1
        self.attempts = 0
        self.state, self.due, self.published = JobState.QUEUED, False, False
        self.result, self.error, self.dead_lettered = None, None, False
        self.start_passed = self.deadline_passed = False
