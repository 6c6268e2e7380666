"""How a process can be stopped before it has begun.

A container's first process is special: the kernel drops a signal that it has no handler for. The
imports of a process take a second, on busy cores ten, and its own handlers are there only
afterwards; a SIGTERM in between would be lost, and the container would stand until it is killed,
after 325 s for the LLM worker. So this module is imported first, and imports nothing that costs.
"""

from __future__ import annotations

import os
import signal
from importlib import import_module
from types import FrameType


def start(name: str, root: str) -> None:
    """Run the process `name`, whose composition root is the function `main` of the module `root`.

    Until it listens to signals itself, one ends it at once with exit code 0: nothing has begun.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    main = import_module(root).main
    import_module("forebay.process").run(name, main)


def _leave(_number: int, _frame: FrameType | None) -> None:
    # Not an exception: a library that is being imported could take it for a missing dependency.
    os._exit(0)
