"""`python -m forebay.healthcheck http://127.0.0.1:9090/readyz`: a question, answered by exit code.

For containers that have no `curl`: exit 0 when the answer is 2xx, else 1 with one line that says
why; a wrong command line is exit 2. It may run every few seconds in every container, so it speaks
over a bare socket: importing an HTTP library takes longer than starting the interpreter does.
"""

from __future__ import annotations

import socket
import sys
import time

USAGE = "usage: python -m forebay.healthcheck http://HOST[:PORT]/PATH [--timeout SECONDS]"
TIMEOUT_S = 3.0
_ENOUGH = 4096
_SHOWN = 200


def check(url: str, timeout_s: float = TIMEOUT_S) -> str | None:
    """None when the answer is 2xx within the time, else why not, in one line."""
    deadline = time.monotonic() + timeout_s
    try:
        answer = _ask(*_parts(url), deadline)
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except (OSError, ValueError) as error:
        return str(error)
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0].decode(errors="replace")
    words = status.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/"):
        return f"not an HTTP answer: {status[:_SHOWN]!r}"
    if words[1].startswith("2"):
        return None
    said = " ".join(body.decode(errors="replace").split())
    return f"{' '.join(words[1:])}: {said}"[:_SHOWN]


def _parts(url: str) -> tuple[str, int, str]:
    """Host, port and path; raises `ValueError`."""
    scheme, separator, rest = url.partition("://")
    where, _, path = rest.partition("/")
    host, colon, port = where.rpartition(":")
    if not colon or where.endswith("]"):
        host, port = where, "80"
    host = host.strip("[]")
    if scheme != "http" or not separator or not host or not port.isdigit():
        raise ValueError(f"{url!r} is not of the form http://HOST[:PORT]/PATH")
    return host, int(port), f"/{path}"


def _ask(host: str, port: int, path: str, deadline: float) -> bytes:
    """The beginning of the answer; raises `OSError`, of which `TimeoutError` is one."""
    name = f"[{host}]" if ":" in host else host
    request = f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, port), _left(deadline)) as connection:
        connection.sendall(request.encode())
        answer = b""
        while len(answer) < _ENOUGH:
            connection.settimeout(_left(deadline))
            piece = connection.recv(_ENOUGH)
            if not piece:
                break
            answer += piece
    return answer


def _left(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def main(arguments: list[str]) -> int:
    """The exit code of a command line."""
    timeout = str(TIMEOUT_S)
    match arguments:
        case ["-h" | "--help"]:
            sys.stdout.write(f"{USAGE}\n")
            return 0
        case [url]:
            pass
        case [url, "--timeout", timeout] | ["--timeout", timeout, url]:
            pass
        case _:
            return _misused("one URL is needed")
    try:
        _parts(url)
        timeout_s = float(timeout)
    except ValueError as error:
        return _misused(str(error))
    why_not = check(url, timeout_s)
    if why_not is not None:
        sys.stderr.write(f"{url}: {why_not}\n")
    return 0 if why_not is None else 1


def _misused(why: str) -> int:
    sys.stderr.write(f"{USAGE}\n{why}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
