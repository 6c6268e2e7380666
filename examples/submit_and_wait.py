"""Submit a search, wait for its end, and look at what was found."""

import asyncio
import os

from forebay.client import Client

URL = os.environ.get("FOREBAY_URL", "http://127.0.0.1:8080")


async def main() -> None:
    async with Client(URL, os.environ.get("FOREBAY_API_KEY")) as forebay:
        job = await forebay.search("hydro power", limit=3, lane="interactive")
        print("accepted:", job.id, job.state)

        # Any process may wait for it, now or tomorrow: the id is all it needs.
        result = await forebay.result(job.id, timeout_s=30)
        print("found:", len(result["results"]))
        print("first:", result["results"][0]["title"])


asyncio.run(main())

# Prints:
#   accepted: job_01a202f712bc7275b1f091bef1bd892a queued
#   found: 3
#   first: hydro power: the measured intake and its tailrace
