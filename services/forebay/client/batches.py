"""What can be asked of batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import suppress
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import from_json

from forebay.client.connection import Ask, Connection, path_to
from forebay.client.errors import ClientError, NotDone, UnexpectedAnswer
from forebay.client.jobs import id_of, key_header, new_key
from forebay.client.lines import lines
from forebay.client.submissions import BatchBody, BatchItem, Several, query_of
from forebay.client.views import Batch, BatchResult

NDJSON = {"Content-Type": "application/x-ndjson"}
LONG_S = 60.0
"""Ten thousand jobs are read and stored before a batch is answered."""
FIRST_LOOK_S, LAST_LOOK_S = 0.1, 3.0
"""From one look at a batch to the next, growing: its jobs are counted each time."""


class BatchCalls:
    """The part of the client about batches; every call raises `ClientError`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def submit_batch(
        self,
        items: Iterable[BatchItem] | AsyncIterable[BatchItem],
        *,
        on_invalid: Literal["reject", "skip"] = "reject",
        idempotency_key: str | None = None,
    ) -> Batch:
        """Up to 10 000 jobs at once, sent as they are made.

        An item is an input (`SearchRequest(...)`), a submission as a mapping, with a `custom_id` or
        a `webhook` if you like, or a line of JSON. With `skip` the good ones are accepted and
        `errors` of the batch says what is wrong with the others; with `reject` nothing is if one is
        bad.
        """
        key = key_header(idempotency_key) if idempotency_key else new_key()
        ask = Ask(
            "POST",
            "/v1/batches",
            {"on_invalid": on_invalid},
            body=BatchBody(items),
            headers=NDJSON | key,
            read_s=LONG_S,
        )
        return await self._connection.view(ask, Batch)

    async def batch(self, batch: Batch | str) -> Batch:
        """The batch as it is now."""
        return await self._connection.view(Ask("GET", path_to("batches", id_of(batch))), Batch)

    async def wait_batch(self, batch: Batch | str, timeout_s: float | None = None) -> Batch:
        """The batch when all its jobs are; raises `NotDone` after `timeout_s` seconds."""
        seen = batch if isinstance(batch, Batch) else None
        pause_s = FIRST_LOOK_S
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not (seen := await self.batch(batch)).done:
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 1.5, LAST_LOOK_S)
                return seen
        raise NotDone(f"{id_of(batch)} was not done within {timeout_s} s", seen)

    async def batch_results(self, batch: Batch | str) -> AsyncIterator[BatchResult]:
        """A line for each job as it is now, in the order in which they were sent.

        One at a time, however many there are. Goes on behind the last one when it breaks off.
        """
        patience, last_id = self._connection.patience(), ""
        while True:
            try:
                async for line in self._result_lines(id_of(batch)):
                    # Ids sort as the items were sent.
                    if line.id > last_id:
                        last_id = line.id
                        patience.renew()
                        yield line
                return
            except ClientError as broken:
                trouble = broken
            await patience.pause(trouble)

    async def cancel_batch(self, batch: Batch | str) -> Batch:
        """Stop every job that is not done."""
        return await self._act(batch, "cancel", {})

    async def retry_batch(self, batch: Batch | str, state: Several | None = None) -> Batch:
        """Run again those that failed or expired, or have one of these states."""
        return await self._act(batch, "retry", {} if state is None else {"state": state})

    async def _act(self, batch: Batch | str, verb: str, said: dict[str, Any]) -> Batch:
        path = path_to("batches", id_of(batch), verb)
        return await self._connection.view(Ask("POST", path, query_of(said), read_s=LONG_S), Batch)

    async def _result_lines(self, batch_id: str) -> AsyncIterator[BatchResult]:
        ask = Ask("GET", path_to("batches", batch_id, "results"), read_s=LONG_S)
        async with self._connection.opened(ask) as answer:
            async for line in lines(self._connection.pieces(answer)):
                try:
                    yield BatchResult.model_validate(from_json(line))
                except (ValueError, ValidationError):
                    raise UnexpectedAnswer(f"a line of {ask.path} cannot be read") from None
