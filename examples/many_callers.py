"""500 callers at once, each with a search of its own: accepted now, digested behind."""

import asyncio
import os
from collections import Counter

from forebay.client import Client

URL = os.environ.get("FOREBAY_URL", "http://127.0.0.1:8080")
CALLERS = 500


async def caller(forebay: Client, number: int) -> str:
    job = await forebay.search(f"hydro power, question {number}", limit=1, tags=["many-callers"])
    # The wait is held open by the service: nobody polls.
    return str((await forebay.wait(job, timeout_s=120)).state)


async def main() -> None:
    async with Client(URL, os.environ.get("FOREBAY_API_KEY")) as forebay:
        states = await asyncio.gather(*(caller(forebay, number) for number in range(CALLERS)))
    print(dict(Counter(states)))


asyncio.run(main())

# Prints:
#   {'succeeded': 500}
