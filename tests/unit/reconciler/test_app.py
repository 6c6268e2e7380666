"""The reconciler's composition."""

from __future__ import annotations

import inspect
import pkgutil
from datetime import UTC, datetime
from importlib import import_module

import structlog

import reconciler
from forebay.process import Process
from forebay.store.endpoints import MemoryEndpointStore
from forebay.store.memory import MemoryJobStore
from forebay.store.paces import MemoryPaceStore
from forebay.testing.broker import FakeBroker
from reconciler.app import endless_loops
from reconciler.settings import ReconcilerSettings


def test_every_loop_that_is_written_is_started() -> None:
    process = Process("reconciler", structlog.wrap_logger(structlog.ReturnLogger()))
    store = MemoryJobStore(lambda: datetime.now(UTC))
    loops = endless_loops(
        process,
        ReconcilerSettings(),
        store,
        MemoryPaceStore(),
        MemoryEndpointStore(),
        FakeBroker().publisher(),
    )
    started = {type(turn.__self__).__name__ for turn, _ in loops.values()}
    assert started == written() >= {"Relay", "Rescuer", "Refiller"}


def written() -> set[str]:
    """The classes of the reconciler that can turn."""
    modules = [
        import_module(f"reconciler.{module.name}")
        for module in pkgutil.iter_modules(reconciler.__path__)
        if module.name != "__main__"
    ]
    return {
        name
        for module in modules
        for name, found in inspect.getmembers(module, inspect.isclass)
        if found.__module__ == module.__name__ and hasattr(found, "turn")
    }
