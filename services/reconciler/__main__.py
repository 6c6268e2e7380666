"""`python -m reconciler`."""

from __future__ import annotations

from forebay.starting import start

if __name__ == "__main__":
    start("reconciler", "reconciler.app")
