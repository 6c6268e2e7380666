"""What can go wrong, and what to do about each."""

import asyncio
import os
from datetime import UTC, datetime, timedelta

from forebay.client import Client, Invalid, JobFailed, NotDone, NotFound, Unreachable

URL = os.environ.get("FOREBAY_URL", "http://127.0.0.1:8080")


async def main() -> None:
    async with Client(URL, os.environ.get("FOREBAY_API_KEY")) as forebay:
        # The request must be changed: `errors` names each place.
        try:
            await forebay.submit("search", {"query": ""})
        except Invalid as refused:
            print(refused.code, [part.pointer for part in refused.errors])

        # Not done in time: the job goes on, and can be waited for again or canceled.
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        job = await forebay.search("weir", not_before=tomorrow)
        try:
            await forebay.result(job, timeout_s=0.5)
        except NotDone as waited:
            print("not done:", waited.seen.state)
            await forebay.cancel(job)

        # Failed, expired or canceled: the job says why, and may be run again under its id.
        try:
            await forebay.result(job)
        except JobFailed as failed:
            print(failed.job.state, failed.job.error.code, failed.job.error.retryable)
            again = await forebay.retry(failed.job)
            print("generation", again.generation, (await forebay.wait(again)).state)

        # Kept no longer, deleted, or another tenant's.
        await forebay.delete(job)
        try:
            await forebay.get(job)
        except NotFound as gone:
            print(gone.detail)

    # The service is away: every call was tried again for `patience_s` before it raises.
    async with Client("http://127.0.0.1:9", patience_s=1) as nobody:
        try:
            await nobody.search("weir")
        except Unreachable as away:
            print(away)


asyncio.run(main())

# Prints:
#   validation_error ['/input/query']
#   not done: scheduled
#   canceled canceled False
#   generation 2 succeeded
#   There is no such job.
#   http://127.0.0.1:9 does not answer (ConnectError)
