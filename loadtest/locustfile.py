"""The 500-caller scene as locust shows it: how fast jobs are accepted, and when they are done.

    make load                                     # against the stack of `make up`, HTML report
    locust -f loadtest/locustfile.py --host http://127.0.0.1:8080

Each user submits a job, then waits for it by long-poll, then submits the next. Two rows a kind:
`accept <kind>` is the 202 alone, `end to end <kind>` is from the request to the stored result. Keep
them apart: the first is Forebay's promise, the second is mostly the provider's time.

With FOREBAY_LOAD_LEDGER every answer goes into that file, which each run begins anew. `forebay
audit` then says whether every job that was answered 202 came to its end. `make load` sets it.
"""

from __future__ import annotations

import os
import time
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from locust import FastHttpUser, constant, events, task
from locust.contrib.fasthttp import FastResponse
from locust.env import Environment

WAIT_S = 20
GIVE_UP_S = 120
_numbers = count()


class Ledger(Protocol):
    """What takes answers down."""

    def note(self, method: str, path: str, status: int, **said: Any) -> object:
        """Append one."""


@events.init.add_listener  # type: ignore[untyped-decorator]
def open_ledger(environment: Environment, **_: object) -> None:
    """Begin the ledger of this run, if one is wanted."""
    environment.ledger = _new_ledger(os.environ.get("FOREBAY_LOAD_LEDGER"))  # type: ignore[attr-defined]


def _new_ledger(path: str | None) -> Ledger | None:
    if not path:
        return None
    # Only here: in the image locust has an environment of its own, which knows nothing of ours.
    from forebay.audit.ledger import LedgerWriter  # noqa: PLC0415

    Path(path).unlink(missing_ok=True)
    return LedgerWriter(Path(path))


class Caller(FastHttpUser):
    """A caller who wants an answer and asks for the next one once it has it."""

    wait_time = constant(0)

    @task(1)
    def search(self) -> None:
        """A web search."""
        self._submit_and_wait("search", {"query": f"hydro power {next(_numbers)}"})

    @task(1)
    def crawl(self) -> None:
        """A page of the simulated site, or of the site in FOREBAY_LOAD_SITE."""
        site = os.environ.get("FOREBAY_LOAD_SITE", "http://127.0.0.1:9081")
        page = next(_numbers) % 200 + 1
        self._submit_and_wait("crawl", {"url": f"{site}/pages/{page}"})

    @task(1)
    def llm(self) -> None:
        """A short conversation."""
        message = {"role": "user", "content": f"Tell me about dam number {next(_numbers)}."}
        self._submit_and_wait("llm", {"model": "small", "messages": [message]})

    def _submit_and_wait(self, kind: str, body: dict[str, Any]) -> None:
        began = time.perf_counter()
        with self.client.post(
            f"/v1/{kind}", json=body, name=f"accept {kind}", catch_response=True
        ) as answer:
            said = self._note("POST", f"/v1/{kind}", answer)
            if answer.status_code != 202:
                answer.failure(f"answered {answer.status_code}, not 202")
                return
        state = self._wait(said["id"], began)
        _report(kind, began, None if state == "succeeded" else f"ended as {state}")

    def _wait(self, job_id: str, began: float) -> str:
        while time.perf_counter() - began < GIVE_UP_S:
            path = f"/v1/jobs/{job_id}"
            answer: FastResponse = self.client.get(f"{path}?wait={WAIT_S}", name="long-poll")
            said = self._note("GET", path, answer, job_id)
            if answer.status_code == 200 and said["done"]:
                return str(said["state"])
        return "not done in time"

    def _note(
        self, method: str, path: str, answer: FastResponse, job_id: str | None = None
    ) -> dict[str, Any]:
        """Write the answer down; its body, empty where there is none that can be read."""
        try:
            said: dict[str, Any] = answer.json() if answer.status_code else {}
        except ValueError:
            said = {}
        ledger: Ledger | None = self.environment.ledger
        if ledger is not None:
            told = {name: said.get(name) for name in ("kind", "state", "generation")}
            ledger.note(method, path, answer.status_code, job_id=said.get("id", job_id), **told)
        return said


def _report(kind: str, began: float, error: str | None) -> None:
    events.request.fire(  # type: ignore[no-untyped-call]
        request_type="JOB",
        name=f"end to end {kind}",
        response_time=(time.perf_counter() - began) * 1000,
        response_length=0,
        exception=RuntimeError(error) if error else None,
        context={},
    )
