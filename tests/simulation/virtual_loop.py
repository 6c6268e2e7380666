"""An event loop whose time is a number: nothing sleeps, and the order of steps is always the same.

Theory of operation. When nothing is ready, the clock jumps to the next timer. When there is none
either, everybody waits for everybody: `Stuck`. There are no threads, no sockets and no signals.

What runs belongs to the process that its context names. A process can be stopped: its steps are
then kept, in the order in which they became ready, until it is let go on, as SIGSTOP and SIGCONT
do. One that is killed is stopped for good: not even a `finally` of it runs.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any

PROCESS: ContextVar[SimProcess | None] = ContextVar("process", default=None)


class Stuck(Exception):
    """Nothing is ready, no timer is set, and what is waited for has not come."""


class SimProcess:
    """A process inside the simulation: whose steps can be stopped, all at once."""

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name = name
        self.dead = False
        self.frozen = False
        self.ended = False
        """It came to its own end."""
        self.kept: deque[asyncio.Handle] = deque()
        """Steps that became ready while it was stopped."""
        self._loop = loop
        self._context = copy_context()
        self._context.run(PROCESS.set, self)

    @property
    def stopped(self) -> bool:
        """Whether its steps are kept instead of run."""
        return self.dead or self.frozen

    @property
    def up(self) -> bool:
        """Whether it works."""
        return not self.stopped and not self.ended

    @property
    def context(self) -> Context:
        """What to run a step of it in."""
        return self._context.copy()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """A task of this process."""
        return self._loop.create_task(coroutine, name=name, context=self.context)

    def go_on(self) -> None:
        """What was kept becomes ready: what came in first, then the timers, as asyncio does it."""
        kept = [*self.kept]
        self.kept.clear()
        timers = [handle for handle in kept if isinstance(handle, asyncio.TimerHandle)]
        others = [handle for handle in kept if not isinstance(handle, asyncio.TimerHandle)]
        self._loop.make_ready(others + timers)


class VirtualLoop(asyncio.AbstractEventLoop):
    """See above. `run` is its only entrance."""

    def __init__(self) -> None:
        self.steps = 0
        self.unhandled: list[dict[str, Any]] = []
        """What asyncio reports: exceptions that nobody asked for."""
        self._now = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self._tasks: dict[asyncio.Task[Any], SimProcess | None] = {}
        """Each with whose it is."""
        self._running = False

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run until `main` is done; its result. Raises `Stuck`."""
        asyncio._set_running_loop(self)
        self._running = True
        try:
            task = self.create_task(main, name="main")
            while not task.done():
                self._turn()
            return task.result()
        finally:
            self._running = False
            asyncio._set_running_loop(None)

    def _turn(self) -> None:
        if not self._ready:
            self._jump()
        handle = self._ready.popleft()
        if handle._cancelled:
            return
        process = handle._context.get(PROCESS)
        if process is not None and process.stopped:
            process.kept.append(handle)
            return
        self.steps += 1
        handle._run()

    def _jump(self) -> None:
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            waiting = sorted(task.get_name() for task in self._tasks if not task.done())
            raise Stuck(f"at {self._now:.3f} s, waiting for each other: {', '.join(waiting)}")
        self._now = max(timers[0][0], self._now)
        while timers and timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(timers)[2])

    async def bury(self) -> None:
        """End every task there is, so that none is left for the garbage collector to report."""
        me = asyncio.current_task()
        for _ in range(100):
            living = [task for task in self._tasks if not task.done() and task is not me]
            if not living:
                return
            for task in living:
                task.cancel()
            await asyncio.sleep(1)
        raise Stuck(f"cannot be ended: {', '.join(task.get_name() for task in living)}")

    def unasked(self) -> Iterator[str]:
        """Every exception that nobody asked for until now."""
        for context in self.unhandled:
            yield f"{context['message']}: {context.get('exception')!r}"
        # As long as a task is kept here, asyncio does not report what it ended with.
        for task, process in self._tasks.items():
            killed = process is not None and process.dead
            if task.done() and task._log_traceback and not killed:  # type: ignore[attr-defined]
                yield f"{task.get_name()} failed, and nobody asked: {task.exception()!r}"

    def make_ready(self, handles: list[asyncio.Handle]) -> None:
        """Let these steps run, after those that are ready."""
        self._ready.extend(handles)

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **kwargs)
        context = kwargs.get("context")
        self._tasks[task] = PROCESS.get() if context is None else context.get(PROCESS)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.unhandled.append(context)
