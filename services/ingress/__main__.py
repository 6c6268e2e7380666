"""`python -m ingress`: the process."""

from __future__ import annotations

from forebay.starting import start

if __name__ == "__main__":
    start("ingress", "ingress.app")
