from __future__ import annotations

import pytest

from crawler_worker.links import host_of, normalize, read_link


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://EXAMPLE.com", "http://example.com/"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("https://example.com:8443/a", "https://example.com:8443/a"),
        ("http://example.com/a/./b/../c", "http://example.com/a/c"),
        ("http://example.com/a#part", "http://example.com/a"),
        ("http://example.com/a?", "http://example.com/a"),
        ("http://example.com/a?b=1&a=2", "http://example.com/a?b=1&a=2"),
        ("http://example.com/a b", "http://example.com/a%20b"),
        ("http://example.com/é", "http://example.com/%C3%A9"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
    ],
)
def test_a_url_has_one_spelling(url: str, normal: str) -> None:
    assert normalize(url) == normal
    assert normalize(normal) == normal


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "mailto:a@b.c",
        "http://",
        "/relative",
        "http://user:pw@example.com/",
        "http://example.com/" + "x" * 5000,
        "http://example.com:port/",
    ],
)
def test_what_cannot_be_followed_is_none(url: str) -> None:
    assert normalize(url) is None


def test_a_link_carries_its_host() -> None:
    link = read_link("HTTPS://Bücher.example:443/a#b")
    assert link == ("https://xn--bcher-kva.example/a", host_of("https://bücher.example/"))


def test_the_host_of_a_url() -> None:
    assert host_of("https://Example.com:8443/x") == "example.com"
    assert host_of("http://" + "x" * 70_000) == ""
