"""The opaque cursor of a list: where the page before ended."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from ingress.body import validation_error
from ingress.problems import InvalidPart

JOB_ID = re.compile(r"job_[0-9a-f]{32}")
DELIVERY_ID = re.compile(r"msg_[0-9a-f]{32}")
BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")


def encode(tenant: str, last_id: str) -> str:
    """The cursor after what has this id, for this tenant only."""
    return base64.urlsafe_b64encode(f"{_mark(tenant)}{last_id}".encode()).decode().rstrip("=")


def decode(tenant: str, cursor: str, of: re.Pattern[str] = JOB_ID) -> str:
    """The id inside; raises `RequestRefused` for anything that `encode` did not make for it."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (UnicodeError, binascii.Error):
        text = ""
    last_id = text.removeprefix(_mark(tenant))
    if text == last_id or not of.fullmatch(last_id):
        detail = "Input should be the cursor of an earlier page"
        raise validation_error([InvalidPart(parameter="cursor", detail=detail)])
    return last_id


def _mark(tenant: str) -> str:
    """The version of cursors, and whose it is."""
    return f"2:{hashlib.sha256(tenant.encode()).hexdigest()[:8]}:"
