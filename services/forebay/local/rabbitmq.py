"""A private RabbitMQ node of one checkout, from the distribution's package.

Own name, ports, data, logs, plugins, configuration and home; bound to 127.0.0.1 throughout; no
`guest`. Erlang's port mapper (epmd), which all nodes of a machine would share, is not used: the
node runs without it on a fixed distribution port (`-start_epmd false -erl_epmd_port`, OTP 23.1).
What it shares with every other broker of ours is in deploy/rabbitmq; the rest is added here.

Two measured choices (2 cores, RabbitMQ 3.10.8): the node runs from a home of links to the few
plugins it needs, because at start every module is looked for along the path of all plugins
(ready after 5 s instead of 8 to 12 s); and a shutdown that hangs after everything is stored, as
3.10 does for 6 s, is cut off after 2 s.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Protocol

import aiohttp

from forebay.local.child import Child
from forebay.local.errors import LocalStackError
from forebay.local.packages import ensure_rabbitmq
from forebay.local.ports import HOST, Ports
from forebay.local.private_server import PrivateServer
from forebay.local.screen import Say, say

USER = "forebay-admin"
SHARED = Path(__file__).resolve().parents[3] / "deploy" / "rabbitmq"
"""What every broker of ours is told: `rabbitmq.conf` and `enabled_plugins`."""
_KEPT = ("prelaunch", "management", "management_agent", "web_dispatch", "prometheus")
_READY_WITHIN_S = 90.0
_SHUTDOWN_MS = 2000


class Control(Protocol):
    """RabbitMQ's own command line, for faults that no API can cause."""

    async def __call__(self, *command: str) -> str:
        """Run `rabbitmqctl` with these words: what it said; raises `LocalStackError`."""
        ...


