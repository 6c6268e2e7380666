"""The public HTTP API, as a verb sees it: what any caller could do, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import httpx
from pydantic import AfterValidator, Field

from forebay.errors import ForebayError
from forebay.jobs import JobKind, JobState
from forebay.settings import EndpointUrl, SettingsGroup

PAGE = 200
"""The most jobs that the API lists at once."""

Shown = Mapping[str, Any]
"""What the API shows, a job above all."""


def _without_path(url: str) -> str:
    if urlsplit(url).path not in {"", "/"}:
        raise ValueError("it must be the address alone, such as http://127.0.0.1:8080")
    return url


class ApiSettings(SettingsGroup):
    """How the verbs that speak to the API reach it."""

    url: Annotated[EndpointUrl, AfterValidator(_without_path)] = "http://127.0.0.1:8080"
    """The ingress, without a path; read by `forebay dead`."""
    url_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """How long one answer of it may take, in seconds."""


class ApiTrouble(ForebayError):
    """The API did not answer, or not as it should."""


class Replay(StrEnum):
    """What became of the wish to run a job again."""

    QUEUED = "queued"
    NOT_FOUND = "not found"
    NOT_TERMINAL = "not terminal"
    RUN_AGAIN = "already run again: somebody else did so meanwhile"
    SUCCEEDED = "left alone: it has succeeded, and running it again would lose its result"


_REFUSALS = {
    "not_found": Replay.NOT_FOUND,
    "not_terminal": Replay.NOT_TERMINAL,
    "other_generation": Replay.RUN_AGAIN,
}
"""What the API's problems of a replay mean, by their code."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """A job that may be run again, as it was seen.

    Attributes:
        replay: what running it again would come to.
        generation: of the job then; 0 when there is no such job.
    """

    job_id: str
    replay: Replay
    generation: int = 0


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
            page = await self._page(query)
            for job in page["data"]:
                yield job
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]

    async def prospect(self, job_id: str) -> Prospect:
        """What `replay` would answer for this job now."""
        answer = await self._ask("GET", f"/v1/jobs/{quote(job_id, safe='')}")
        if answer.status_code == 404 and _said(answer).get("code") == "not_found":
            return Prospect(job_id, Replay.NOT_FOUND)
        return prospect_of(_body(answer, "generation"))

    async def replay(self, seen: Prospect) -> Replay:
        """Run a terminal job again, if nobody did since it was seen."""
        path = f"/v1/jobs/{quote(seen.job_id, safe='')}/retry"
        answer = await self._ask("POST", path, {"generation": str(seen.generation)})
        if answer.status_code == 202:
            return Replay.QUEUED
        refusal = _REFUSALS.get(str(_said(answer).get("code")))
        if refusal is None:
            raise _trouble(answer)
        return refusal

    async def _page(self, query: Mapping[str, str]) -> Shown:
        return _body(await self._ask("GET", "/v1/jobs", query), "next_cursor")

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


def prospect_of(job: Shown) -> Prospect:
    """What `replay` would answer for a job as it is shown."""
    if job["state"] == JobState.SUCCEEDED:
        replay = Replay.SUCCEEDED
    else:
        replay = Replay.QUEUED if job["done"] else Replay.NOT_TERMINAL
    return Prospect(job["id"], replay, job["generation"])


def _body(answer: httpx.Response, needed: str) -> Shown:
    """The body of a 200 that has this field; raises `ApiTrouble` with what any other answer says.

    By the field it is known from what some other server answers at the same path.
    """
    said = _said(answer)
    if answer.status_code != 200 or needed not in said:
        raise _trouble(answer)
    return said


def _said(answer: httpx.Response) -> Shown:
    """The JSON object that was answered; an empty one if it was none."""
    try:
        said = answer.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _trouble(answer: httpx.Response) -> ApiTrouble:
    request = answer.request
    return ApiTrouble(
        f"{request.method} {request.url.path} was answered {answer.status_code}: "
        f"{_said(answer).get('detail') or 'this is not the API of an ingress'}"
    )
