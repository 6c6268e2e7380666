"""Guards taken out of the product: a suite that does not notice proves nothing."""

from __future__ import annotations

import pytest

from forebay.local.servers import Servers
from tests.planted.bugs import BUGS
from tests.planted.run import bench, healthy, hunt, keep, there

from .conftest import Rows


@pytest.mark.long_only("`make planted` does it too")
@pytest.mark.timeout(7200)
async def test_a_guard_that_is_taken_out_is_missed_by_the_suites(
    rows: Rows, servers: Servers
) -> None:
    row = rows("planted", "a guard taken out of the product")
    with bench(servers) as on:
        assert await healthy(on, there([one for bug in BUGS for one in bug.found_by])) == []
        findings = await hunt(on, BUGS, jobs=2, thorough=False)
    keep(findings)
    row.injected = len(findings)
    row.survived = sum(not finding.missed_by for finding in findings)
    row.figures["tests_that_noticed"] = sum(finding.row()["tests"] for finding in findings)
    assert {finding.bug.name: finding.missed_by for finding in findings if finding.missed_by} == {}
