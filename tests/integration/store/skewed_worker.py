"""Run as a process of its own whose clock is a day ahead: tries to take what others hold."""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
import time

_real_time, _RealDatetime = time.time, dt.datetime
_AHEAD = dt.timedelta(days=1)


class _SkewedDatetime(_RealDatetime):
    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
        return _RealDatetime.now(tz) + _AHEAD


time.time = lambda: _real_time() + _AHEAD.total_seconds()
dt.datetime = _SkewedDatetime  # type: ignore[misc]


async def main(url: str, job_id: str) -> None:
    from pydantic import SecretStr  # noqa: PLC0415  after the clock is skewed

    from forebay.jobs import JobKind, Lane  # noqa: PLC0415
    from forebay.settings import StoreSettings  # noqa: PLC0415
    from forebay.store import JobRef  # noqa: PLC0415
    from forebay.store.mongo import open_store  # noqa: PLC0415

    skew = dt.datetime.now(dt.UTC) - _RealDatetime.now(dt.UTC)
    async with open_store(StoreSettings(mongodb_url=SecretStr(url))) as store:
        claim = await store.claim(JobRef(job_id, 1, JobKind.SEARCH, Lane.DEFAULT), "skewed", 60)
        rescued = await store.rescue(10)
        due = await store.queue_due(10)
        expired = await store.expire(10)
    sys.stdout.write(f"{round(skew.total_seconds())} {claim} {rescued} {due} {expired}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
