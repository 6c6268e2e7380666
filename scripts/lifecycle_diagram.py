"""Draw the state diagram of docs/lifecycle.md from `TRANSITIONS`; `make docs` runs it.

The diagram stands between two markers. Drawn from the table it cannot say anything else than the
code does; a test fails when the page is behind.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

from forebay.jobs import TRANSITIONS, Event, JobState

PAGE = Path(__file__).parent.parent / "docs" / "lifecycle.md"
BEGIN, END = "<!-- diagram: begin -->", "<!-- diagram: end -->"


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> scheduled", "    [*] --> queued"]
    for state, steps in TRANSITIONS.items():
        events: dict[JobState, list[Event]] = defaultdict(list)
        for event, target in steps.items():
            events[target].append(event)
        lines += [
            f"    {state} --> {target}: {', '.join(names)}" for target, names in events.items()
        ]
    return "\n".join([*lines, "```"])


def with_diagram(page: str) -> str:
    """The page with today's diagram between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{diagram()}\n{END}{after}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(with_diagram(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{PAGE} is drawn\n")


if __name__ == "__main__":
    main()
