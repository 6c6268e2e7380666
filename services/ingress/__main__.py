"""`python -m ingress`: the process."""

from __future__ import annotations

from forebay.process import run
from ingress.app import main

if __name__ == "__main__":
    run("ingress", main)
