from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.addresses import AddressGuard, judge

CORPUS = [
    line
    for line in (Path(__file__).parent / "address_corpus.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]
PUBLIC = [
    "http://example.com/",
    "https://example.com",
    "http://example.com:8080/",
    "https://example.com:8443/path?query=1#part",
    "http://example.com./",
    "http://EXAMPLE.com/",
    "http://sub.domain.example.co.uk/",
    "http://xn--bcher-kva.example.com/",
    "http://bücher.example.com/",
    "http://my_host.example.com/",
    "http://1.example.com/",
    "http://0x.example.com/",
    "http://8.8.8.8/",
    "http://93.184.215.14/",
    "http://172.15.0.1/",
    "http://172.32.0.1/",
    "http://100.63.255.255/",
    "http://11.0.0.1/",
    "http://[2606:4700:4700::1111]/",
    "http://[2a00:1450:4001:82b::200e]/",
    "http://[::ffff:8.8.8.8]/",
    "http://[64:ff9b::808:808]/",
    "http://localhost.example.com/",
    "http://internal.example.com/",
    "http://svc.example.com/",
]


def test_the_corpus_has_more_than_150_forms() -> None:
    assert len(set(CORPUS)) == len(CORPUS) > 150


@pytest.mark.parametrize("url", CORPUS)
def test_a_forbidden_target_is_refused_by_its_letters(url: str) -> None:
    assert AddressGuard().check_url(url)


@pytest.mark.parametrize("url", PUBLIC)
def test_a_public_target_may_be_tried(url: str) -> None:
    assert AddressGuard().check_url(url) is None


@pytest.mark.parametrize("control", ["\t", "\n", "\r", "\0", " ", "\x7f"])
def test_a_url_with_control_characters_is_refused(control: str) -> None:
    assert AddressGuard().check_url(f"http://exam{control}ple.com/")


def test_every_answer_for_a_name_is_judged() -> None:
    guard = AddressGuard()
    assert guard.check_resolved("example.com", 80, ["93.184.215.14", "2606:4700::1111"]) is None
    assert guard.check_resolved("example.com", 80, ["93.184.215.14", "10.0.0.1"])
    assert guard.check_resolved("example.com", 80, [])


def test_a_reason_tells_no_address() -> None:
    reason = AddressGuard().check_resolved("example.com", 80, ["10.20.30.40"])
    assert reason == "a private address"


def test_an_entry_of_the_allow_list_opens_that_host_and_port_only() -> None:
    guard = AddressGuard(frozenset({("localhost", 9000), ("::1", 9001)}))
    assert guard.check_url("http://localhost:9000/x") is None
    assert guard.check_url("http://LOCALHOST.:9000/x") is None
    assert guard.check_resolved("localhost", 9000, ["127.0.0.1"]) is None
    assert guard.check_url("http://[::1]:9001/") is None
    for other in ("http://localhost/", "http://localhost:9001/", "http://127.0.0.1:9000/"):
        assert guard.check_url(other)
    assert guard.check_resolved("example.com", 9000, ["127.0.0.1"])


@given(st.ip_addresses(v=4))
def test_nothing_that_python_knows_as_private_passes_and_wrapping_changes_no_verdict(
    address: object,
) -> None:
    text = str(address)
    known = ip_address(text)
    if not known.is_global or known.is_multicast:
        assert judge(text)
    for wrapped in (f"::ffff:{text}", f"64:ff9b::{text}"):
        assert bool(judge(wrapped)) == bool(judge(text))


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_passes_that_python_knows_as_not_global(address: object) -> None:
    known = ip_address(str(address))
    if known.is_private or known.is_multicast or known.is_reserved:
        # Mapped and NAT64 addresses count as reserved; they are judged by what they carry.
        assert judge(str(address)) or str(address).startswith(("64:ff9b::", "::ffff:"))
