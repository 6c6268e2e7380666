"""Guards taken out of the product: a suite that does not notice proves nothing."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from forebay.local.servers import Servers
from tests.planted.bug import Bug
from tests.planted.bugs import BUGS
from tests.planted.finders import ALARMS, FAULTS
from tests.planted.run import bench, healthy, hunt, keep, there

from .conftest import Rows

IN_SHORT = 3
SLOW = {ALARMS, FAULTS}
"""They start servers of their own."""


@pytest.mark.timeout(3600)
async def test_a_guard_that_is_taken_out_is_missed_by_the_suites(
    rows: Rows, long: bool, seed: int, servers: Servers
) -> None:
    row = rows("planted", "a guard taken out of the product")
    bugs = BUGS if long else sample(seed)
    with bench(servers) as on:
        assert await healthy(on, there([one for bug in bugs for one in bug.found_by])) == []
        findings = await hunt(on, bugs, jobs=2, thorough=False)
    if long:
        keep(findings)
    row.injected = len(findings)
    row.survived = sum(not finding.missed_by for finding in findings)
    row.figures["tests_that_noticed"] = sum(finding.row()["tests"] for finding in findings)
    assert {finding.bug.name: finding.missed_by for finding in findings if finding.missed_by} == {}


def sample(seed: int) -> list[Bug]:
    """A few bugs, each with the quickest suite that must notice it."""
    quick = [replace(bug, found_by=bug.found_by[:1]) for bug in BUGS if not SLOW & {*bug.found_by}]
    return random.Random(seed).sample(quick, IN_SHORT)
