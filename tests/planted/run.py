"""`python -m tests.planted.run`: plant each bug in a copy, and see that the suites notice.

A checker that never caught anything proves nothing. For each bug the sources are copied, one guard
is taken out of the copy, and the suites that must notice are run on it. Noticed is only what makes
a test fail: a suite that cannot be collected, fails in a fixture or hangs for longer than its limit
has found nothing. The same suites must first pass without any bug.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from forebay.local.screen import say
from forebay.local.servers import Servers, servers
from tests.planted.bug import Bug
from tests.planted.bugs import BUGS
from tests.planted.finders import FINDERS, Finder

ROOT = Path(__file__).parents[2]
REPORT = Path(__file__).with_name("report.json")
COPIED = ("services", "tests", "loadtest", "scripts", "deploy", "docs", "pyproject.toml")
LEFT_OUT = shutil.ignore_patterns(".hypothesis", "results", "report.json")
MOST_FAILURES = 10
"""With --all a suite stops after this many failed tests: a hanging one would take for ever."""
OURS = ("FOREBAY_AMQP_URL", "FOREBAY_MONGODB_URL", "FOREBAY_RABBITMQ_MANAGEMENT_URL")


@dataclass(frozen=True, slots=True)
class Search:
    """What one suite said of one copy."""

    code: int
    """pytest's exit code; -1 when the suite took too long."""
    failed: tuple[str, ...]
    """Names of the tests that failed, fixtures left out."""
    said: str
    """The end of what it printed."""

    @property
    def found(self) -> bool:
        """Whether a test noticed."""
        return self.code == 1 and bool(self.failed)


@dataclass
class Finding:
    """What all suites said of one bug."""

    bug: Bug
    searches: dict[str, Search] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def missed_by(self) -> list[str]:
        """Suites that should have noticed and did not."""
        expected = [finder.name for finder in self.bug.found_by]
        return [name for name in expected if not self.searches[name].found]

    def row(self) -> dict[str, Any]:
        """As it stands in the report."""
        found = {name: one.failed for name, one in self.searches.items() if one.found}
        return {
            "bug": self.bug.name,
            "breaks": self.bug.breaks,
            "found_by": [f"{name}: {failed[0]}" for name, failed in found.items()],
            "suites": {name: len(failed) for name, failed in found.items()},
            "tests": sum(map(len, found.values())),
            "missed_by": self.missed_by,
            "seconds": round(self.seconds, 1),
        }


class Bench:
    """Makes copies of the checkout and runs suites on them."""

    def __init__(self, directory: Path, servers: Mapping[str, str], *, thorough: bool) -> None:
        self._original = directory / "original"
        self._directory = directory
        self._servers = servers
        self._stop = f"--maxfail={MOST_FAILURES}" if thorough else "--exitfirst"
        self._original.mkdir()
        for name in COPIED:
            _copy(ROOT / name, self._original / name)

    async def search(self, finder: Finder, tree: Path) -> Search:
        """Let a suite look for the bug in a copy.

        A test that fails must fail again alone: one that failed by chance is left out, and the rest
        of the suite looks again.
        """
        left_out: list[str] = []
        while True:
            first = await self.test(finder, tree, [*finder.arguments, *_without(left_out)])
            if not first.found:
                return first
            again = await self.test(finder, tree, [*first.failed, *finder.options])
            if again.found:
                return replace(first, failed=again.failed)
            left_out += first.failed

    async def test(self, finder: Finder, tree: Path | None, arguments: Sequence[str]) -> Search:
        """Run tests once on a copy; without one, on the original."""
        with tempfile.TemporaryDirectory(dir=self._directory) as scratch:
            report, log = Path(scratch) / "report.xml", Path(scratch) / "log"
            with log.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "pytest", *arguments, self._stop),
                    *("-q", "--tb=line", "-p", "no:randomly", "-p", "no:cacheprovider"),
                    *("--junitxml", str(report), "--basetemp", f"{scratch}/tmp"),
                    cwd=tree or self._original,
                    env=self._environment(finder),
                    stdout=output,
                    stderr=output,
                )
                code = await _ended(process, finder.limit_s)
            return Search(code, tuple(_failed(report)), log.read_text(errors="replace")[-3000:])

    def _environment(self, finder: Finder) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FOREBAY_")}
        origin = {"FOREBAY_SERVERS": "machine"} if finder.own_servers else self._servers
        return {**kept, **origin, "PYTHONPATH": "services:."}

    async def try_out(self, bug: Bug, finders: Sequence[Finder]) -> Finding:
        """Plant a bug in a copy of its own and let the suites look for it."""
        finding, began = Finding(bug), time.monotonic()
        with tempfile.TemporaryDirectory(dir=self._directory) as directory:
            tree = Path(directory) / "tree"
            _copy(self._original, tree)
            bug.plant(tree / "services")
            for finder in finders:
                finding.searches[finder.name] = await self.search(finder, tree)
        finding.seconds = time.monotonic() - began
        return finding


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=LEFT_OUT)
    elif source.exists():
        shutil.copy2(source, target)


