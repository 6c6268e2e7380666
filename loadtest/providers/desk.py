"""One call from its arrival to its last byte: log, key, directive, fate, answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

from aiohttp import web

from loadtest.providers.behaviour import (
    CallKey,
    Plan,
    Profile,
    decide,
    direct,
    retry_after_header,
)
from loadtest.providers.calls import Call, CallLog
from loadtest.providers.directives import (
    Action,
    DirectiveError,
    parse_directive,
    parse_words,
)
from loadtest.providers.exchange import WRONG_KEY, Answer, Ask, Provider, Refused
from loadtest.providers.text import token
from loadtest.providers.wire import send

_REASONS = {
    401: "Unauthorized",
    429: "Too many requests. Please slow down and try again later.",
    500: "The server had an error while processing your request.",
    503: "The service is temporarily overloaded.",
}
# Counts of calls per job and target; forgotten all at once past this many, to stay bounded.
_COUNTS_LIMIT = 200_000


class Desk:
    """Takes every simulated call; one per world."""

    def __init__(self, log: CallLog, profile: Profile, seed: int) -> None:
        self._log = log
        self._profile = profile
        self._seed = seed
        self._counts: Counter[tuple[str, str]] = Counter()

    def reset(self) -> None:
        """Forget how often each job called, so that `times` starts anew."""
        self._counts.clear()

    async def take(self, request: web.Request, provider: Provider) -> web.StreamResponse:
        """Answer one call and log it; a client that leaves early is logged as gone."""
        call = self._log.begin(
            provider.kind, provider.name, request.path, request.headers.get("X-Request-ID")
        )
        try:
            response = await self._answer(request, provider, call)
        except (asyncio.CancelledError, ConnectionError):
            self._log.end(call, None, client_gone=True)
            raise
        except BaseException:
            self._log.end(call, 500)
            raise
        self._log.end(call, response.status)
        return response

    async def _answer(
        self, request: web.Request, provider: Provider, call: Call
    ) -> web.StreamResponse:
        plan = Plan(0.0)
        try:
            _check_key(request, provider)
            ask = await provider.read(request)
            plan = self._plan(ask, call)
            answer = _spoiled(provider, plan) or ask.answer()
        except Refused as refusal:
            answer = provider.error(refusal.status, refusal.message)
        except DirectiveError as error:
            answer = provider.error(400, str(error))
        call.fault = plan.fault
        status = None if plan.action is Action.DROP else answer.status
        return await send(
            request, answer, plan.latency_s, plan.action, lambda: self._log.end(call, status)
        )

    def _plan(self, ask: Ask, call: Call) -> Plan:
        job = call.job_id or token(ask.text, ask.words)
        earlier = self._count(job, ask.scope)
        directive = parse_words(ask.words) or parse_directive(ask.text)
        attempt = call.attempt if call.attempt is not None else earlier + 1
        key = CallKey(self._seed, call.provider, job, attempt, ask.scope)
        faults = ask.faults and directive is None
        plan = decide(self._profile, call.kind, key, faults=faults)
        if directive is not None and directive.applies(earlier):
            plan = direct(plan, directive)
        return replace(plan, action=plan.action or ask.action)

    def _count(self, who: str, scope: str) -> int:
        if len(self._counts) >= _COUNTS_LIMIT:
            self._counts.clear()
        earlier = self._counts[who, scope]
        self._counts[who, scope] = earlier + 1
        return earlier


def _check_key(request: web.Request, provider: Provider) -> None:
    key = provider.key_of(request)
    if not key or key == WRONG_KEY:
        raise Refused(401, _REASONS[401])


def _spoiled(provider: Provider, plan: Plan) -> Answer | None:
    status = provider.auth_status if plan.action is Action.AUTH else plan.status
    if status is None:
        return None
    answer = provider.error(status, _REASONS.get(status, f"Simulated status {status}."))
    if plan.retry_after is None:
        return answer
    header = retry_after_header(plan.retry_after, datetime.now(UTC))
    return replace(answer, headers={**answer.headers, "Retry-After": header})
