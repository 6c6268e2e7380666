"""How deep a page's elements are nested, found before a parser has to build them.

A parser asks at each start tag about all the elements that are open: 40 000 nested `<div>` (440 KB)
take it 3 s, ten times as many 5 minutes, in which nothing else of the process runs.
"""

from __future__ import annotations

import re
from collections import Counter

MAX_DEPTH = 4000
"""Far beyond pages that people read, which are some dozens deep; it costs the parser 30 ms."""
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:-]{0,40})")
_FLAT = frozenset(
    {
        # Void elements, and those whose next sibling ends them.
        *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source"),
        *("track", "wbr", "p", "li", "dt", "dd", "option", "tr", "td", "th", "tbody", "thead"),
        *("tfoot", "html", "head", "body", "a", "button"),
    }
)
_FOREIGN = ("svg", "math")
"""Inside these a parser nests any element but closes none for its next sibling (HTML, 13.2.6.5)."""


def is_too_deep(html: str) -> bool:
    """Whether the elements are nested deeper than `MAX_DEPTH`.

    Limit: a page made for it deceives this by end tags that a parser ignores (`<x><div></x></div>`,
    or one inside a comment or an attribute); 1.4 MB of them then take the parser 11 s.
    """
    if html.count("<") <= MAX_DEPTH:
        return False
    opened: Counter[str] = Counter()
    depth = 0
    for found in _TAG.finditer(html):
        tag = found[2].lower()
        if tag in _FLAT and not any(opened[foreign] for foreign in _FOREIGN):
            continue
        if not found[1]:
            opened[tag] += 1
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif opened[tag]:
            opened[tag] -= 1
            depth -= 1
    return False
