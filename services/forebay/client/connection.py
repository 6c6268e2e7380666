"""Requests to the API: sent, tried again while that may help, and their answers understood."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from forebay import __version__
from forebay.client.errors import ClientError, UnexpectedAnswer, Unreachable, refused
from forebay.client.patience import Patience
from forebay.client.views import Problem, View
from forebay.retry import parse_retry_after

CONNECT_S = 10.0
"""A host that has not taken the connection by then rarely does."""
CONNECTIONS = 500
"""At once; a further request waits for one. As many callers can wait for their jobs."""
KEPT = 50
"""Of those with nothing to do. httpx looks at every pair of them at every request: 500 callers cost
11.8 s of a core with all of them kept, and 2.3 s so."""
KEEP_ALIVE_S = 4.0
"""Far shorter than the service's, so that we seldom write to a connection just closed."""
Answered = TypeVar("Answered", bound=View)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        read_s: how long the answer may keep silent beyond the usual, in seconds.
        once: it is not tried again, because a repeat would do it twice.
    """

    method: str
    path: str
    query: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    body: bytes | AsyncIterable[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    read_s: float = 0.0
    once: bool = False


class Connection:
    """Speaks to one service.

    Args:
        url: the address of the ingress, or of what stands before it.
        api_key: sent as `Authorization: Bearer`; it is in no repr and in no error.
        timeout_s: how long each step of a request may take.
        patience_s: how long to try again after what passes.
        transport: httpx's, for a proxy, for certificates, or for tests.

    Raises `ValueError` for an address or a key that cannot be used.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        timeout_s: float,
        patience_s: float,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self.url = _address(url)
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        limits = httpx.Limits(
            max_connections=CONNECTIONS,
            max_keepalive_connections=KEPT,
            keepalive_expiry=KEEP_ALIVE_S,
        )
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"User-Agent": f"forebay-client/{__version__}"} | _authorization(api_key),
            transport=transport or httpx.AsyncHTTPTransport(limits=limits),
            follow_redirects=False,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    def patience(self) -> Patience:
        """The patience that one call begins with."""
        return Patience(self._patience_s)

    async def ask(self, ask: Ask) -> httpx.Response:
        """The answer, read whole; raises `ClientError` for any that is not 2xx."""
        patience = self.patience()
        while True:
            try:
                async with self.opened(ask) as answer:
                    with self._reachable():
                        await answer.aread()
                    return answer
            except ClientError as trouble:
                if ask.once:
                    raise
                trouble.repeated = patience.tried > 0
                await patience.pause(trouble)

    async def view(self, ask: Ask, model: type[Answered]) -> Answered:
        """The same as a view."""
        return understood(await self.ask(ask), model)

    @contextlib.asynccontextmanager
    async def opened(self, ask: Ask) -> AsyncIterator[httpx.Response]:
        """An answer whose body is read inside, not tried again; raises as `ask` does."""
        timeout = httpx.Timeout(
            self._timeout_s,
            connect=min(CONNECT_S, self._timeout_s),
            read=self._timeout_s + ask.read_s,
            pool=None,
        )
        async with contextlib.AsyncExitStack() as open_:
            with self._reachable():
                request = self._http.build_request(
                    ask.method,
                    ask.path,
                    params=ask.query or None,
                    content=ask.body,
                    headers=ask.headers,
                    timeout=timeout,
                )
                answer = await self._http.send(request, stream=True)
                open_.push_async_callback(answer.aclose)
                if not answer.is_success:
                    await answer.aread()
            if not answer.is_success:
                raise _trouble(answer)
            yield answer

    async def pieces(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """The body as it comes; raises `Unreachable` when it breaks off."""
        with self._reachable():
            async for piece in answer.aiter_bytes():
                yield piece

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        """Turn what httpx raises into what the client raises."""
        try:
            yield
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:
            raise ClientError(f"the request cannot be sent: {type(error).__name__}") from None
        except httpx.TransportError as error:
            raise Unreachable(f"{self.url} does not answer ({type(error).__name__})") from error
        except httpx.DecodingError:
            raise UnexpectedAnswer(f"the answer of {self.url} cannot be decoded") from None


def understood(answer: httpx.Response, model: type[Answered]) -> Answered:
    """The body as a view; raises `UnexpectedAnswer`."""
    try:
        return model.model_validate(answer.json())
    except ValueError:  # pydantic's is one
        raise _unexpected(answer) from None


def path_to(*parts: str) -> str:
    """A path below /v1; nothing in a part can lead elsewhere."""
    return "/".join(["/v1", *(quote(part, safe="") for part in parts)])


def _trouble(answer: httpx.Response) -> ClientError:
    """What an answer that is not 2xx means."""
    after_s = parse_retry_after(answer.headers.get("retry-after"), datetime.now(UTC))
    try:
        problem = Problem.model_validate(answer.json())
    except (ValueError, ValidationError):
        if answer.status_code not in {429, 502, 503, 504}:
            return _unexpected(answer)
        # A proxy before the service says so in its own words.
        detail = f"{_line(answer)} was answered {answer.status_code} by what stands before the API"
        problem = Problem(
            code=f"http_{answer.status_code}", status=answer.status_code, detail=detail
        )
    trouble = refused(problem)
    if trouble.retry_after_s is None:
        trouble.retry_after_s = after_s
    return trouble


def _unexpected(answer: httpx.Response) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"{_line(answer)} was answered {answer.status_code}: this is not the API of an ingress"
    )


def _line(answer: httpx.Response) -> str:
    return f"{answer.request.method} {answer.request.url.path}"


def _address(url: str) -> str:
    """The address alone, without a path; raises `ValueError` and never repeats what it was told."""
    said = "url must be the address of the ingress alone, such as https://forebay.example"
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise ValueError(said) from None
    if parts.scheme not in {"http", "https"} or not parts.host or parts.userinfo:
        raise ValueError(said)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(said)
    return str(parts).rstrip("/")


def _authorization(api_key: str | None) -> dict[str, str]:
    if api_key is None:
        return {}
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError("api_key must be printable ASCII, to be sent in a header")
    return {"Authorization": f"Bearer {key}"}
