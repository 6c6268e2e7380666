"""`forebay submit`, `search`, `crawl`, `llm`: hand in a job, and wait for it if you like."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from forebay.cli.api import call
from forebay.cli.jobs import follow, show_job, show_result
from forebay.cli.options import (
    Input,
    Key,
    Kind,
    LaneOf,
    MaxAttempts,
    Metadata,
    Tags,
    WaitFor,
    WebhookUrl,
    given,
    moment,
)
from forebay.cli.tables import AsJson
from forebay.client import Client, Job
from forebay.jobs import Lane
from forebay.requests import CrawlFormat, Freshness

Submit = Callable[[Client], Awaitable[Job]]


def submit(
    kind: Annotated[Kind, typer.Argument(help="Which API.")],
    input_: Input,
    *,
    lane: LaneOf = Lane.DEFAULT,
    provider: Annotated[
        list[str] | None, typer.Option("--provider", help="Whom to try, in this order.")
    ] = None,
    not_before: Annotated[Any, moment("--not-before", "Run then or later.")] = None,
    start_by: Annotated[Any, moment("--start-by", "Expire if not begun by then.")] = None,
    deadline: Annotated[Any, moment("--deadline", "Expire if not done by then.")] = None,
    max_attempts: MaxAttempts = None,
    result_ttl: Annotated[
        int | None, typer.Option("--result-ttl", metavar="SECONDS", help="How long it is kept.")
    ] = None,
    tag: Tags = None,
    webhook: WebhookUrl = None,
    metadata: Metadata = None,
    key: Key = None,
    wait: WaitFor = None,
    as_json: AsJson = False,
) -> None:
    """Submit any job; prints the receipt, with --wait the result.

    forebay submit search '{"query": "weir"}' --lane bulk --wait 20
    """
    options = given(
        lane=lane.value,
        provider={"order": provider} if provider else None,
        not_before=not_before,
        start_by=start_by,
        deadline=deadline,
        retry={"max_attempts": max_attempts} if max_attempts else None,
        result_ttl_s=result_ttl,
        tags=tag,
        metadata=metadata,
        webhook=webhook,
        idempotency_key=key,
    )
    _send(lambda client: client.submit(kind.value, input_, **options), wait, as_json=as_json)


def search(
    query: Annotated[str, typer.Argument(help="What to search for.")],
    *,
    limit: Annotated[int | None, typer.Option("--limit", help="Results at most.")] = None,
    site: Annotated[str | None, typer.Option("--site", help="Only this host.")] = None,
    freshness: Annotated[Freshness | None, typer.Option(help="Not older than this.")] = None,
    language: Annotated[str | None, typer.Option(help="Such as en or pt-BR.")] = None,
    region: Annotated[str | None, typer.Option(help="Such as US.")] = None,
    lane: LaneOf = Lane.DEFAULT,
    tag: Tags = None,
    webhook: WebhookUrl = None,
    key: Key = None,
    wait: WaitFor = None,
    as_json: AsJson = False,
) -> None:
    """Submit a search; prints the receipt, with --wait the result."""
    options: Any = given(
        limit=limit, site=site, freshness=freshness, language=language, region=region,
        lane=lane.value, tags=tag, webhook=webhook, idempotency_key=key,
    )  # fmt: skip
    _send(lambda client: client.search(query, **options), wait, as_json=as_json)


def crawl(
    url: Annotated[str, typer.Argument(help="Where to begin, http or https.")],
    *,
    formats: Annotated[
        list[CrawlFormat] | None, typer.Option("--format", help="What to make of a page.")
    ] = None,
    max_pages: Annotated[
        int | None, typer.Option("--max-pages", min=1, help="Follow links to so many pages.")
    ] = None,
    max_depth: Annotated[
        int | None, typer.Option("--max-depth", min=0, help="Follow links so many links away.")
    ] = None,
    lane: LaneOf = Lane.DEFAULT,
    tag: Tags = None,
    webhook: WebhookUrl = None,
    key: Key = None,
    wait: WaitFor = None,
    as_json: AsJson = False,
) -> None:
    """Submit a page to fetch; prints the receipt, with --wait the result."""
    options: Any = given(
        formats=formats, follow=given(max_pages=max_pages, max_depth=max_depth) or None,
        lane=lane.value, tags=tag, webhook=webhook, idempotency_key=key,
    )  # fmt: skip
    _send(lambda client: client.crawl(url, **options), wait, as_json=as_json)


def llm(
    prompt: Annotated[str, typer.Argument(help="What the user says; - for stdin.")],
    *,
    model: Annotated[str, typer.Option("--model", help="The provider's name of the model.")],
    system: Annotated[str | None, typer.Option("--system", help="What the system says.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="From 0 to 2.")] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Print the answer while it is written.")
    ] = False,
    lane: LaneOf = Lane.DEFAULT,
    tag: Tags = None,
    webhook: WebhookUrl = None,
    key: Key = None,
    wait: WaitFor = None,
    as_json: AsJson = False,
) -> None:
    """Submit a prompt; prints the receipt, with --wait or --stream the answer."""
    said = sys.stdin.read() if prompt == "-" else prompt
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": said})
    options: Any = given(
        max_tokens=max_tokens, temperature=temperature, stream=stream or None,
        lane=lane.value, tags=tag, webhook=webhook, idempotency_key=key,
    )  # fmt: skip
    _send(
        lambda client: client.llm(model, messages, **options),
        wait,
        as_json=as_json,
        streamed=stream,
    )


def _send(act: Submit, wait_s: float | None, *, as_json: bool, streamed: bool = False) -> None:
    async def run(client: Client) -> Job:
        job = await act(client)
        if not streamed and wait_s is None:
            return job
        # Said before the wait: who interrupts it can ask for the job later.
        sys.stderr.write(f"{job.id}\n")
        if streamed:
            return await follow(client, job.id, as_json=as_json)
        return await client.wait(job, wait_s)

    job = call(run)
    if streamed:
        return
    if wait_s is None:
        show_job(job, as_json=as_json)
    else:
        show_result(job, as_json=as_json)