class RabbitMQNode(PrivateServer):
    """A node under `directory`; entered means ready. May be stopped, killed, frozen and restarted.

    Data, ports and password stay the same until the directory is removed.
    """

    def __init__(self, directory: Path, ports: Ports | None = None, speak: Say = say) -> None:
        self._directory = directory.resolve()
        super().__init__("RabbitMQ", self._directory / "console.log")
        self._speak = speak
        # Kept, because the ports are ours as long as it lives.
        self._ports = taker = ports or Ports(speak)
        self._amqp_port = taker.take("RabbitMQ")
        self._management_port = taker.take("RabbitMQ's management", preferred=15672)
        self._prometheus_port = taker.take("RabbitMQ's metrics")
        self._distribution_port = taker.take("RabbitMQ's command line")
        self._password = ""
        self._home = Path()

    @property
    def user(self) -> str:
        """The administrator's name."""
        return USER

    @property
    def password(self) -> str:
        """The administrator's password, made at random for this directory."""
        return self._password

    @property
    def amqp_url(self) -> str:
        """Where the default virtual host answers, as the administrator."""
        return f"amqp://{USER}:{self._password}@{HOST}:{self._amqp_port}/"

    @property
    def management_url(self) -> str:
        """The management API and page, with user and password inside."""
        return f"http://{USER}:{self._password}@{HOST}:{self._management_port}"

    async def start(self) -> None:
        """Start and wait until AMQP and management answer; raises `LocalStackError`."""
        installed = await ensure_rabbitmq(self._speak)
        self._prepare()
        self._home = self._slim_home(installed)
        command = [str(self._home / "sbin" / "rabbitmq-server")]
        self._log.unlink(missing_ok=True)
        child = await Child.start(command, self._environment(), self._directory, self._log)
        await self._ready(child, self._until_it_answers(), _READY_WITHIN_S)

    async def control(self, *command: str) -> str:
        """Run `rabbitmqctl` on this node: what it said; raises `LocalStackError` when it fails."""
        port = self._distribution_port
        # rabbitmqctl also starts an Erlang of its own, only to have an epmd: it would outlive us.
        without_epmd = f"-dist_listen false -start_epmd false -erl_epmd_port {port}"
        process = await asyncio.create_subprocess_exec(
            str(self._home / "sbin" / "rabbitmqctl"),
            *command,
            env=self._environment()
            | {"RABBITMQ_CTL_ERL_ARGS": without_epmd, "ERL_FLAGS": "-start_epmd false"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        said = output.decode(errors="replace")
        if process.returncode != 0:
            raise LocalStackError(f"rabbitmqctl {command[0]} failed: {said}")
        return said

    async def _until_it_answers(self) -> None:
        timeout = aiohttp.ClientTimeout(total=2)
        headers = {"Authorization": aiohttp.encode_basic_auth(USER, self._password)}
        url = f"http://{HOST}:{self._management_port}/api/overview"
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            while not await self._answers(session, url):
                self._check_running()
                await asyncio.sleep(0.1)

    def _why_it_ended(self, child: Child) -> str:
        if b"eaddrinuse" in self._log.read_bytes():
            return "RabbitMQ ended at start: another program took one of its ports; try again."
        return f"{super()._why_it_ended(child)}. Its log is {self._log}."

    async def _answers(self, session: aiohttp.ClientSession, url: str) -> bool:
        try:
            # The AMQP listener opens last; management answers a little earlier.
            _, writer = await asyncio.open_connection(HOST, self._amqp_port)
            writer.close()
            await writer.wait_closed()
            async with session.get(url) as answer:
                return answer.status == 200
        except (OSError, aiohttp.ClientError, TimeoutError):
            return False

    def _prepare(self) -> None:
        for name in ("home", "data", "log"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        self._password = self._password or _kept_password(self._directory / "password")
        shutil.copyfile(SHARED / "enabled_plugins", self._directory / "enabled_plugins")
        _write_private(self._directory / "rabbitmq.conf", self._configuration())

    def _configuration(self) -> str:
        lines = (
            (SHARED / "rabbitmq.conf").read_text(encoding="utf-8"),
            f"listeners.tcp.1 = {HOST}:{self._amqp_port}",
            f"management.tcp.ip = {HOST}",
            f"management.tcp.port = {self._management_port}",
            f"prometheus.tcp.ip = {HOST}",
            f"prometheus.tcp.port = {self._prometheus_port}",
            f"default_user = {USER}",
            f"default_pass = {self._password}",
            # Of a key that is given twice the last one holds: people read this log, and a machine
            # for trying out may be nearly full.
            "log.console.formatter = plaintext",
            "disk_free_limit.absolute = 64MB",
        )
        return "\n".join(lines) + "\n"

    def _environment(self) -> dict[str, str]:
        """A fresh environment: what a system-wide node was told must not reach this one."""
        name = f"forebay-{hashlib.sha256(bytes(self._directory)).hexdigest()[:8]}@{HOST}"
        port = self._distribution_port
        address = HOST.replace(".", ",")
        return {
            "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(self._directory / "home"),
            "RABBITMQ_NODENAME": name,
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_MNESIA_BASE": str(self._directory / "data"),
            "RABBITMQ_LOG_BASE": str(self._directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._directory / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self._directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_DIST_PORT": str(port),
            # Makes the start script replace itself by the virtual machine: our child is the node.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"-name {name} -start_epmd false -erl_epmd_port {port} "
                f"-kernel inet_dist_use_interface {{{address}}} "
                f"-kernel inet_dist_listen_min {port} -kernel inet_dist_listen_max {port} "
                f"-shutdown_time {_SHUTDOWN_MS} +S 2:2 +sbwt none"
            ),
        }

    def _slim_home(self, installed: Path) -> Path:
        home = self._directory / "server"
        if " " in str(home):  # the start script does not quote its own path
            return installed
        shutil.rmtree(home, ignore_errors=True)
        (home / "plugins").mkdir(parents=True)
        for name in ("sbin", "escript"):
            (home / name).symlink_to(installed / name)
        for plugin in (installed / "plugins").iterdir():
            if _is_needed(plugin.name):
                (home / "plugins" / plugin.name).symlink_to(plugin)
        return home


def _is_needed(plugin: str) -> bool:
    """Libraries and the server itself always; of the optional `rabbitmq_*` plugins a few."""
    if not plugin.startswith("rabbitmq_"):
        return True
    return any(plugin.startswith(f"rabbitmq_{name}-") for name in _KEPT)


def _kept_password(path: Path) -> str:
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(18))
    return path.read_text()


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
