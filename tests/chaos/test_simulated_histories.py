"""I1 to I4, I9, I10: the real code on a virtual clock, many seeded histories of everything at once.

`make test` plays a few hundred of them; `pytest tests/simulation --replay=SEED` plays one again.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.many import play_many

from .conftest import Rows

HISTORIES = 5_000


@pytest.mark.long_only("`make test` has some hundreds of them")
@pytest.mark.timeout(3600)
async def test_no_simulated_history_breaks_a_promise(rows: Rows, seed: int) -> None:
    row = rows("simulation", "seeded histories, faults of every kind in each")
    tally = await asyncio.to_thread(play_many, seed, HISTORIES)
    row.void, row.jobs = tally.void, tally.jobs
    row.injected = tally.histories - tally.void
    row.survived = row.injected - len(tally.violations)
    row.figures |= {
        "faults_injected": tally.injected.total(),
        "kinds_of_faults": len(tally.injected),
        "virtual_hours": round(tally.hours, 1),
        "steps": tally.steps,
        "at_rest_after_the_last_fault_s_max": round(tally.slowest_quiet_s, 1),
        "seeds_that_failed": [*tally.violations],
    }
    assert tally.violations == {}
