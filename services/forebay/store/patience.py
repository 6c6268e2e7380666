"""How long a process waits for its own store: for ever, since it can do nothing without it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import stamina

from forebay.errors import StoreUnavailable
from forebay.store import JobStore
from forebay.tasks import end

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class Patient:
    """Repeats a store operation until the store answers; a cancellation ends it.

    Every write of the store is safe to repeat, so an unknown answer is simply asked again.
    """

    def __init__(self, wait_max_s: float) -> None:
        self._retrying = stamina.retry(
            on=StoreUnavailable, attempts=None, timeout=None, wait_initial=0.1, wait_max=wait_max_s
        )

    async def __call__(
        self,
        operation: Callable[Given, Awaitable[Answer]],
        *args: Given.args,
        **kwargs: Given.kwargs,
    ) -> Answer:
        """The operation's answer, whenever it comes."""

        # The library's own caller does the same, and leaves the operation's name out of its logs.
        @self._retrying
        @wraps(operation)
        async def ask(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
            return await operation(*args, **kwargs)

        return await ask(*args, **kwargs)


def patient(wait_max_s: float = 5.0) -> Patient:
    """A caller whose pauses grow to `wait_max_s` seconds and a little more."""
    return Patient(wait_max_s)


class Preparation:
    """A store on its way to being fit and indexed.

    Processes, store and broker may start in any order, so a store that does not answer yet, or does
    not know our user yet, is waited for and not a reason to exit.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._lacking: str | None = "the store was not asked yet"

    @property
    def lacking(self) -> str | None:
        """Why the store cannot be used yet; None once it can."""
        return self._lacking

    async def run(self, stop: asyncio.Event) -> bool:
        """Wait until the store is prepared; False when `stop` was set first.

        Raises `StoreUnfit` at once: waiting does not mend that.
        """
        preparing = asyncio.create_task(patient()(self._prepare), name="prepare the store")
        stopping = asyncio.create_task(stop.wait(), name="stop while preparing")
        try:
            await asyncio.wait({preparing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not preparing.done():
                return False
            preparing.result()
            return True
        finally:
            await end(preparing, stopping)

    async def _prepare(self) -> None:
        try:
            await self._store.prepare()
        except StoreUnavailable as error:
            self._lacking = f"the store does not take work yet: {error}"
            raise
        self._lacking = None
