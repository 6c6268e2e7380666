"""The address guard: which targets a job may name (SSRF protection).

Theory of operation. Everything is denied that is not plainly a host of the public Internet, and
what is written in an odd way is denied for being odd. `ipaddress.is_global` is not used: in Python
3.11 it passes multicast, NAT64, 6to4, IPv4-mapped and IPv4-compatible forms. The tables below are
the IANA special-purpose registries (RFC 6890) and the providers' own metadata addresses. An IPv6
address that carries an IPv4 one is unwrapped and judged again.

A reason is for the caller: it says what kind of address it is, never which one, because what our
resolver answers is not the caller's to know. This file does no I/O; `forebay.http` applies it to
every connection.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
)
from urllib.parse import urlsplit

DEFAULT_PORTS = frozenset({80, 443, 8080, 8443})
"""The ports web sites use; anything else is more likely somebody's inner service."""
SCHEME_PORTS = {"http": 80, "https": 443}

# The first match is the reason, so the special addresses stand before their networks.
_DENIED_V4 = tuple(
    (IPv4Network(network), reason)
    for network, reason in (
        ("169.254.169.254/32", "a cloud metadata address"),
        ("100.100.100.200/32", "a cloud metadata address"),  # Alibaba Cloud
        ("168.63.129.16/32", "a cloud metadata address"),  # Azure's wire server, a public address
        ("0.0.0.0/8", "an unspecified address"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier's shared address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a protocol assignment"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.31.196.0/24", "an AS112 address"),
        ("192.52.193.0/24", "an AMT relay address"),
        ("192.88.99.0/24", "a 6to4 relay address"),
        ("192.168.0.0/16", "a private address"),
        ("192.175.48.0/24", "an AS112 address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "a broadcast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_DENIED_V6 = tuple(
    (IPv6Network(network), reason)
    for network, reason in (
        ("fd00:ec2::254/128", "a cloud metadata address"),  # AWS
        ("fd20:ce::254/128", "a cloud metadata address"),  # Google Cloud
        ("::/128", "an unspecified address"),
        ("::1/128", "a loopback address"),
        ("::/96", "an IPv4-compatible address"),
        ("64:ff9b:1::/48", "a local translation address"),
        ("100::/64", "a discard address"),
        ("100:0:0:1::/64", "a dummy address"),
        ("2001::/32", "a Teredo address"),
        ("2001::/23", "a protocol assignment"),
        ("2001:db8::/32", "a documentation address"),
        ("2002::/16", "a 6to4 address"),
        ("2620:4f:8000::/48", "an AS112 address"),
        ("3fff::/20", "a documentation address"),
        ("5f00::/16", "a segment routing address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
_LOCAL_SUFFIXES = frozenset(
    {
        *("localhost", "local", "internal", "svc", "cluster", "localdomain", "lan", "home"),
        *("corp", "intranet", "private", "onion", "test", "invalid"),
    }
)
"""Top-level names that only ever mean something inside: RFC 6761, RFC 6762, ICANN's `.internal`,
Kubernetes, and the names home routers and companies invent."""


def judge(address: str | IPv4Address | IPv6Address) -> str | None:
    """Why an address must not be called, or None when it may; what is no address may not."""
    if isinstance(address, str):
        try:
            address = IPv6Address(address) if ":" in address else IPv4Address(address)
        except AddressValueError:
            return "not an address"
    return _judge_v4(address) if isinstance(address, IPv4Address) else _judge_v6(address)


def _judge_v4(address: IPv4Address) -> str | None:
    return next((reason for network, reason in _DENIED_V4 if address in network), None)


def _judge_v6(address: IPv6Address) -> str | None:
    if address.scope_id is not None:
        return "an address with a zone"
    for inner in _unwrap(address):
        reason = _judge_v4(inner)
        if reason is not None:
            return f"{reason} inside an IPv6 address"
    if address in _MAPPED or address in _NAT64:
        return None  # the packet goes to the IPv4 address, which was judged
    for network, reason in _DENIED_V6:
        if address in network:
            return reason
    return None if address in _GLOBAL_V6 else "a reserved address"


def _unwrap(address: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that an IPv6 address carries."""
    bits = int(address)
    low = IPv4Address(bits & 0xFFFFFFFF)
    # Below ::1:0:0 there is nothing but :: and ::1, which have names of their own.
    if address in _MAPPED or address in _TRANSLATED or address in _NAT64 or 1 < bits < 2**32:
        return [low]
    if address in _6TO4:
        return [IPv4Address(bits >> 80 & 0xFFFFFFFF)]
    if address in _TEREDO:  # the server, and the client with its bits turned (RFC 4380, 4)
        return [IPv4Address(bits >> 64 & 0xFFFFFFFF), IPv4Address(~bits & 0xFFFFFFFF)]
    if bits >> 32 & 0xFFFFFFFF in _ISATAP:  # RFC 5214, 6.1
        return [low]
    return []


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """Judges targets; an entry of `allow` opens exactly that host (as written) and port.

    Attributes:
        allow: lower-case host names or addresses, with their port.
        ports: what may be called besides.
    """

    allow: frozenset[tuple[str, int]] = frozenset()
    ports: frozenset[int] = DEFAULT_PORTS

    def allows(self, host: str, port: int) -> bool:
        """Whether the allow-list names this host and port."""
        return (host.lower().strip("[]").removesuffix("."), port) in self.allow

    def check_url(self, url: str) -> str | None:
        """Why a URL must not be called, judged by its letters alone; None when it may be tried."""
        if any(ord(c) <= 32 or ord(c) == 127 or c == "\\" for c in url):
            return "a URL with characters that parsers read differently"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return "a URL that cannot be read"
        default_port = SCHEME_PORTS.get(parts.scheme)
        if default_port is None:
            return "a scheme other than http and https"
        if parts.username is not None or parts.password is not None:
            return "a URL with credentials"
        if not parts.hostname:
            return "a URL without a host"
        return self.check_host(parts.hostname, default_port if port is None else port)

    def check_host(self, host: str, port: int) -> str | None:
        """Why a host must not be called, judged by its letters alone."""
        if self.allows(host, port):
            return None
        reason = _judge_host(host)
        if reason is None and port not in self.ports:
            return "a port that web sites do not use"
        return reason

    def check_resolved(self, host: str, port: int, addresses: Iterable[str]) -> str | None:
        """Why a host must not be called, judged by what its name resolved to: every answer."""
        if self.allows(host, port):
            return None
        reasons = [judge(address) for address in addresses]
        if not reasons:
            return "a name without an address"
        return next((reason for reason in reasons if reason is not None), None)


def _judge_host(host: str) -> str | None:
    if "%" in host:
        return "an address with a zone, or an escaped name"
    # What looks like a digit or a full stop to a resolver's IDNA step must look so here.
    plain = unicodedata.normalize("NFKC", host).lower().translate(_FULL_STOPS)
    bare = plain.removeprefix("[").removesuffix("]")
    if ":" in bare:
        return judge(bare)
    name = bare.removesuffix(".")
    labels = name.split(".")
    if _is_number(labels[-1]) or _is_number(_shown(labels[-1])):
        return _judge_number(name, exact=name == host)
    return _judge_name(labels)


_FULL_STOPS = str.maketrans({"\u3002": ".", "\uff0e": ".", "\uff61": "."})


def _is_number(label: str) -> bool:
    """Whether a URL parser would take a host that ends so for an IPv4 address (WHATWG URL, 3.5)."""
    if label.isdigit():
        return True
    return label.startswith("0x") and all(c in "0123456789abcdef" for c in label[2:])


def _shown(label: str) -> str:
    """A label as a person reads it: digits of another script may stand behind `xn--`."""
    try:
        return label.encode("ascii").decode("idna")
    except UnicodeError:
        return label


def _judge_number(name: str, *, exact: bool) -> str | None:
    try:
        address = IPv4Address(name)
    except AddressValueError:
        return "an address in an unusual form"
    return _judge_v4(address) or (None if exact else "an address in an unusual form")


def _judge_name(labels: list[str]) -> str | None:
    try:
        ascii_labels = [label.encode("idna").decode() for label in labels]
    except UnicodeError:
        return "a name that is not a host name"
    for label in ascii_labels:
        if not label or not all(c.isascii() and (c.isalnum() or c in "-_") for c in label):
            return "a name that is not a host name"
    if len(ascii_labels) == 1:
        return "a name without a domain"
    if ascii_labels[-1] in _LOCAL_SUFFIXES or ascii_labels[-2:] == ["home", "arpa"]:
        return "a name of an inner network"
    if "svc" in ascii_labels[1:]:
        return "a name of an inner network"  # service.namespace.svc.<any cluster domain>
    return None
