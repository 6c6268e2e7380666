"""Tests cannot reach a real provider: while `only_loopback()` holds, any other connect fails."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_holding = [0]


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event != "socket.connect" or not _holding[0]:
        return
    address = arguments[1]
    if not isinstance(address, tuple):
        return  # a Unix socket
    if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise AssertionError(f"a test tried to connect to {address[0]}")


@contextmanager
def only_loopback() -> Iterator[None]:
    """Refuse connections that leave the machine; an audit hook stays, but lets all pass again."""
    _install()
    _holding[0] += 1
    try:
        yield
    finally:
        _holding[0] -= 1


def _install() -> None:
    if not hasattr(sys, "_forebay_loopback_hook"):
        sys.addaudithook(_audit)
        sys._forebay_loopback_hook = True  # type: ignore[attr-defined]
