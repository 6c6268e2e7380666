"""The signature of Standard Webhooks 1.0: HMAC-SHA256 over id, timestamp and body."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from forebay.endpoints import SECRET_PREFIX


def headers(message_id: str, timestamp: int, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The three headers of one attempt.

    Args:
        message_id: the same at every attempt; a receiver knows a repeat by it.
        timestamp: of this attempt, in whole seconds since 1970; receivers refuse an old one.
        body: the bytes that are sent.
        secrets: each signs once, so that a receiver may know the old or the new one.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{_sign(secret, signed)}" for secret in secrets),
    }


def _sign(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
