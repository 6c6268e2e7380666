"""What the API answers about webhooks, as frozen values; see `forebay.client.views`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainSerializer, SecretStr

from forebay.client.views import Moment, Problem, State, View
from forebay.endpoints import WebhookEvent
from forebay.jobs import JobState

Event = Annotated[WebhookEvent | str, Field(union_mode="left_to_right")]
# It goes out as it came in, and is shown nowhere else.
Secret = Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value, when_used="json")]


class WebhookEndpoint(View):
    """Where you hear of your jobs."""

    id: str
    """`default` for the one that signs what goes to the URLs that jobs name."""
    url: str | None = None
    """None for the default one."""
    events: tuple[Event, ...] = ()
    """What it hears of; empty: everything."""
    description: str = ""
    disabled: bool = False
    disabled_reason: str | None = None
    """`caller`, or `gone` when the receiver answered 410."""
    created_at: Moment | None = None


class WebhookSecret(WebhookEndpoint):
    """An endpoint with the secret that signs."""

    secret: Secret
    """`secret.get_secret_value()` is what a library of Standard Webhooks takes."""


class WebhookEndpoints(View):
    """All endpoints, the oldest first."""

    data: tuple[WebhookEndpoint, ...]


class DeliveryAttempt(View):
    """One POST to the receiver."""

    n: int
    outcome: str
    generation: int = 1
    http_status: int | None = None
    """None when it did not answer."""
    duration_ms: int | None = None
    started_at: Moment | None = None
    error: str | None = None


class WebhookDelivery(View):
    """One event for one receiver, as it was when it was asked for."""

    id: str
    """The `webhook-id` of all its attempts."""
    state: State
    event: Event
    endpoint_id: str
    job_id: str | None = None
    """None for a test event."""
    attempts: int = 0
    max_attempts: int = 0
    generation: int = 1
    """Counts redeliveries by hand."""
    created_at: Moment | None = None
    next_attempt_at: Moment | None = None
    """While it waits."""
    finished_at: Moment | None = None
    error: Problem | None = None
    """Why it did not succeed."""
    history: tuple[DeliveryAttempt, ...] = ()

    @property
    def done(self) -> bool:
        """Whether it is tried no more."""
        return self.finished_at is not None

    @property
    def succeeded(self) -> bool:
        """Whether the receiver took it."""
        return self.state == JobState.SUCCEEDED


class DeliveryPage(View):
    """A page of deliveries, newest first."""

    data: tuple[WebhookDelivery, ...]
    has_more: bool
    next_cursor: str | None
    """For the next page; None on the last one."""
