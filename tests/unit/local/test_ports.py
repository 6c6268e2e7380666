from __future__ import annotations

import socket

from forebay.local.ports import HOST, Ports


def _occupied() -> socket.socket:
    taken = socket.socket()
    taken.bind((HOST, 0))
    taken.listen()
    return taken


def test_a_preferred_port_in_use_is_said_and_another_is_taken():
    lines: list[str] = []
    with _occupied() as taken:
        preferred = taken.getsockname()[1]
        port = Ports(lines.append).take("the ingress", preferred=preferred)
    assert port != preferred
    assert lines == [f"Port {preferred} is in use: the ingress on {port} instead."]


def test_a_free_preferred_port_is_taken_without_a_word():
    lines: list[str] = []
    with _occupied() as taken:
        preferred = taken.getsockname()[1]
    assert Ports(lines.append).take("the ingress", preferred=preferred) == preferred
    assert lines == []


def test_no_port_is_handed_out_twice():
    ports = Ports()
    taken = [ports.take("x") for _ in range(300)]
    assert len(set(taken)) == 300


def test_two_checkouts_never_choose_the_same_port_even_before_they_use_it():
    lines: list[str] = []
    with _occupied() as taken:
        preferred = taken.getsockname()[1]
    first, second = Ports(), Ports(lines.append)
    assert first.take("a broker", preferred=preferred) == preferred
    assert second.take("a broker", preferred=preferred) != preferred
    assert len(lines) == 1


def test_a_port_is_free_again_when_its_taker_is_gone():
    with _occupied() as taken:
        preferred = taken.getsockname()[1]
    assert Ports().take("a broker", preferred=preferred) == preferred
    assert Ports().take("a broker", preferred=preferred) == preferred


def test_ports_lie_below_the_range_of_outgoing_connections():
    ports = Ports()
    assert all(port < 32_768 for port in (ports.take("x") for _ in range(100)))
