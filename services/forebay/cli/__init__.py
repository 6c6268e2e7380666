"""`forebay ...`: the verbs of callers and operators. Each calls one function and shows the answer.

Exit codes: 0 done, 1 it could not be done, 2 a setting or an option is missing or wrong, 3 the
store does not answer (`forebay audit`), 4 the job or the delivery, or one of the batch, did not
succeed, 5 it was not done in time, 130 ended by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import os
import signal
from importlib import import_module
from types import FrameType

NOT_SUCCEEDED, NOT_DONE = 4, 5
ENDED_BY_CTRL_C, ENDED_BY_SIGTERM = 130, 143


def main() -> None:
    """Run a verb. Until it listens to SIGTERM itself, one ends it at once.

    In a Job it is a container's first process, as `forebay.starting` tells: without a handler it
    would lose a SIGTERM that comes during the imports, so what costs is imported only here.
    """
    signal.signal(signal.SIGTERM, _leave)
    import_module("forebay.cli.verbs").run()


def _leave(_number: int, _frame: FrameType | None) -> None:
    # Not an exception: a library that is being imported could take it for a missing dependency.
    os._exit(ENDED_BY_SIGTERM)
