"""A small server that speaks as much of the Kubernetes API as making Secrets needs, over HTTPS."""

from __future__ import annotations

import asyncio
import base64
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from forebay.cluster.kubernetes import Account


class Api:
    """The Secrets of one namespace, and the knobs: who may come in, and what goes wrong."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.secrets: dict[str, dict[str, Any]] = {}
        self.tokens = {"token-1"}
        self.failing: list[web.Response] = []
        """Answers to the next requests, whatever they ask."""
        self.asked: list[str] = []
        self.account: Account | None = None

    def keep(self, name: str, texts: dict[str, str]) -> None:
        data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        self.secrets[name] = {"metadata": {"name": name}, "data": data}

    def texts(self, name: str) -> dict[str, str]:
        data = self.secrets[name]["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def app(self) -> web.Application:
        app = web.Application()
        path = f"/api/v1/namespaces/{self.namespace}/secrets"
        app.router.add_get(f"{path}/{{name}}", self._get)
        app.router.add_post(path, self._post)
        return app

    def _refusal(self, request: web.Request) -> web.Response | None:
        self.asked.append(f"{request.method} {request.match_info.get('name', '')}".strip())
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return refused(401, "Unauthorized", "Unauthorized")
        return self.failing.pop(0) if self.failing else None

    async def _get(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if name not in self.secrets:
            return refused(404, "NotFound", f'secrets "{name}" not found')
        return web.json_response(self.secrets[name])

    async def _post(self, request: web.Request) -> web.Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        sent = await request.json()
        name = sent["metadata"]["name"]
        if name in self.secrets:
            return refused(409, "AlreadyExists", f'secrets "{name}" already exists')
        self.keep(name, sent.pop("stringData"))
        self.secrets[name] |= sent
        return web.json_response(self.secrets[name], status=201)


def refused(status: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "reason": reason, "message": message}
    return web.json_response(body, status=status)


@asynccontextmanager
async def serving(folder: Path, namespace: str = "forebay") -> AsyncIterator[Api]:
    """The API on the loopback, with a CA of its own, and the service account's files."""
    api = Api(namespace)
    account = folder / "account"
    account.mkdir()
    (account / "token").write_text("token-1\n")
    await _certify(folder)
    shutil.copy(folder / "ca.crt", account / "ca.crt")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "server.crt", folder / "server.key")
    runner = web.AppRunner(api.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    api.account = Account(f"https://127.0.0.1:{runner.addresses[0][1]}", account)
    try:
        yield api
    finally:
        await runner.cleanup()


async def _certify(folder: Path) -> None:
    """A CA and a server's certificate signed by it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl, to make certificates")
    ca, server = folder / "ca", folder / "server"
    extensions = folder / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1\n")
    new = ("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    await _run(*new, "-x509", "-subj", "/CN=test CA", "-keyout", f"{ca}.key", "-out", f"{ca}.crt")
    await _run(*new, "-subj", "/CN=api", "-keyout", f"{server}.key", "-out", f"{server}.csr")
    await _run(
        *("openssl", "x509", "-req", "-in", f"{server}.csr", "-out", f"{server}.crt"),
        *("-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial"),
        *("-extfile", str(extensions)),
    )


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
