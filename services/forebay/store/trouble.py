"""What is wrong when MongoDB does not do its work, in words for the person who runs it.

What a server says may repeat what was written, and the URL holds the password: neither is shown.
The words here are our own, chosen by the kind of the error, its code, or the number in the text
that the driver gives to a failed connect.
"""

from __future__ import annotations

import errno
import re
import socket
from typing import Any
from urllib.parse import unquote_plus

from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)
from pymongo.monitoring import (
    ServerClosedEvent,
    ServerDescriptionChangedEvent,
    ServerListener,
    ServerOpeningEvent,
)
from pymongo.server_description import ServerDescription
from pymongo.topology_description import TopologyDescription

_SETTING = "FOREBAY_MONGODB_URL"
_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18
_SLOW = (NetworkTimeout, WaitQueueTimeoutError, ExecutionTimeout, TimeoutError)
"""A call that took too long; the server may be there and answer the next one."""
_GHOST = "RSGhost"
"""The driver's name for a member whose set is not made yet."""

_NO_NAME = "the name is not known"
_NO_ROUTE = "there is no route to it"
_SILENT = "no answer in time"
_NOT_PRIMARY = "it is not the primary"
_BY_NUMBER = {
    **dict.fromkeys((socket.EAI_NONAME, socket.EAI_AGAIN, socket.EAI_FAIL), _NO_NAME),
    **dict.fromkeys((errno.EHOSTUNREACH, errno.ENETUNREACH), _NO_ROUTE),
    errno.ECONNREFUSED: "nobody listens there",
}
_NUMBER = re.compile(r"\[Errno (-?\d+)\]")


class SetNames(ServerListener):
    """Hears which replica set the servers say they belong to.

    The driver forgets a server whose set has another name than the URL says, and its name with it.
    """

    def __init__(self) -> None:
        self.last: str | None = None

    def opened(self, event: ServerOpeningEvent) -> None:
        """Nothing is known of it yet."""

    def description_changed(self, event: ServerDescriptionChangedEvent) -> None:
        """It answered, or it does not any more."""
        self.last = event.new_description.replica_set_name or self.last

    def closed(self, event: ServerClosedEvent) -> None:
        """What it said still holds."""


class Trouble:
    """Puts the errors of one client into words. `listener` is to be given to that client."""

    def __init__(self, url: str, database: str) -> None:
        self.hosts, self._user = _parts(url)
        self.listener = SetNames()
        self._database = database

    def say(self, reason: Exception, client: Any) -> str:
        """The error as a sentence: where, what is wrong, and the driver's name for it.

        Args:
            reason: what the driver raised.
            client: the client that raised it, by either driver.
        """
        nobody = isinstance(reason, ServerSelectionTimeoutError)
        why = self._nobody(client.topology_description) if nobody else self._why(reason)
        kind = _kind(reason)
        return f"MongoDB at {self.hosts}: {f'{why} ({kind})' if why else kind}"

    def _nobody(self, topology: TopologyDescription) -> str:
        """Why no server could be chosen."""
        servers = topology.server_descriptions()
        if not servers:
            return self._another_set(topology.replica_set_name)
        wanted = topology.replica_set_name
        said = {
            f"{host}:{port}": self._server(one, wanted) for (host, port), one in servers.items()
        }
        if set(said.values()) == {_NOT_PRIMARY}:
            return "there is no primary now"
        if len(set(said.values())) == 1:
            return next(iter(said.values()))
        return "; ".join(f"{server}: {why}" for server, why in said.items())

    def _server(self, server: ServerDescription, wanted: str | None) -> str:
        if isinstance(server.error, ConfigurationError):
            return self._another_set(wanted)
        if server.error is not None:
            return self._why(server.error) or _kind(server.error)
        if server.server_type_name == _GHOST:
            return "it waits for its replica set to be made (rs.initiate)"
        return _NOT_PRIMARY if server.is_server_type_known else _SILENT

    def _another_set(self, wanted: str | None) -> str:
        heard = self.listener.last
        have = f"'{heard}'" if heard else "named otherwise, or none"
        return f"its replica set is {have}, and replicaSet in {_SETTING} says '{wanted}'"

    def _why(self, reason: Exception) -> str | None:
        """One server's error; None when its kind says it all."""
        if isinstance(reason, _SLOW):
            return _SILENT
        if isinstance(reason, NotPrimaryError):
            return _NOT_PRIMARY
        if isinstance(reason, AutoReconnect):
            return _connecting(str(reason))
        if isinstance(reason, OperationFailure):
            return self._refused(reason.code)
        return None

    def _refused(self, code: int | None) -> str | None:
        if code == _AUTHENTICATION_FAILED:
            return (
                f"it does not let the user '{self._user}' in: the user, the password or authSource "
                f"in {_SETTING} is wrong"
            )
        if code != _UNAUTHORIZED:
            return None
        if self._user is None:
            return f"it wants a user and a password, and {_SETTING} has none"
        return f"the user '{self._user}' may not do this; it needs readWrite on {self._database}"


def is_away(reason: Exception) -> bool:
    """Whether the store is out of reach, and not only slow in one call."""
    if isinstance(reason, OperationFailure):
        return reason.code == _AUTHENTICATION_FAILED
    return isinstance(reason, ConnectionFailure) and not isinstance(reason, _SLOW)


def _connecting(said: str) -> str:
    number = _NUMBER.search(said)
    if number is not None and (known := _BY_NUMBER.get(int(number[1]))):
        return known
    if "SSL" in said or "certificate" in said:
        return f"the TLS handshake failed; see the tls options of {_SETTING}"
    return _SILENT if "timed out" in said else "the connection broke"


def _kind(reason: Exception) -> str:
    """The kind of failure, without the server's text: that may repeat what was written."""
    details = getattr(reason, "details", None)
    code = details.get("codeName") if isinstance(details, dict) else None
    if isinstance(reason, BulkWriteError):
        code = "write concern" if reason.details.get("writeConcernErrors") else code
    return f"{type(reason).__name__}, {code}" if code else type(reason).__name__


def _parts(url: str) -> tuple[str, str | None]:
    """Hosts and user, cut as the driver cuts them; it took the URL already."""
    before, _, options = url.partition("://")[2].partition("?")
    login, _, hosts = before.partition("/")[0].rpartition("@")
    user = unquote_plus(login.partition(":")[0])
    if "@" in options:
        # A password with a bare `?`: what looks like the hosts may be a piece of it.
        return "hosts that cannot be read", None
    return hosts, user or None
