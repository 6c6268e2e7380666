"""The pages of the simulated web site, as values and as HTML or Markdown."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import lru_cache

from loadtest.providers.text import heading, paragraph, rng

PAGES = 400
EXTERNAL = "https://outside.example/reference"


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page under its own heading."""

    title: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """One page; `links` are (path, text) in order of appearance, the external one last."""

    path: str
    title: str
    description: str
    sections: tuple[Section, ...]
    links: tuple[tuple[str, str], ...]


@lru_cache(maxsize=1024)
def page(seed: int, path: str) -> Page:
    """Return the page at a path: any path has one, the same for equal seeds."""
    chance = rng(seed, "page", path)
    sections = tuple(
        Section(heading(chance), tuple(paragraph(chance, 4) for _ in range(chance.randint(1, 3))))
        for _ in range(chance.randint(2, 4))
    )
    return Page(
        path=path,
        title=heading(chance),
        description=paragraph(chance, 1),
        sections=sections,
        links=tuple((target, f"Page {target}") for target in _targets(seed, path)),
    )


def page_paths() -> list[str]:
    """Return the paths of all numbered pages."""
    return [f"/pages/{number}" for number in range(1, PAGES + 1)]


def _targets(seed: int, path: str) -> list[str]:
    """Link page n to 2n and 2n+1, so that every page is reached from the first, and about."""
    number = path.removeprefix("/pages/")
    if not number.isdigit():
        return ["/pages/1", "/pages/2", "/pages/3", "/private/1", EXTERNAL]
    n = int(number)
    near = [2 * n, 2 * n + 1, n // 2, rng(seed, "link", n).randint(1, PAGES)]
    numbers = dict.fromkeys(m for m in near if 1 <= m <= PAGES and m != n)
    return [*(f"/pages/{m}" for m in numbers), f"/private/{n}", EXTERNAL]


def as_html(content: Page, charset: str = "utf-8", extra: str = "") -> str:
    """Return the page as an HTML document; `extra` goes in as one more paragraph."""
    contents = "".join(
        f'<li><a href="#section-{at}">{html.escape(part.title)}</a></li>'
        for at, part in enumerate(content.sections, start=1)
    )
    body = "".join(
        f'<section id="section-{at}"><h2>{html.escape(part.title)}</h2>'
        + "".join(f"<p>{html.escape(text)}</p>" for text in part.paragraphs)
        + "</section>"
        for at, part in enumerate(content.sections, start=1)
    )
    links = "".join(
        f'<li><a href="{html.escape(target)}">{html.escape(text)}</a></li>'
        for target, text in content.links
    )
    meta = f'<meta charset="{charset}">' if charset else ""
    more = f"<p>{html.escape(extra)}</p>" if extra else ""
    return (
        f'<!doctype html>\n<html lang="en"><head>{meta}<title>{html.escape(content.title)}</title>'
        f'<meta name="description" content="{html.escape(content.description)}">'
        f'<link rel="canonical" href="{html.escape(content.path)}"></head>\n'
        '<body><nav><a href="/">Home</a> <a href="/about">About</a></nav>\n'
        f"<main><article><h1>{html.escape(content.title)}</h1><ul>{contents}</ul>{more}{body}"
        f"<ul>{links}</ul></article></main>\n"
        '<footer>Forebay example site. <a href="/private/">Staff only</a></footer>'
        "</body></html>\n"
    )


def as_markdown(content: Page) -> str:
    """Return the page's main part as Markdown."""
    lines = [f"# {content.title}", ""]
    for part in content.sections:
        lines += [f"## {part.title}", ""]
        lines += [line for text in part.paragraphs for line in (text, "")]
    lines += [f"- [{text}]({target})" for target, text in content.links]
    return "\n".join(lines) + "\n"
