from __future__ import annotations

import pytest

from crawler_worker.extract import MAX_LINKS, extract, media_type
from crawler_worker.nesting import is_too_deep
from crawler_worker.visit import PageUnreadable
from forebay.requests import CrawlFormat

ALL = tuple(CrawlFormat)
PAGE = """<!doctype html>
<html lang="en-GB"><head>
<title>  The   forebay &amp; its pool </title>
<meta name="description" content="What a forebay is.">
<meta property="og:site_name" content="Hydro">
<meta name="author" content="A. Miller">
<meta property="article:published_time" content="2026-03-01">
<link rel="canonical" href="/forebay">
<script>var secret = "never shown";</script><style>p { color: red }</style>
</head><body>
<nav><a href="/">Home</a> <a href="/about#team">About</a> <a href="/about">About</a></nav>
<main><h1>The forebay</h1>
<p>A forebay is the pool in front of a hydro plant. It takes the river <b>as it comes</b> and feeds
the turbines at the rate they bear, which is why the plant runs evenly all day long.</p>
<p>See also the <a href="spillway.html?part=1">spillway</a> and <a href="//cdn.example.org/x">x</a>,
which carry away what the turbines cannot take in a wet spring with much snow to melt.</p>
<table><tr><th>River</th><th>Flow</th></tr><tr><td>Rhine</td><td>2300</td></tr></table>
</main>
<a href="mailto:a@b.c">mail</a> <a href="javascript:alert(1)">js</a> <a href="ftp://h/f">ftp</a>
<a href="http://[broken">broken</a> <a href="http://user:pw@example.com/">login</a> <a>none</a>
<svg><title>not this</title></svg><iframe src="https://ads.example.com/"></iframe>
</body></html>"""


def test_a_page_gives_each_format_that_was_asked_for() -> None:
    found = extract(PAGE.encode(), "text/html; charset=utf-8", "https://example.com/a/b", ALL)
    assert found.title == "The forebay & its pool"
    assert found.markdown is not None
    assert "# The forebay" in found.markdown
    assert "**as it comes**" in found.markdown
    assert "| Rhine | 2300 |" in found.markdown
    assert found.text is not None
    assert "as it comes" in found.text
    assert "**" not in found.text
    assert found.html is not None
    assert "never shown" not in found.html + found.markdown + found.text
    assert "<iframe" not in found.html
    assert "<h1>The forebay</h1>" in found.html
    assert found.metadata == {
        "description": "What a forebay is.",
        "site_name": "Hydro",
        "author": "A. Miller",
        "published": "2026-03-01",
        "language": "en-GB",
        "canonical": "https://example.com/forebay",
    }


def test_links_are_absolute_web_urls_each_once_in_the_order_of_the_page() -> None:
    found = extract(PAGE.encode(), "text/html", "https://example.com/a/b", (CrawlFormat.LINKS,))
    assert tuple(link.url for link in found.links) == (
        "https://example.com/",
        "https://example.com/about",
        "https://example.com/a/spillway.html?part=1",
        "https://cdn.example.org/x",
    )
    assert (found.markdown, found.text, found.html, found.metadata) == (None,) * 4


def test_a_base_element_is_the_base_of_the_links() -> None:
    page = b'<base href="https://other.example.com/deep/"><a href="x">x</a>'
    found = extract(page, "text/html", "https://example.com/", ALL)
    assert found.links == (("https://other.example.com/deep/x", "other.example.com"),)


def test_a_page_without_a_main_part_gives_its_plain_text() -> None:
    found = extract(b"<title>t</title><p>Few words.</p>", "text/html", "https://e.com/", ALL)
    assert found.markdown is not None
    assert "Few words." in found.markdown


def test_plain_text_is_kept_as_it_is() -> None:
    found = extract("# Grüße\n".encode(), "text/plain; charset=utf-8", "https://e.com/", ALL)
    assert found.text == found.markdown == "# Grüße\n"
    assert (found.title, found.links, found.html) == ("", (), None)


def test_a_page_that_does_not_say_what_it_is_is_looked_at() -> None:
    assert extract(b"\n <!DOCTYPE html><title>x</title>", "", "https://e.com/", ALL).title == "x"
    assert extract(b"just words", "", "https://e.com/", ALL).text == "just words"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"\0" * 1000,
        b"<",
        b"<html>",
        b"<body></body>",
        b"<!-- only a comment -->",
        b"<table>" * 500,
        b"<div>" * 2000 + b"deep" + b"</div>" * 2000,
        b"<a href='x'>" * 5000,
        b"<p>&#0;&#x110000;&nosuch;",
        b"<?xml version='1.0' encoding='utf-8'?><html><body><p>x</p></body></html>",
    ],
    ids=range(12),
)
def test_no_page_is_so_bad_that_reading_it_fails(body: bytes) -> None:
    found = extract(body, "text/html", "https://example.com/", ALL)
    assert found.markdown is not None
    assert found.text is not None
    assert found.html is not None


@pytest.mark.parametrize(
    # No more of them than a parser that meets them all the same needs a second for.
    "page",
    [
        *("<svg>" + tag * 20_000 for tag in ("<a>", "<button>", "<input>")),
        "<div><math>" + "<a>" * 20_000,
        "<div>" * 20_000,
        "<div></x>" * 20_000,
        "<ul><li>" * 20_000,
        "<B/><I>" * 20_000,
    ],
)
def test_a_page_nested_without_end_is_refused_before_it_is_parsed(page: str) -> None:
    with pytest.raises(PageUnreadable, match="nested too deeply"):
        extract(page.encode(), "text/html", "https://example.com/", ALL)


def test_a_long_flat_page_is_not_taken_for_a_deep_one() -> None:
    flat = "<p>one<br><img src=x><li>two<div><span>x</span></div>" * 20_000
    assert not is_too_deep(flat)


def test_what_is_flat_stays_so_after_a_drawing() -> None:
    assert not is_too_deep("<svg><a><g></g></a></svg><p>one<br><input><li>two" * 20_000)


def test_links_are_bounded() -> None:
    page = "".join(f"<a href='/{n}'>{n}</a>" for n in range(MAX_LINKS + 500)).encode()
    assert len(extract(page, "text/html", "https://e.com/", ()).links) == MAX_LINKS


@pytest.mark.parametrize(
    ("header", "kind", "charset"),
    [
        ("text/html; charset=utf-8", "text/html", "utf-8"),
        ('Text/HTML;Charset="ISO-8859-1"', "text/html", "ISO-8859-1"),
        ("text/plain", "text/plain", None),
        ("", "", None),
        (";;;=", "", None),
    ],
)
def test_a_content_type_is_taken_apart(header: str, kind: str, charset: str | None) -> None:
    assert media_type(header) == (kind, charset)
