"""`python -m reconciler`."""

from __future__ import annotations

from forebay.process import run
from reconciler.app import reconcile

if __name__ == "__main__":
    run("reconciler", reconcile)
