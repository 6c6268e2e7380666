from __future__ import annotations

import pytest

from loadtest.providers.directives import (
    Action,
    Directive,
    DirectiveError,
    parse_directive,
    parse_words,
    without_directives,
)


def test_text_without_a_directive_asks_for_nothing():
    assert parse_directive("rivers [of] simulate status=500") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a [simulate status=500 times=2] b", Directive(status=500, times=2)),
        ("[Simulate latency=0.25]", Directive(latency_s=0.25)),
        ("[simulate hang]", Directive(action=Action.HANG)),
        ("[simulate truncate, latency=1]", Directive(action=Action.TRUNCATE, latency_s=1.0)),
        ("[simulate retry_after=7]", Directive(status=429, retry_after="7")),
        (
            "[simulate status=503 retry_after=http-date:9]",
            Directive(status=503, retry_after="http-date:9"),
        ),
        ("[simulate status=500] and [simulate times=1]", Directive(status=500, times=1)),
    ],
)
def test_a_directive_says_what_is_asked_for(text: str, expected: Directive):
    assert parse_directive(text) == expected


@pytest.mark.parametrize(
    "words", ["explode", "status=abc", "status=99", "latency=-1", "latency=nan", "colour=red"]
)
def test_a_word_outside_the_grammar_is_an_error_that_names_it(words: str):
    with pytest.raises(DirectiveError, match=words):
        parse_words(words)


def test_a_directive_holds_for_the_first_calls_only():
    directive = Directive(status=500, times=2)
    assert [directive.applies(earlier) for earlier in range(4)] == [True, True, False, False]


def test_the_provider_sees_the_text_without_the_directive():
    assert without_directives("deep [simulate hang]  rivers") == "deep rivers"
