"""Show what an LLM writes while it writes it. A connection that breaks goes on where it was."""

import asyncio
import os

from forebay.client import Client, Output, Reset

URL = os.environ.get("FOREBAY_URL", "http://127.0.0.1:8080")


async def main() -> None:
    async with Client(URL, os.environ.get("FOREBAY_API_KEY")) as forebay:
        job = await forebay.llm("small", "Say hello.", max_tokens=12, stream=True)
        async with forebay.stream(job) as events:
            async for event in events:
                if isinstance(event, Output):
                    print(event.text, end="", flush=True)
                elif isinstance(event, Reset):
                    print("\n[a new attempt begins anew]")
        print()

        result = await forebay.result(job)
        print("the same as the stored result:", events.text == result["content"])


asyncio.run(main())

# Prints:
#   About “Say hello.”: Engineers measured the spillway every morning and wrote the
#   the same as the stored result: True
