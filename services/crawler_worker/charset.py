"""From bytes to text: which encoding a page is in.

In this order: a byte order mark, the `charset` of the Content-Type, a `<meta>` in the first
kilobyte, a guess from the bytes. A label is believed only while the bytes agree with it.
"""

from __future__ import annotations

import codecs
import re

from charset_normalizer import from_bytes

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_META = re.compile(
    rb"""<meta\s[^>]{0,512}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE
)
_XML = re.compile(rb"""^\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9_.:-]{1,40})""")
_PRESCAN = 1024
"""Bytes in which a meta must stand (HTML, 4.2.5.4)."""
_SAMPLE = 32 * 1024
"""Bytes that a guess looks at; guessing over megabytes takes seconds."""
_AS_GOOD = 0.1
"""Guesses whose disorder differs by less are equally good; it goes from 0 to 1."""
_LATIN = frozenset({"ascii", "iso8859-1", "cp1252"})
# What Python has of the WHATWG Encoding Standard: no `idna`, no `utf-7`, no `unicode_escape`.
_KNOWN = _LATIN | frozenset(
    {
        *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "gbk", "gb2312", "big5"),
        *("big5hkscs", "euc_jp", "iso2022_jp", "shift_jis", "cp932", "euc_kr", "cp949", "cp866"),
        *("koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "tis-620", "cp874", "hz"),
        *(f"iso8859-{n}" for n in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)),
        *(f"cp{n}" for n in range(1250, 1259)),
    }
)


def decode(body: bytes, declared: str | None) -> str:
    """The text of a page; never fails: what fits no encoding is replaced.

    Args:
        body: decoded of its content coding.
        declared: the `charset` parameter of the Content-Type, if any.
    """
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, errors="replace")
    for label in (declared, _label_inside(body)):
        text = _try(body, label)
        if text is not None:
            return text
    return _guess(body)


def _label_inside(body: bytes) -> str | None:
    head = body[:_PRESCAN]
    found = _META.search(head) or _XML.search(head)
    return found[1].decode("ascii") if found else None


def _try(body: bytes, label: str | None) -> str | None:
    encoding = _python_name(label)
    if encoding is None:
        return None
    if encoding in _LATIN:
        # Any bytes are valid Latin, so the label proves nothing; bytes that happen to be valid
        # UTF-8 with accents are UTF-8 with a wrong label.
        encoding = "utf-8" if _is_utf8(body) else "cp1252"
        return body.decode(encoding, errors="replace")
    if encoding == "utf-8":
        return _nearly_utf8(body)
    try:
        return body.decode("gb18030" if encoding in {"gbk", "gb2312"} else encoding)
    except UnicodeDecodeError:
        return None


def _nearly_utf8(body: bytes) -> str | None:
    """The text, if most of its characters beyond ASCII are UTF-8.

    One broken byte in a long page must not turn every accent of it into rubbish.
    """
    text = body.decode("utf-8", errors="replace")
    broken = text.count("\ufffd")
    beyond = len(text) - len(text.encode("ascii", errors="ignore"))
    return text if broken * 2 <= beyond - broken or not broken else None


def _python_name(label: str | None) -> str | None:
    if not label:
        return None
    try:
        name = codecs.lookup(label.strip(" \"'")).name
    except (LookupError, ValueError):
        return None
    if name in {"utf-16", "utf-16-le", "utf-16-be"}:
        # A page whose meta can be read as ASCII is not in UTF-16, whatever it says.
        return "utf-16-le" if name == "utf-16" else name
    return name if name in _KNOWN else None


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _guess(body: bytes) -> str:
    text = _nearly_utf8(body)
    if text is not None:
        return text
    matches = list(from_bytes(body[:_SAMPLE]))
    equals = [match for match in matches if match.chaos <= matches[0].chaos + _AS_GOOD]
    names = [name for match in equals for name in (match.encoding, *match.could_be_from_charset)]
    known = [name for name in map(_python_name, names) if name is not None]
    # Short texts fit several encodings equally well; of those, this is by far the most common.
    encoding = "cp1252" if not known or "cp1252" in known else known[0]
    return body.decode(encoding, errors="replace")
