"""Submit a file of jobs as one batch, wait for all of them, and read the results one by one."""

import asyncio
import os
from pathlib import Path

from forebay.client import Client

URL = os.environ.get("FOREBAY_URL", "http://127.0.0.1:8080")
JOBS = Path(__file__).with_name("a_hundred_searches.ndjson")


async def main() -> None:
    async with Client(URL, os.environ.get("FOREBAY_API_KEY")) as forebay:
        with JOBS.open("rb") as lines:
            # Under the same key a second run is the same batch, and nothing is paid twice.
            batch = await forebay.submit_batch(lines, on_invalid="skip", idempotency_key="rivers-1")
        print("accepted:", batch.accepted, "refused:", batch.rejected)
        for item in batch.errors:
            print(f"line {item.index + 1}: {item.error}")

        batch = await forebay.wait_batch(batch, timeout_s=60)
        print("counts:", dict(batch.counts))

        found = {}
        async for line in forebay.batch_results(batch):
            found[line.custom_id] = len(line.result["results"]) if line.succeeded else 0
        print("results:", sum(found.values()), "of", len(found), "rivers, first", min(found))


asyncio.run(main())

# Prints:
#   accepted: 99 refused: 1
#   line 100: 1 part of the request is not valid: /input/query: Field required
#   counts: {'succeeded': 99}
#   results: 198 of 99 rivers, first river-01