async def _ended(process: asyncio.subprocess.Process, within_s: float) -> int:
    try:
        async with asyncio.timeout(within_s):
            return await process.wait()
    except TimeoutError:
        process.kill()  # the servers it started die with it
        await process.wait()
        return -1


def _without(tests: Sequence[str]) -> list[str]:
    return [f"--deselect={test}" for test in tests]


def _failed(report: Path) -> list[str]:
    """The tests that failed by themselves; an error in a fixture is no failure."""
    if not report.exists():
        return []
    cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314  we wrote it
    return [
        f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None
    ]


@contextmanager
def bench(shared: Servers, *, thorough: bool = False) -> Iterator[Bench]:
    """A bench whose suites share a broker and a store."""
    urls = (shared.amqp_url, shared.mongodb_url, shared.management_url)
    told = {"FOREBAY_SERVERS": "urls", **dict(zip(OURS, urls, strict=True))}
    with tempfile.TemporaryDirectory(prefix="planted-") as directory:
        yield Bench(Path(directory), told, thorough=thorough)


def there(finders: Sequence[Finder]) -> list[Finder]:
    """Those whose tests are in this checkout, in the order of what they cost."""
    return [one for one in FINDERS if one in finders and (ROOT / one.path).exists()]


async def healthy(on: Bench, finders: Sequence[Finder]) -> list[str]:
    """What stands against a search: suites that fail without any bug."""
    against = []
    for finder in finders:
        search = await on.test(finder, None, finder.arguments)
        say(f"  {'passes' if search.code == 0 else 'FAILS ':8} {finder.name}")
        if search.code != 0:
            against.append(f"{finder.name} fails without any bug ({search.code}):\n{search.said}")
    return against


async def hunt(on: Bench, bugs: Sequence[Bug], jobs: int, *, thorough: bool) -> list[Finding]:
    """Try out all bugs, some at a time, and say of each what was found."""
    turns = asyncio.Semaphore(jobs)

    async def one(bug: Bug) -> Finding:
        async with turns:
            finding = await on.try_out(bug, there(FINDERS if thorough else bug.found_by))
        say(_line(finding))
        return finding

    return list(await asyncio.gather(*map(one, bugs)))


def _line(finding: Finding) -> str:
    mark = "MISSED" if finding.missed_by else "found"
    lines = [f"{mark:6} {finding.seconds:5.1f} s  {finding.bug.breaks:4} {finding.bug.name}"]
    for name, search in finding.searches.items():
        said = f"{len(search.failed)}: {search.failed[0]}" if search.found else "-"
        lines.append(f"{'':24}{name}: {said}")
        if not search.found and name in finding.missed_by and search.code != 0:
            lines.append(search.said)
    return "\n".join(lines)


def keep(findings: Sequence[Finding]) -> None:
    """Write the report, of which docs/reliability-report.md is made: a row for each bug there is.

    Of a bug that was not tried now the row that was there stays.
    """
    rows = kept_rows() | {finding.bug.name: finding.row() for finding in findings}
    told = [rows[bug.name] for bug in BUGS if bug.name in rows]
    REPORT.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def kept_rows() -> dict[str, dict[str, Any]]:
    """What the report has, by the name of the bug."""
    return {row["bug"]: row for row in json.loads(REPORT.read_text("utf-8"))}


async def run(chosen: argparse.Namespace) -> int:
    """All of it; the process's exit code."""
    bugs = [bug for bug in BUGS if not chosen.only or any(w in bug.name for w in chosen.only)]
    if chosen.new:
        bugs = [bug for bug in bugs if bug.name not in kept_rows()]
    wanted = FINDERS if chosen.all else [finder for bug in bugs for finder in bug.found_by]
    with tempfile.TemporaryDirectory(prefix="planted-") as directory:
        async with servers(Path(directory)) as shared:
            with bench(shared, thorough=chosen.all) as on:
                say("Without a bug:")
                against = await healthy(on, there(wanted))
                if against:
                    say("\n".join(against))
                    return 2
                say(f"{len(bugs)} bugs:")
                findings = await hunt(on, bugs, chosen.jobs, thorough=chosen.all)
    keep(findings)
    missed = [finding for finding in findings if finding.missed_by]
    say(f"{len(findings) - len(missed)} of {len(findings)} were found by all that should.")
    return 1 if missed else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.planted.run")
    parser.add_argument(
        "--only", metavar="WORDS", action="append", help="bugs whose name has these words"
    )
    parser.add_argument("--new", action="store_true", help="bugs that the report does not have yet")
    parser.add_argument("--list", action="store_true", help="name the bugs and stop")
    parser.add_argument("--all", action="store_true", help="let every suite look for every bug")
    parser.add_argument("--jobs", type=int, default=2, help="bugs at once")
    chosen = parser.parse_args()
    if chosen.list:
        for bug in BUGS:
            say(f"{bug.breaks:4} {bug.name}: {', '.join(one.name for one in bug.found_by)}")
        return 0
    return asyncio.run(run(chosen))


if __name__ == "__main__":
    sys.exit(main())
