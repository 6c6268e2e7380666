"""Everything that can happen to jobs, in any order: the state machine that Hypothesis drives.

Time cannot be moved on a real server. So each wait, lease and limit is one that has passed when it
is set, or one that passes in an hour.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis import note
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from forebay.audit.paths import Snapshot, step_breaches
from forebay.errors import ErrorCode, IllegalTransition, JobError
from forebay.jobs import Event, Idempotency, Job, JobState, OnUnknown
from forebay.store import (
    Claimed,
    Ending,
    Inserted,
    JobRef,
    JobStore,
    KeyTaken,
    Refusal,
    Refused,
    Renewal,
)
from forebay.store.results import INLINE_BYTES
from tests.contract.store.jobs import HOUR, a_job, an_attempt, now

from .expected import Expected
from .facts import code, facts, facts_of
from .pair import Both, Pair, plain

TENANT = "default"
USUAL = [
    *("work", "work", "work", "die", "die", "die", "die", "deliver", "deliver", "deliver"),
    *("stray", "stop", "due", "rescue", "again", "again", "again"),
]
MOST_JOBS = 4
"""Few, so that each goes far."""
ALL = 1000
LIVE_S, LAPSED_S = 3600.0, 0.0
ENDINGS = [Event.SUCCEEDED, Event.FAILED, Event.RETRY_LATER, Event.SNOOZED, Event.HANDED_BACK]
WORKED = [*ENDINGS, Event.EXPIRED]
REJECTED = JobError(ErrorCode.PROVIDER_REJECTED, "no")
OVERDUE = JobError(ErrorCode.DEADLINE_EXCEEDED, "too late")
LARGE = '"' + "x" * INLINE_BYTES + '"'
APART = timedelta(milliseconds=20)
"""Stays in the queue that began closer together than this could be taken for each other."""


def _any(holds: Callable[[Expected], bool]) -> Callable[[Any], bool]:
    """A rule makes sense only while this holds of some job."""
    return lambda machine: any(holds(job) for job in machine.expected.values())


class StoresAgree(RuleBasedStateMachine):
    """Tells two stores and a model the same; `pair` and `runner` are set by a subclass."""

    pair: ClassVar[Pair]
    runner: ClassVar[asyncio.Runner]
    seen: ClassVar[Counter[str]]
    """How often each state was there, each refusal said, each ending written."""

    jobs = Bundle("jobs")
    refs = Bundle("refs")

    def __init__(self) -> None:
        super().__init__()
        self.expected: dict[str, Expected] = {}
        self.inserted: dict[str, Job] = {}
        self.keys: dict[str, str] = {}
        self.before: dict[str, tuple[Snapshot, Snapshot]] = {}
        self.fresh = (f"token{n}" for n in itertools.count())
        self.run(self.pair.empty())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """One step of the loop's."""
        return self.runner.run(coroutine)

    def ask(self, operation: Callable[[JobStore], Any]) -> Both:
        """Both stores' answer."""
        return self.run(self.pair.ask(operation))

    @initialize(target=jobs, attempts=st.integers(1, 4), on_unknown=st.sampled_from(OnUnknown))
    def submit_one_that_can_run(self, attempts: int, on_unknown: OnUnknown) -> str:
        return self.submit(attempts, on_unknown, None, None, None, None)

    @precondition(lambda self: len(self.expected) < MOST_JOBS)
    @rule(
        target=jobs,
        attempts=st.integers(1, 4),
        on_unknown=st.sampled_from(OnUnknown),
        wait=st.sampled_from([None, None, None, -HOUR, HOUR]),
        start=st.sampled_from([None, None, None, -HOUR, HOUR]),
        deadline=st.sampled_from([None, None, None, -HOUR, HOUR]),
        key=st.sampled_from([None, None, "a", "b"]),
    )
    def submit(
        self, attempts: int, on_unknown: OnUnknown, wait: Any, start: Any, deadline: Any, key: Any
    ) -> Any:
        job = a_job(
            max_attempts=attempts,
            on_unknown=on_unknown,
            start_by=start and now() + start,
            deadline=deadline and now() + deadline,
            idempotency=key and Idempotency(key, "same body"),
            notifies=True,
        )
        if wait is not None:
            job = job.evolve(state=JobState.SCHEDULED, not_before=now() + wait, queued_at=None)
        (said,) = self.ask(lambda store: store.insert([job])).mongo
        if self.keys.setdefault(key, job.id) != job.id and key is not None:
            assert said == KeyTaken()
            return self.keys[key]
        assert said == Inserted()
        self._expect(job, due=wait == -HOUR)
        self.expected[job.id].start_passed = start == -HOUR
        self.expected[job.id].deadline_passed = deadline == -HOUR
        return job.id

    def _expect(self, job: Job, *, due: bool = False) -> Expected:
        self.inserted[job.id] = job
        model = Expected(job.id, job.max_attempts, job.on_unknown, job.state, due=due)
        self.expected[job.id] = model
        return model

    @precondition(lambda self: len(self.expected) < MOST_JOBS)
    @rule(job_id=jobs)
    def submit_again(self, job_id: str) -> None:
        job = self.inserted[job_id]
        assert self.ask(lambda store: store.insert([job])).mongo == [Inserted()]

    @rule(
        job_id=jobs,
        generation=st.sampled_from([0, 0, 0, 0, -1]),
        live=st.booleans(),
        again=st.booleans(),
        suspects=st.booleans(),
    )
    def deliver(
        self, job_id: str, generation: int, live: bool, again: bool, suspects: bool
    ) -> None:
        """A message comes, perhaps an old one, perhaps to a worker that dies of it at once."""
        model = self.expected[job_id]
        repeats = again and model.leased
        token = model.token if repeats and model.token else next(self.fresh)
        meant = JobRef.of(self.inserted[job_id])
        ref = replace(meant, generation=model.generation + generation)
        lease_s = LIVE_S if live else LAPSED_S
        said = self.ask(lambda s: s.claim(ref, "w", lease_s, token, suspects=suspects)).mongo
        reason = model.refusal(ref.generation, suspects)
        if reason is None:
            self.seen["claimed"] += 1
            assert isinstance(said, Claimed), said
            model.claim(token, live)
        elif repeats:
            # Its own lease, whatever stands against a new one: the answer was lost, not the claim.
            self.seen[f"claimed before: {reason}"] += 1
            assert isinstance(said, Claimed), said
            assert (said.job.attempts, said.job.state) == (model.attempts, model.state)
        else:
            self.seen[f"refused: {reason}"] += 1
            assert said == Refused(reason)
            end = (model.dead_lettered, model.error) if model.state.terminal else (False, None)
            over = reason is Refusal.FINISHED
            assert (said.dead_lettered, code(said.error)) == (end if over else (False, None))

    @rule(
        nth=st.integers(0, 9),
        event=st.sampled_from(ENDINGS),
        due=st.sampled_from([True, True, False]),
        uncount=st.booleans(),
    )
    def work(self, nth: int, event: Event, due: bool, uncount: bool) -> None:
        """A message comes, and a worker does what is to be done."""
        job_id = self._runnable(nth)
        self.deliver(job_id, 0, live=True, again=False, suspects=True)
        self._compare()
        self.finish(job_id, event, 0, due=due, uncount=uncount, large=False)

    @rule(nth=st.integers(0, 9))
    def die_at_work(self, nth: int) -> None:
        """A message comes, and the worker is gone at once, with its lease."""
        job_id = self._runnable(nth)
        self.deliver(job_id, 0, live=False, again=False, suspects=True)

    @precondition(_any(lambda job: job.leased))
    @rule(job_id=jobs, live=st.booleans(), old=st.integers(0, 3))
    def renew(self, job_id: str, live: bool, old: int) -> None:
        model = self.expected[job_id]
        token = self._token(model, old)
        lease_s = LIVE_S if live else LAPSED_S
        said = self.ask(lambda store: store.renew(job_id, token, lease_s)).mongo
        if token != model.token:
            assert said is Renewal.LOST
            return
        model.live = live
        canceling = model.state is JobState.CANCELING
        assert said is (Renewal.CANCELING if canceling else Renewal.HELD)

    @rule(steps=st.integers(4, 10), seed=st.integers(0, 2**32 - 1))
    def some_time_passes(self, steps: int, seed: int) -> None:
        """The usual, in any order: without it most steps would find nothing to do.

        From a seed, because lists that Hypothesis makes are much alike.
        """
        chance = Random(seed)
        for _ in range(steps):
            step, nth, event = chance.choice(USUAL), chance.randrange(10), chance.choice(WORKED)
            yes, no = chance.random() < 0.5, chance.random() < 0.5
            match step:
                case "work":
                    self.work(nth, event, due=True, uncount=yes)
                case "die":
                    self.die_at_work(nth)
                case "deliver":
                    self.deliver(self._suspicious(nth), 0, live=yes, again=no, suspects=False)
                case "stray":
                    # A message of an old generation, or one for a job that is not to run now.
                    job_id = [*self.expected][nth % len(self.expected)]
                    self.deliver(job_id, -no, live=yes, again=False, suspects=True)
                case "stop":
                    self._stop(nth, heard=yes)
                case "due":
                    self.queue_due()
                case "rescue":
                    self.rescue()
                case "again":
                    ended = [m.id for m in self.expected.values() if m.state.terminal]
                    among = ended or [*self.expected]
                    self.retry_by_hand(among[nth % len(among)])
            self._compare()

    def _runnable(self, nth: int) -> str:
        """A job, mostly one that can run: most steps should lead on."""
        every = [*self.expected.values()]
        ready = [job for job in every if job.refusal(job.generation, suspects=True) is None]
        among = ready if ready and nth < 8 else every
        return among[nth % len(among)].id

    def _suspicious(self, nth: int) -> str:
        """A job that may be what kills its workers, if there is one."""
        every = [*self.expected.values()]
        apart = [job for job in every if job.refusal(job.generation, False) is Refusal.SUSPECT]
        return apart[nth % len(apart)].id if apart else self._runnable(nth)

    def _stop(self, nth: int, *, heard: bool) -> None:
        """A worker hears that its job is to stop, and stops, or is gone before it hears."""
        stopping = [m.id for m in self.expected.values() if m.state is JobState.CANCELING]
        if not stopping:
            job_id = self._runnable(nth)
            self.deliver(job_id, 0, live=heard, again=False, suspects=True)
            self._compare()  # the path of each job is judged step by step
            self.cancel(job_id)
            self._compare()
            stopping = [job_id] * (self.expected[job_id].state is JobState.CANCELING)
        for job_id in stopping if heard else ():
            self.finish(job_id, Event.CANCELED, 0, due=False, uncount=False, large=False)

    def _token(self, model: Expected, old: int) -> str:
        """The lease's, or one of an earlier attempt: its worker comes late."""
        tokens = [*dict.fromkeys([model.token or "nobody's", *reversed(model.tokens), "made up"])]
        return tokens[min(old, len(tokens) - 1)]

    @precondition(_any(lambda job: bool(job.tokens)))
    @rule(
        job_id=jobs,
        event=st.sampled_from([*ENDINGS, Event.EXPIRED, Event.CANCELED]),
        old=st.sampled_from([0, 0, 0, 1, 2]),
        due=st.booleans(),
        uncount=st.booleans(),
        large=st.sampled_from([False, False, False, True]),
    )
    def finish(
        self, job_id: str, event: Event, old: int, due: bool, uncount: bool, large: bool
    ) -> None:
        model = self.expected[job_id]
        token = self._token(model, old)
        uncount = uncount and event in {Event.SNOOZED, Event.HANDED_BACK}
        result = (LARGE if large else f'"{token}"') if event is Event.SUCCEEDED else None
        attempt = an_attempt(self.inserted[job_id], event.value.replace(" ", "_"))
        ending = Ending(
            event=event,
            attempt=replace(attempt, n=model.attempts, generation=model.generation),
            result=result,
            error={Event.FAILED: REJECTED, Event.EXPIRED: OVERDUE}.get(event),
            wait_s=0 if due else LIVE_S,
            uncount=uncount,
        )
        said = self.ask(lambda store: store.finish(job_id, token, ending)).mongo
        if token != model.token:
            assert (said is None) == (token != model.last_token), said
        elif model.allows(event, uncount):
            assert isinstance(said, Job), said
            model.end(event, result, due=due, uncount=uncount)
            self.seen[f"ended: {event}"] += 1
        else:
            assert isinstance(said, IllegalTransition), said

    @precondition(_any(lambda job: job.due))
    @rule(target=refs)
    def queue_due(self) -> Any:
        said = self.ask(lambda store: _by_id(store.queue_due(ALL)))
        due = [m for m in self.expected.values() if m.state in _WAITS and m.due]
        assert sorted(m.id for m in due) == [ref.id for ref in said.mongo]
        for model in due:
            model.queue()
        return said

    @precondition(_any(lambda job: job.state is JobState.QUEUED))
    @rule(target=refs, old=st.sampled_from([False, False, True]))
    def relay(self, old: bool) -> Any:
        """What is not published: all of it, or what is an hour old."""
        age_s = LIVE_S if old else 0.0
        said = self.ask(lambda store: _by_id(store.unpublished(age_s, ALL)))
        missing = [
            m.id for m in self.expected.values() if m.state is JobState.QUEUED and not m.published
        ]
        assert [ref.id for ref in said.mongo] == ([] if old else sorted(missing))
        return said

    @rule(sent=refs)
    def confirmed(self, sent: Both) -> None:
        """The broker confirmed what a loop took, perhaps long ago."""
        meant = self._told_apart(sent)
        self.run(self.pair.memory.mark_published([memory for memory, _ in meant]))
        self.run(self.pair.mongo.mark_published([mongo for _, mongo in meant]))
        now_there = self.run(self.pair.jobs([*self.expected]))
        for memory, _ in meant:
            job, _ = now_there[memory.id]
            same = (job.generation, job.attempts, job.queued_at) == (
                memory.generation,
                memory.attempts,
                memory.queued_at,
            )
            if same and job.state is JobState.QUEUED:
                self.expected[memory.id].published = True

    def _told_apart(self, sent: Both) -> list[tuple[JobRef, JobRef]]:
        """Without those whose stay cannot be told from the one that followed it at once."""
        there = self.run(self.pair.jobs([*self.expected]))
        meant = []
        for memory, mongo in zip(sent.memory, sent.mongo, strict=True):
            both = zip((memory, mongo), there[memory.id], strict=True)
            apart = [_distance(ref, job) for ref, job in both]
            if all(d == timedelta(0) for d in apart) or all(d > APART for d in apart):
                meant.append((memory, mongo))
        return meant

    @rule(job_id=jobs, due=st.sampled_from([True, True, False]))
    def postpone(self, job_id: str, due: bool) -> None:
        model = self.expected[job_id]
        ref = replace(JobRef.of(self.inserted[job_id]), generation=model.generation)
        self.ask(lambda store: store.postpone(ref, LAPSED_S if due else LIVE_S))
        if model.state is JobState.QUEUED:
            model.state, model.due, model.published = JobState.RETRYING, due, False

    @precondition(_any(lambda job: job.leased and not job.live))
    @rule()
    def rescue(self) -> None:
        said = self.ask(_rescued).mongo
        lost = [m for m in self.expected.values() if m.leased and not m.live]
        assert sorted(m.id for m in lost) == [job_id for job_id, _ in said]
        for model in lost:
            model.rescue()
        assert {job_id: self.expected[job_id].state for job_id, _ in said} == dict(said)

    @precondition(_any(lambda job: job.out_of_time))
    @rule()
    def expire(self) -> None:
        late = [
            m
            for m in self.expected.values()
            if m.out_of_time and m.state in {*_WAITS, JobState.QUEUED}
        ]
        assert self.ask(lambda store: store.expire(ALL)).mongo == len(late)
        for model in late:
            model.expire()

    @rule(job_id=jobs, nth=st.integers(0, 4))
    def a_caller_cancels(self, job_id: str, nth: int) -> None:
        """Seldom: there is little that a canceled job still does."""
        if nth == 0:
            self.cancel(job_id)

    def cancel(self, job_id: str) -> None:
        model = self.expected[job_id]
        said = self.ask(lambda store: store.cancel(TENANT, job_id)).mongo
        model.cancel()
        assert said.state is model.state
        stopping = self.ask(lambda store: store.asked_to_stop([*self.expected])).mongo
        expected = {m.id for m in self.expected.values() if m.state is JobState.CANCELING}
        assert stopping == expected

    @precondition(_any(lambda job: job.state.terminal))
    @rule(job_id=jobs)
    def retry_by_hand(self, job_id: str) -> None:
        model = self.expected[job_id]
        said = self.ask(lambda store: store.retry(TENANT, job_id)).mongo
        if model.state.terminal:
            assert isinstance(said, Job)
            model.replay()
        else:
            assert isinstance(said, IllegalTransition)

    @precondition(_any(lambda job: job.state.terminal))
    @rule(job_id=jobs)
    def read(self, job_id: str) -> None:
        """A caller reads: the job, its result, whether it is done."""
        model = self.expected[job_id]
        self.ask(lambda store: store.get(TENANT, job_id))
        assert self.ask(lambda store: _result(store, job_id)).mongo == model.result
        done = self.ask(lambda store: store.finished([job_id])).mongo
        assert (job_id in done) == model.state.terminal

    @precondition(_any(lambda job: job.result == LARGE))
    @rule()
    def prune(self) -> None:
        """What goes is nobody's; chunks are not the memory store's, so they are not compared."""
        self.run(self.pair.mongo.prune(None, ALL))
        self.run(self.pair.memory.prune(None, ALL))

    @invariant()
    def stores_and_model_agree(self) -> None:
        self._compare()

    def _compare(self) -> None:
        there = self.run(self.pair.jobs([*self.expected]))
        assert there.keys() == self.expected.keys()
        for job_id, both in there.items():
            model = self.expected[job_id]
            self.seen[model.state] += 1
            for job in both:
                assert facts(job) == facts_of(model), note(f"{job_id}: {plain(job)}")
            self._judge_path(job_id, both)

    def _judge_path(self, job_id: str, both: tuple[Job, Job]) -> None:
        now_is = (Snapshot.of(both[0]), Snapshot.of(both[1]))
        before = self.before.get(job_id)
        self.before[job_id] = now_is
        for was, then in zip(before, now_is, strict=True) if before else ():
            assert [*step_breaches(was, then)] == []


_WAITS = {JobState.SCHEDULED, JobState.RETRYING}


def _distance(ref: JobRef, job: Job) -> timedelta:
    if ref.queued_at is None or job.queued_at is None:
        return timedelta(days=1)
    return abs(ref.queued_at - job.queued_at)


async def _by_id(refs: Any) -> list[JobRef]:
    return sorted(await refs, key=lambda ref: ref.id)


async def _rescued(store: JobStore) -> list[tuple[str, JobState]]:
    return sorted((one.ref.id, one.state) for one in await store.rescue(ALL))


async def _result(store: JobStore, job_id: str) -> str | None:
    job = await store.get(TENANT, job_id)
    return None if job is None else await store.result(job)
