"""How every process calls the outside: one client factory, bounded reading, failures as values."""

from __future__ import annotations

from forebay.http.body import ACCEPT_ENCODING, read_head, read_limited
from forebay.http.client import REQUEST_ID_HEADER, USER_AGENT, build_client, call_id
from forebay.http.failures import HTTP_FAILURES, outcome_of_failure
from forebay.http.resolver import Resolver
from forebay.http.target import TargetGate

__all__ = [
    "ACCEPT_ENCODING",
    "HTTP_FAILURES",
    "REQUEST_ID_HEADER",
    "USER_AGENT",
    "Resolver",
    "TargetGate",
    "build_client",
    "call_id",
    "outcome_of_failure",
    "read_head",
    "read_limited",
]
