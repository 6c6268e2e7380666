"""The imaginary index behind all search APIs: the same query finds the same pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b

from loadtest.providers.directives import without_directives
from loadtest.providers.text import heading, paragraph, rng

# Results are dated back from here, so that the clock is not in the answers.
NEWEST = datetime(2026, 11, 1, tzinfo=UTC)
_PROSE = 512
_OLDEST_DAYS = 1500
_HOSTS = ("rivers.example", "hydro.example", "waterworks.example", "valley-news.example")


@dataclass(frozen=True, slots=True)
class Found:
    """One page of the index; a third of them have no date, as in the real world."""

    position: int
    title: str
    url: str
    snippet: str
    published: datetime | None


def find(seed: int, query: str, count: int, skip: int = 0) -> list[Found]:
    """Return the results number `skip` + 1 and on; a query with nothing but blanks has none."""
    wanted = without_directives(query)
    return [_result(seed, wanted, skip + place) for place in range(1, count + 1)] if wanted else []


def _result(seed: int, query: str, position: int) -> Found:
    # One digest decides everything: results are made anew for each query, hundreds a second.
    digest = blake2b(f"{seed}/{query.lower()}/{position}".encode(), digest_size=16).digest()
    title, snippet = _prose(seed)[int.from_bytes(digest[:2], "big") % _PROSE]
    published = NEWEST - timedelta(days=int.from_bytes(digest[2:4], "big") % _OLDEST_DAYS)
    return Found(
        position=position,
        title=f"{query[:60]}: {title}",
        url=f"https://{_HOSTS[digest[4] % len(_HOSTS)]}/articles/{digest[6:12].hex()}",
        snippet=snippet,
        published=published if digest[5] > 255 // 3 else None,
    )


@lru_cache(maxsize=8)
def _prose(seed: int) -> tuple[tuple[str, str], ...]:
    """Return titles and snippets to draw from."""
    chance = rng(seed, "index")
    return tuple((heading(chance).lower(), paragraph(chance, 2)) for _ in range(_PROSE))
