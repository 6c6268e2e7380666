"""What the machine's distribution gives: RabbitMQ, and two libraries that the mongod binary links.

Installed with apt only when missing, as root or by sudo. Debian's package starts a system-wide
RabbitMQ where nothing forbids it; we use a private node, so a service that our installation
started is stopped again. One that was there before is not touched.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path

from forebay.local.errors import LocalStackError
from forebay.local.screen import Say

_LIBRARIES = Path("/usr/lib/rabbitmq/lib")
_QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
# Another apt run (unattended upgrades on a fresh machine) may take this long.
_LOCK_WITHIN_S = 120
CHOICES = (
    "Three ways to get them:\n"
    "  1. set FOREBAY_AMQP_URL and FOREBAY_MONGODB_URL to servers of yours\n"
    "     (and FOREBAY_RABBITMQ_MANAGEMENT_URL, with user and password inside);\n"
    "  2. start Docker: a daemon that answers is used;\n"
    "  3. on Debian or Ubuntu, as root or with sudo: apt-get install rabbitmq-server\n"
    "     (MongoDB's server comes with the Python packages)."
)


def rabbitmq_home() -> Path | None:
    """The newest installed RabbitMQ, or None."""
    homes = [path for path in _LIBRARIES.glob("rabbitmq_server-*") if (path / "sbin").is_dir()]
    return max(homes, key=_version, default=None)


async def ensure_rabbitmq(speak: Say) -> Path:
    """The installed RabbitMQ, installed now if missing; raises `LocalStackError`."""
    found = rabbitmq_home()
    if found is not None:
        return found
    epmd_before = _pids("epmd")
    await _apt_install("rabbitmq-server", speak)
    await _stop_what_the_package_started(epmd_before, speak)
    found = rabbitmq_home()
    if found is None:
        raise LocalStackError(f"rabbitmq-server was installed, but nothing is in {_LIBRARIES}.")
    return found


async def ensure_machine_servers(mongod: Path, speak: Say) -> None:
    """All of it, one after the other: apt runs alone."""
    await ensure_rabbitmq(speak)
    await ensure_mongod_runs(mongod, speak)


async def ensure_mongod_runs(mongod: Path, speak: Say) -> None:
    """See that the binary finds its shared libraries; installs libcurl4 and libssl3 if not."""
    code, output = await _run([str(mongod), "--version"])
    if code == 0:
        return
    if "shared libraries" in output:
        await _apt_install("libcurl4 libssl3", speak)
        code, output = await _run([str(mongod), "--version"])
    if code != 0:
        raise LocalStackError(f"mongod does not run here: {_last(output)}\n{CHOICES}")


async def _apt_install(names: str, speak: Say) -> None:
    prefix = await _as_root(names)
    apt = [*prefix, "apt-get", "-q", "-o", f"DPkg::Lock::Timeout={_LOCK_WITHIN_S}"]
    install = [*apt, "install", "-y", "--no-install-recommends", *names.split()]
    speak(f"Installing {names} with apt-get (about half a minute) ...")
    code, output = await _run(install)
    if code != 0:
        speak("The package lists are old or missing; updating them first ...")
        await _run([*apt, "update"])
        code, output = await _run(install)
    if code != 0:
        raise LocalStackError(f"apt-get install {names} failed: {_last(output)}\n{CHOICES}")


async def _as_root(names: str) -> list[str]:
    """How to become root here; environment variables go through `env`, since sudo drops them."""
    environment = ["env", *(f"{name}={value}" for name, value in _QUIET.items())]
    if shutil.which("apt-get") is None:
        raise LocalStackError(f"{names} is missing, and apt-get is not here.\n{CHOICES}")
    if os.geteuid() == 0:
        return environment
    if shutil.which("sudo") is not None:
        asks = sys.stdin.isatty()
        if (await _run(["sudo", "-n", "true"]))[0] == 0 or asks:
            return ["sudo", *environment]
    raise LocalStackError(f"{names} is missing, and this user is not root.\n{CHOICES}")


async def _stop_what_the_package_started(epmd_before: set[int], speak: Say) -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    if _has_systemd():
        started = (await _run(["systemctl", "is-active", "-q", "rabbitmq-server"]))[0] == 0
        stop = ["systemctl", "stop", "rabbitmq-server", "epmd.socket", "epmd.service"]
    else:
        started = bool(_pids("beam.smp", owner="rabbitmq"))
        stop = ["service", "rabbitmq-server", "stop"]
    if started:
        speak("The package started a RabbitMQ service; it is not needed here and is stopped.")
        await _run([*sudo, *stop])
    for pid in _pids("epmd") - epmd_before:
        await _run([*sudo, "kill", str(pid)])


def _has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _pids(name: str, owner: str | None = None) -> set[int]:
    """The ids of running processes of that name."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            running = (entry / "comm").read_text().strip()
            if running == name and (owner is None or entry.owner() == owner):
                found.add(int(entry.name))
        except (OSError, KeyError):
            continue
    return found


async def _run(command: list[str]) -> tuple[int, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=None,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return 127, str(error)
    output, _ = await process.communicate()
    return await process.wait(), output.decode(errors="replace")


def _last(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _version(home: Path) -> tuple[int, ...]:
    numbers = home.name.partition("-")[2].split(".")
    return tuple(int(number) for number in numbers if number.isdigit())
