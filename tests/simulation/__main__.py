"""`python -m tests.simulation SEED...`: the trace of each history, and its fingerprint."""

from __future__ import annotations

import sys

from .history import play

if __name__ == "__main__":
    for seed in map(int, sys.argv[1:]):
        history = play(seed)
        sys.stdout.writelines(f"{line}\n" for line in history.trace)
        sys.stdout.write(f"{len(history.violations)} violations\n")
        sys.stdout.write(f"FINGERPRINT {seed} {history.fingerprint}\n")
