"""The public HTTP API, as a verb sees it: what any caller could do, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import httpx

from forebay.errors import ForebayError
from forebay.jobs import JobKind, JobState
from forebay.settings import EndpointUrl, SettingsGroup

PAGE = 200
"""The most jobs that the API lists at once."""

Shown = Mapping[str, Any]
"""A job as the API shows it."""


class ApiSettings(SettingsGroup):
    """How the verbs that speak to the API reach it."""

    url: EndpointUrl = "http://127.0.0.1:8080"
    """The ingress, without a path; read by `forebay dead`."""
    url_timeout_s: float = 10.0
    """How long one answer of it may take, in seconds."""


class ApiTrouble(ForebayError):
    """The API did not answer, or not as it should."""


class Replay(StrEnum):
    """What became of the wish to run a job again."""

    QUEUED = "queued"
    NOT_FOUND = "not found"
    NOT_TERMINAL = "not terminal"
    SUCCEEDED = "left alone: it has succeeded, and running it again would lose its result"


_ANSWERS = {202: Replay.QUEUED, 404: Replay.NOT_FOUND, 409: Replay.NOT_TERMINAL}


class Api:
    """Asks the ingress; every method raises `ApiTrouble`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def dead(self, kind: JobKind | None) -> AsyncIterator[Shown]:
        """Jobs whose attempts ran out, with each attempt, the newest first."""
        query = {"dead_lettered": "true", "include": "attempts", "limit": str(PAGE)}
        if kind is not None:
            query["kind"] = kind.value
        while True:
            page = await self._json("/v1/jobs", query)
            for job in page["data"]:
                yield job
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]

    async def verdict(self, job_id: str) -> Replay:
        """What `replay` would answer for this job now."""
        answer = await self._ask("GET", f"/v1/jobs/{quote(job_id, safe='')}")
        if answer.status_code == 404:
            return Replay.NOT_FOUND
        job = _body(answer)
        if job["state"] == JobState.SUCCEEDED:
            return Replay.SUCCEEDED
        return Replay.QUEUED if job["done"] else Replay.NOT_TERMINAL

    async def replay(self, job_id: str) -> Replay:
        """Run a terminal job again. Not repeated here: it may have been done without an answer."""
        answer = await self._ask("POST", f"/v1/jobs/{quote(job_id, safe='')}/retry")
        if answer.status_code not in _ANSWERS:
            _body(answer)
        return _ANSWERS[answer.status_code]

    async def _json(self, path: str, query: Mapping[str, str]) -> Any:
        return _body(await self._ask("GET", path, query))

    async def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None
    ) -> httpx.Response:
        try:
            return await self._client.request(method, path, params=query)
        except httpx.HTTPError as error:
            where = f"{self._client.base_url}".rstrip("/")
            raise ApiTrouble(
                f"{where} does not answer ({type(error).__name__}); FOREBAY_URL is where the "
                "ingress is"
            ) from None


@asynccontextmanager
async def open_api(settings: ApiSettings) -> AsyncIterator[Api]:
    """The API at the address of the settings; nothing is sent yet."""
    async with httpx.AsyncClient(
        base_url=settings.url.rstrip("/"), timeout=settings.url_timeout_s, trust_env=False
    ) as client:
        yield Api(client)


def _body(answer: httpx.Response) -> Any:
    """The body of a 200; raises `ApiTrouble` with what any other answer says of itself."""
    try:
        said = answer.json()
    except ValueError:
        said = None
    if answer.status_code == 200 and isinstance(said, dict):
        return said
    detail = said.get("detail") if isinstance(said, dict) else None
    request = answer.request
    raise ApiTrouble(
        f"{request.method} {request.url.path} was answered {answer.status_code}: "
        f"{detail or 'this is not the API of an ingress'}"
    )
