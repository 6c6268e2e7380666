"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header)."""

from __future__ import annotations

import hashlib
import json
import re

from pydantic_core import from_json
from starlette.datastructures import Headers

from forebay.jobs import Idempotency
from ingress.body import validation_error
from ingress.problems import InvalidPart

HEADER = "Idempotency-Key"
MAX_LENGTH = 255

PATTERN = rf"""^([!#-~][!-~]{{0,{MAX_LENGTH - 1}}}|"([!#-\[\]-~]|\\["\\]){{1,{MAX_LENGTH}}}")$"""
"""What `read_key` takes, for the description of the API."""

# A structured-field string (RFC 8941, 3.3.3), or the same characters bare.
_QUOTED = re.compile(r'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"')
_BARE = re.compile(r"[\x21\x23-\x7e][\x21-\x7e]*")


def read_key(headers: Headers) -> str | None:
    """The key without its quotes, None without the header; raises `RequestRefused`."""
    sent = headers.getlist(HEADER)
    if not sent:
        return None
    if len(sent) > 1:
        raise validation_error([InvalidPart(header=HEADER, detail="It may be sent once only")])
    header = sent[0]
    quoted = _QUOTED.fullmatch(header)
    key = re.sub(r"\\(.)", r"\1", quoted.group(1)) if quoted else header
    if (quoted or _BARE.fullmatch(key)) and len(key) <= MAX_LENGTH:
        return key
    said = f"Input should be 1 to {MAX_LENGTH} visible ASCII characters, bare or in double quotes"
    raise validation_error([InvalidPart(header=HEADER, detail=said)])


def of_request(headers: Headers, route: str, body: bytes) -> Idempotency | None:
    """The key with the body's fingerprint; `body` must be known to be JSON.

    The fingerprint is of what the body says, not of its bytes: the order of fields and the white
    space may change between two tries of one client.
    """
    key = read_key(headers)
    if key is None:
        return None
    canonical = json.dumps(from_json(body), sort_keys=True, separators=(",", ":"))
    return Idempotency(key, hashlib.sha256(f"{route}\n{canonical}".encode()).hexdigest())
