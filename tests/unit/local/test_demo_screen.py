from __future__ import annotations

from typing import Any

import pytest

from forebay.local.demo_calls import Receipt, requests
from forebay.local.demo_screen import Progress, in_short


def test_the_callers_ask_for_all_three_kinds_in_equal_parts_and_never_the_same_twice():
    asked = requests(500, "http://site")
    kinds = [request.kind for request in asked]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "search": 167,
        "crawl": 167,
        "llm": 166,
    }
    assert len({str(request.body) for request in asked}) == 500


def test_without_a_terminal_a_line_is_said_only_when_something_moved(
    capsys: pytest.CaptureFixture[str],
):
    receipts = [Receipt("search", 202, 1.0, "job_1")]
    job = {"id": "job_1", "kind": "search", "state": "queued", "done": False, "attempts": 0}
    with Progress(receipts) as progress:
        progress.show([job], 0.5)
        progress.show([job], 1.0)
        progress.show([job | {"state": "succeeded", "done": True, "attempts": 2}], 1.5)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "search: waiting 1, running 0, done 0, retried 0" in lines[0]
    assert "search: waiting 0, running 0, done 1, retried 1" in lines[1]


@pytest.mark.parametrize(
    ("kind", "result", "words"),
    [
        (
            "search",
            {"query": "q", "results": [{"position": 1, "title": "Dams"}]},
            ["“q”, 1 results", "1. Dams"],
        ),
        (
            "crawl",
            {
                "pages": [
                    {
                        "final_url": "http://s/1",
                        "title": "T",
                        "links": [1],
                        "markdown": "# T\n\nx",
                    }
                ]
            },
            ["http://s/1, “T”, 1 links", "# T", "x"],
        ),
        ("llm", {"model": "small", "content": "w" * 200}, ["small, 9 tokens", "www…"]),
    ],
)
def test_a_result_is_told_in_a_few_short_lines(kind: str, result: dict[str, Any], words: list[str]):
    job = {"id": "job_1", "kind": kind, "attempts": 1, "result": result}
    lines = in_short(job | {"usage": {"output_tokens": 9}})
    assert all(word in "\n".join(lines) for word in words)
    assert all(len(line) <= 100 for line in lines)
