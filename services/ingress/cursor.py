"""The opaque cursor of a list: where the page before ended."""

from __future__ import annotations

import base64
import binascii
import re

from ingress.body import validation_error
from ingress.problems import InvalidPart

JOB_ID = re.compile(r"job_[0-9a-f]{32}")
BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")
_VERSION = "1:"


def encode(last_id: str) -> str:
    """The cursor after the job with this id."""
    return base64.urlsafe_b64encode(f"{_VERSION}{last_id}".encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The id inside; raises `RequestRefused` for anything that `encode` did not make."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (UnicodeError, binascii.Error):
        text = ""
    last_id = text.removeprefix(_VERSION)
    if text == last_id or not JOB_ID.fullmatch(last_id):
        detail = "Input should be the cursor of an earlier page"
        raise validation_error([InvalidPart(parameter="cursor", detail=detail)])
    return last_id
