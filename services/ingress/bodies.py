"""How many bytes of bodies are held at a time, by everybody and by each tenant.

Theory of operation. A body is counted as it comes, and until its request was served, so those who
send a megabyte each and never its last byte are counted too. When there is no room for more, who
sends more is refused. A tenant gets half of the room at most: whatever it sends, the others can
send too; where no API key is asked for there is one tenant, who may have it all. Batches have room
of their own, so a few large ones do not keep out single jobs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from starlette.requests import Request

from ingress.gate import Caller
from ingress.problems import overloaded

_HELD = "forebay.held"


class Bodies:
    """The bodies of one sort that are held now.

    Args:
        largest: bytes that one may have.
        within_s: how long its caller may take to send it.
        most: bytes of all of them.
    """

    def __init__(self, largest: int, within_s: float, most: int) -> None:
        self.largest = largest
        self.within_s = within_s
        self._most = most
        self._half = max(most // 2, largest)
        self._all = 0
        self._by_tenant: Counter[str] = Counter()

    def hold(self, request: Request, size: int) -> None:
        """So many bytes came for it; raises `RequestRefused` when that is too much."""
        caller: Caller = request.state.caller
        tenant = caller.tenant
        held = request.scope.get(_HELD)
        if held is None:
            held = request.scope[_HELD] = _Held(self, tenant)
        most_of_one = self._most if caller.key is None else self._half
        if self._all + size > self._most or self._by_tenant[tenant] + size > most_of_one:
            raise overloaded()
        held.size += size
        self.change(tenant, size)

    def change(self, tenant: str, size: int) -> None:
        """So many more bytes of a tenant are held, or fewer."""
        self._all += size
        self._by_tenant[tenant] += size
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]


@dataclass(slots=True)
class _Held:
    """What one request holds."""

    of: Bodies
    tenant: str
    size: int = 0


def give_back(request: Request) -> None:
    """It was served: its body is held no longer."""
    held: _Held | None = request.scope.pop(_HELD, None)
    if held is not None:
        held.of.change(held.tenant, -held.size)
