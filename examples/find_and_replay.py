"""Find jobs by what they are, and run again those that went wrong."""

import asyncio
import os

from forebay.client import Client

URL = os.environ.get("FOREBAY_URL", "http://127.0.0.1:8080")
TAG = "find-and-replay"


async def main() -> None:
    async with Client(URL, os.environ.get("FOREBAY_API_KEY")) as forebay:
        batch = await forebay.submit_batch(
            {"kind": "search", "input": {"query": f"weir {n}"}, "tags": [TAG]} for n in range(5)
        )
        await forebay.cancel_batch(batch)
        await forebay.wait_batch(batch, timeout_s=60)

        # As many as there are, page after page.
        over = [job async for job in forebay.iterate(tag=TAG, batch_id=batch.id, order="oldest")]
        print("over:", len(over))

        # Run again what was canceled: first dry, then in earnest, as a batch of its own.
        which = {"tag": TAG, "state": "canceled", "created_after": batch.created_at}
        preview = await forebay.replay(dry_run=True, **which)
        again = await forebay.replay(**which)
        print("as many as the dry run said:", again.total == preview.matched)
        done = await forebay.wait_batch(again, timeout_s=60)
        print("all succeeded:", done.succeeded)


asyncio.run(main())

# Prints:
#   over: 5
#   as many as the dry run said: True
#   all succeeded: True
