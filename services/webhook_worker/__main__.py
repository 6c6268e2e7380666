"""`python -m webhook_worker`: the process that delivers webhooks."""

from __future__ import annotations

from forebay.starting import start

if __name__ == "__main__":
    start("webhook_worker", "webhook_worker.app")
