"""What the kernel says of a process: whether it is frozen, its memory, time and connections."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_ESTABLISHED = "01"


def is_frozen(pid: int | None) -> bool:
    """Whether it stands still after SIGSTOP."""
    return pid is not None and _status(pid, "State").startswith("T")


def is_there(pid: int | None) -> bool:
    """Whether a process of that id exists."""
    return pid is not None and Path(f"/proc/{pid}").exists()


def memory_mib(pid: int) -> float:
    """What it has of the machine's memory, in MiB."""
    return int(_status(pid, "VmRSS").split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """Processor time that it has used since its start."""
    # After the name, which may hold spaces: fields 14 and 15 of proc(5) are user and system time.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def connections_to(pid: int, port: int) -> int:
    """How many connections it holds to that port of this machine."""
    remote = f":{port:04X}"
    there = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, other, state, *rest = line.split()
        if state == _ESTABLISHED and other.endswith(remote):
            there.add(f"socket:[{rest[5]}]")
    return sum(link in there for link in _open_files(pid))


def _open_files(pid: int) -> list[str]:
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            links.append(str(entry.readlink()))
    return links


def _status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))
