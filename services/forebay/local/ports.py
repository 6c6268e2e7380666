"""Which ports a private server or process listens on.

Ports are taken below the range that the kernel hands to outgoing connections (32768 and up on
Linux): otherwise a client's socket could take a server's port while that server restarts.
"""

from __future__ import annotations

import os
import random
import socket
import weakref

from forebay.local.errors import LocalStackError
from forebay.local.screen import Say, say

HOST = "127.0.0.1"
_FIRST, _LAST = 20_000, 32_000
_TRIES = 200


class Ports:
    """Hands out free ports on 127.0.0.1, none of them twice while this object lives.

    A broker binds its ports seconds after they were chosen; until then another checkout would
    find them free. So each is also claimed by a Unix socket in the kernel's own name space, which
    leaves no file and ends with the process. Keep the object as long as the ports are used.
    """

    def __init__(self, speak: Say = say) -> None:
        self._speak = speak
        self._claims: dict[int, int] = {}
        weakref.finalize(self, _let_go, self._claims)

    def take(self, purpose: str, preferred: int | None = None) -> int:
        """A free port; when the preferred one is in use, says so and takes another.

        Raises `LocalStackError` when no free port is found.
        """
        if preferred is not None and self._claim(preferred):
            return preferred
        for _ in range(_TRIES):
            port = random.randint(_FIRST, _LAST)  # noqa: S311 - spreads checkouts, hides nothing
            if self._claim(port):
                if preferred is not None:
                    self._speak(f"Port {preferred} is in use: {purpose} on {port} instead.")
                return port
        raise LocalStackError(
            f"No free port for {purpose} between {_FIRST} and {_LAST} on {HOST}; "
            "end what occupies them (`ss -ltnp` shows it)."
        )

    def _claim(self, port: int) -> bool:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0forebay-port-{port}")
        except OSError:
            claim.close()
            return False
        if not _is_free(port):
            claim.close()
            return False
        self._claims[port] = claim.detach()
        return True


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As every server here does: a connection that lingers in TIME_WAIT is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _let_go(claims: dict[int, int]) -> None:
    for descriptor in claims.values():
        os.close(descriptor)
