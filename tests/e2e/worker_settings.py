"""Settings of workers, as their environment carries them."""

from __future__ import annotations

WORKERS = ("SEARCH", "CRAWLER", "LLM")


def of_workers(*workers: str, **settings: float) -> dict[str, str]:
    """The same for each worker, all of them if none is named.

    of_workers(LEASE_S=3)  # {"FOREBAY_SEARCH_LEASE_S": "3", "FOREBAY_CRAWLER_LEASE_S": "3", ...}
    """
    return {
        f"FOREBAY_{worker}_{name}": f"{value:g}"
        for worker in workers or WORKERS
        for name, value in settings.items()
    }
