"""Callers that obey `Retry-After`: who is told when to come back comes back then."""

from __future__ import annotations

import aiohttp

from forebay.audit.ledger import NO_ANSWER
from forebay.testing.polling import pace
from tests.e2e.callers import Callers, Json


class PatientCallers(Callers):
    """An outage then ends with everybody who waited, and not with a storm of repeats before."""

    async def _post(self, path: str, body: Json, headers: dict[str, str]) -> tuple[int, Json]:
        try:
            async with self._session.post(self._url + path, json=body, headers=headers) as answer:
                said = await answer.json(content_type=None)
                status, wish = answer.status, answer.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return NO_ANSWER, {}
        if status == 503 and wish is not None:
            await passed(float(wish))
        return status, said


async def passed(seconds: float) -> None:
    """Return when so much time has passed."""
    async for _ in pace(1 / max(seconds, 0.001), 2):  # who may come back in 0 s comes at once
        pass
