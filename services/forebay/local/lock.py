"""One run at a time in one checkout; the kernel frees the lock when its holder ends in any way."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from forebay.local.errors import AlreadyUp


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold `directory/lock`; raises `AlreadyUp` naming the process that holds it."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise AlreadyUp(
                f"The system of this checkout is already up (process {file.read().strip()}); "
                f"its addresses are in {directory / 'endpoints.json'}. End it with Ctrl-C first."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
