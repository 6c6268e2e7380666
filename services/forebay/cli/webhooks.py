"""`forebay webhooks ...`: where you hear of your jobs, and what became of what was sent."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from forebay.cli import NOT_SUCCEEDED
from forebay.cli.api import call
from forebay.cli.options import States, WaitFor, given
from forebay.cli.tables import AsJson, age, say_json, show_fields, show_rows
from forebay.client import (
    Client,
    DeliveryAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
    WebhookSecret,
)

webhooks_app = typer.Typer(help="Hear of your jobs by HTTP.", no_args_is_help=True)

_EndpointId = Annotated[
    str, typer.Argument(metavar="ENDPOINT_ID", help="`we_...`, as `list` shows it.")
]
_Signer = Annotated[
    str, typer.Argument(metavar="ENDPOINT_ID", help="Or `default`, for --webhook URL of a job.")
]
_DeliveryId = Annotated[
    str, typer.Argument(metavar="DELIVERY_ID", help="`msg_...`, as `deliveries` shows it.")
]


@webhooks_app.command()
def create(
    url: Annotated[str, typer.Argument(help="Where to POST, http or https.")],
    *,
    event: Annotated[
        list[WebhookEvent] | None,
        typer.Option("--event", help="Only of this; may be repeated."),
    ] = None,
    description: Annotated[str, typer.Option("--description", help="Your own words.")] = "",
    as_json: AsJson = False,
) -> None:
    """Add an endpoint, and print it with the secret that signs."""
    events = [one.value for one in event or ()]
    endpoint = call(
        lambda client: client.create_webhook(url, events=events, description=description)
    )
    if as_json:
        say_json(endpoint.as_json())
        return
    show_fields(
        [
            ("id", endpoint.id),
            ("url", endpoint.url),
            ("events", _events(endpoint)),
            ("about", endpoint.description),
            ("secret", endpoint.secret.get_secret_value()),
        ]
    )


@webhooks_app.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List the endpoints, the oldest first."""
    endpoints = call(lambda client: client.list_webhooks())
    if as_json:
        say_json([endpoint.as_json() for endpoint in endpoints])
    else:
        show_rows("id", "state", "url, events", rows=map(_endpoint_row, endpoints))


@webhooks_app.command()
def remove(endpoint_id: _EndpointId) -> None:
    """Remove an endpoint; what waits to be sent there is canceled."""
    call(lambda client: client.remove_webhook(endpoint_id))
    sys.stdout.write(f"{endpoint_id} is removed\n")


@webhooks_app.command()
def secret(endpoint_id: _Signer = "default", *, as_json: AsJson = False) -> None:
    """Print the secret that signs."""
    _show_secret(call(lambda client: client.webhook_secret(endpoint_id)), as_json=as_json)


@webhooks_app.command("rotate-secret")
def rotate_secret(endpoint_id: _Signer, *, as_json: AsJson = False) -> None:
    """Make a new secret and print it; for 24 hours the old one signs beside it."""
    _show_secret(call(lambda client: client.rotate_webhook_secret(endpoint_id)), as_json=as_json)


@webhooks_app.command("test")
def send_test(endpoint_id: _EndpointId, *, wait: WaitFor = None, as_json: AsJson = False) -> None:
    """Send a test event. With --wait ends with 4 if it is refused, with 5 if that takes longer."""
    _send(lambda client: client.test_webhook(endpoint_id), wait, as_json=as_json)


@webhooks_app.command()
def deliveries(
    *,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="ENDPOINT_ID", help="To this endpoint, or `default`."),
    ] = None,
    job: Annotated[
        str | None, typer.Option("--job", metavar="JOB_ID", help="About this job.")
    ] = None,
    event: Annotated[
        str | None, typer.Option("--event", metavar="EVENT", help="Such as job.failed.")
    ] = None,
    state: States = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="N", help="Deliveries at most.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """List what was sent and what is to be sent, the newest first."""
    filters: Any = given(endpoint_id=endpoint, job_id=job, event=event, state=state)

    async def found(client: Client) -> list[WebhookDelivery]:
        deliveries: list[WebhookDelivery] = []
        async for delivery in client.iterate_deliveries(**filters):
            deliveries.append(delivery)
            if len(deliveries) == limit:
                break
        return deliveries

    rows = call(found)
    if as_json:
        say_json([delivery.as_json() for delivery in rows])
    else:
        show_rows("id", "event", "state", "age", "answered", rows=map(_delivery_row, rows))


@webhooks_app.command()
def redeliver(delivery_id: _DeliveryId, *, wait: WaitFor = None, as_json: AsJson = False) -> None:
    """Send one again that is done. With --wait ends with 4 if it is refused, with 5 if late."""
    _send(lambda client: client.redeliver(delivery_id), wait, as_json=as_json)


def _send(
    act: Callable[[Client], Awaitable[WebhookDelivery]], wait_s: float | None, *, as_json: bool
) -> None:
    async def run(client: Client) -> WebhookDelivery:
        delivery = await act(client)
        if wait_s is None:
            return delivery
        # Said before the wait: who interrupts it can look for the delivery later.
        sys.stderr.write(f"{delivery.id}\n")
        return await client.wait_delivery(delivery, wait_s)

    delivery = call(run)
    if as_json:
        say_json(delivery.as_json())
    else:
        _show_delivery(delivery)
    if wait_s is not None and not delivery.succeeded:
        raise typer.Exit(NOT_SUCCEEDED)


def _show_delivery(delivery: WebhookDelivery) -> None:
    show_fields(
        [
            ("id", delivery.id),
            ("event", delivery.event),
            ("state", delivery.state),
            ("endpoint", delivery.endpoint_id),
            ("job", delivery.job_id),
            ("attempts", f"{delivery.attempts} of {delivery.max_attempts}"),
            ("error", delivery.error and f"{delivery.error.code}: {delivery.error.detail}"),
            *((f"attempt {one.n}", _answered(one)) for one in delivery.history),
        ]
    )


def _show_secret(endpoint: WebhookSecret, *, as_json: bool) -> None:
    if as_json:
        say_json(endpoint.as_json())
    else:
        sys.stdout.write(f"{endpoint.secret.get_secret_value()}\n")


def _endpoint_row(endpoint: WebhookEndpoint) -> tuple[str, ...]:
    state = f"disabled ({endpoint.disabled_reason})" if endpoint.disabled else "live"
    return endpoint.id, state, f"{endpoint.url}, {_events(endpoint)}"


def _events(endpoint: WebhookEndpoint) -> str:
    return " ".join(endpoint.events) or "all"


def _delivery_row(delivery: WebhookDelivery) -> tuple[str, ...]:
    last = _answered(delivery.history[-1]) if delivery.history else ""
    return delivery.id, delivery.event, delivery.state, age(delivery.created_at), last


def _answered(attempt: DeliveryAttempt) -> str:
    """The status, or that there was none."""
    return "nothing" if attempt.http_status is None else str(attempt.http_status)
