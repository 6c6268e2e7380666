from __future__ import annotations

import pytest

from crawler_worker.charset import decode

TEXT = "<html><head></head><body>Café déjà vu, naïve façade, Öl und Übung.</body></html>"
META = '<html><head><meta charset="{}"></head><body>Café déjà vu, naïve façade</body></html>'
HTTP_EQUIV = '<meta http-equiv="Content-Type" content="text/html; charset={}"><p>Привет, мир</p>'


@pytest.mark.parametrize(
    ("body", "declared", "text"),
    [
        (TEXT.encode(), "utf-8", TEXT),
        (TEXT.encode(), None, TEXT),
        (TEXT.encode("latin-1"), "ISO-8859-1", TEXT),
        (TEXT.encode("latin-1"), '"latin1"', TEXT),
        (TEXT.encode("utf-8-sig"), None, TEXT),
        (TEXT.encode("utf-8-sig"), "iso-8859-1", TEXT),
        (TEXT.encode("utf-16"), None, TEXT),
        (TEXT.encode("utf-16-le"), "utf-16", TEXT),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), None, TEXT),
        (META.format("iso-8859-1").encode("latin-1"), None, META.format("iso-8859-1")),
        (HTTP_EQUIV.format("koi8-r").encode("koi8-r"), None, HTTP_EQUIV.format("koi8-r")),
        ("日本語のページ".encode("shift_jis"), "Shift_JIS", "日本語のページ"),
        ("简体中文".encode("gb18030"), "gb2312", "简体中文"),
        ("“quoted” €".encode("cp1252"), "iso-8859-1", "“quoted” €"),
    ],
)
def test_a_page_is_read_in_the_encoding_it_has(
    body: bytes, declared: str | None, text: str
) -> None:
    assert decode(body, declared) == text


@pytest.mark.parametrize("declared", ["iso-8859-1", "ascii", "windows-1252"])
def test_utf8_behind_a_latin_label_is_utf8(declared: str) -> None:
    assert decode(TEXT.encode(), declared) == TEXT


def test_a_lying_header_gives_way_to_the_meta_and_then_to_the_bytes() -> None:
    page = META.format("iso-8859-1")
    assert decode(page.encode("latin-1"), "utf-8") == page
    text = decode(META.format("utf-8").encode("latin-1"), "utf-8")
    assert "Café déjà vu" in text


@pytest.mark.parametrize(
    "label", ["idna", "unicode_escape", "utf-7", "hex", "rot13", "no-such", "", "\0", "x" * 500]
)
def test_a_label_that_is_no_web_encoding_is_ignored(label: str) -> None:
    assert decode(TEXT.encode(), label) == TEXT


def test_one_broken_byte_does_not_spoil_every_accent() -> None:
    body = TEXT.encode() + b" \xe9 end"
    for declared in ("utf-8", None):
        assert decode(body, declared).startswith(TEXT)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Größe über alles Öl", "cp1252"),
        ("Привет, мир. Как дела сегодня?", "cp1251"),
        ("Zażółć gęślą jaźń, proszę bardzo", "cp1250"),
        ("日本語のページです", "euc_jp"),
    ],
)
def test_without_any_label_the_bytes_are_asked(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding), None) == text


@pytest.mark.parametrize("body", [b"", b"\xff", bytes(range(256)) * 10, b"\xef\xbb\xbf\xff"])
def test_no_bytes_make_it_fail(body: bytes) -> None:
    assert isinstance(decode(body, "utf-8"), str)
