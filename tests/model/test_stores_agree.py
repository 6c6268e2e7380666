from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import AsyncExitStack
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from forebay.jobs import Event, JobState
from forebay.store import Refusal

from .machine import WORKED, StoresAgree
from .pair import open_pair

SHORT, STEPS = 60, 25
MUST_BE_SEEN = {
    *JobState,
    *(f"refused: {why}" for why in Refusal if why is not Refusal.UNKNOWN),
    "claimed before: busy",
    *(f"ended: {event}" for event in (*WORKED, Event.CANCELED)),
}
"""A run that never came there proves nothing about it. No job goes, so none is unknown."""
MOST_ROUNDS = 4
"""So many times the examples, when chance left something out."""
LEAST_CLAIMS = 50


@pytest.mark.timeout(3600)
def test_both_stores_do_what_the_model_says_whatever_happens(
    request: pytest.FixtureRequest, mongodb_url: str
) -> None:
    """Short and always the same; with `--examples=N --seed=S` as long and as different as asked."""
    examples = request.config.getoption("--examples")
    hasty = request.config.getoption("maxfail") == 1
    profile = settings(
        max_examples=examples or SHORT,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[*HealthCheck],
        phases=[Phase.generate] if hasty else [Phase.generate, Phase.shrink],
    )
    with asyncio.Runner() as loop:
        stack = AsyncExitStack()
        opening = stack.enter_async_context(open_pair(mongodb_url, f"model_{os.getpid()}"))

        class Machine(StoresAgree):
            pair = loop.run(opening)
            runner = loop
            seen: ClassVar[Counter[str]] = Counter()

        first = request.config.getoption("--seed")
        try:
            for n in range(first, first + MOST_ROUNDS):
                seed(n)(Machine)
                run_state_machine_as_test(Machine, settings=profile)
                if Machine.seen.keys() >= MUST_BE_SEEN:
                    break
        finally:
            loop.run(stack.aclose())
        assert not MUST_BE_SEEN - Machine.seen.keys()
        assert Machine.seen["claimed"] >= LEAST_CLAIMS
