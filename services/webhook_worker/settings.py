"""What the webhook worker can be told; every name begins with `FOREBAY_WEBHOOK_`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from forebay.settings import WorkerSettings


class WebhookSettings(WorkerSettings):
    """How the webhook worker delivers."""

    model_config = SettingsConfigDict(env_prefix="FOREBAY_WEBHOOK_", env_ignore_empty=True)

    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Deliveries in flight at most, in this process; each is a small request that mostly waits."""
    timeout_s: Annotated[float, Field(gt=0)] = 15.0
    """Upper bound of one delivery, from the look-up of the name to the end of the answer."""
    per_receiver_concurrency: Annotated[int, Field(ge=1)] = 10
    """Deliveries in flight to one host and port at most, over all jobs of this process: a receiver
    that hangs holds no more of its places than these."""
    max_response_bytes: Annotated[int, Field(ge=0)] = 4096
    """How much of a receiver's answer is read, in bytes; nobody needs what it says."""
