"""The Kubernetes API, as much as a pod of ours asks of it: Secrets over HTTPS, by RBAC.

Tokens are those of the service accounts. Roles and RoleBindings of the manifests decide, by the
cluster's rules: a rule with `resourceNames` does not allow a creation, whose name is not known yet.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from .certificates import server_context
from .objects import Manifest, Objects

_PATH = "/api/v1/namespaces/{namespace}/secrets"


class KubeApi:
    """Serves the objects from `start` to `stop`."""

    def __init__(self, objects: Objects, directory: Path) -> None:
        self.asked: list[tuple[str, str, int]] = []
        """Verb, name and status of every call."""
        self._objects = objects
        self._directory = directory
        self._tokens: dict[str, str] = {}
        self._authority = b""
        self._runner: web.AppRunner
        self.env: dict[str, str] = {}
        """What pods are told: KUBERNETES_SERVICE_HOST and _PORT."""

    async def start(self, address: str) -> None:
        """Listen on a free port of the address."""
        context, self._authority = server_context(self._directory, address)
        app = web.Application()
        app.router.add_post(_PATH, self._create)
        app.router.add_get(f"{_PATH}/{{name}}", self._get)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, address, 0, ssl_context=context).start()
        port = self._runner.addresses[0][1]
        self.env = {"KUBERNETES_SERVICE_HOST": address, "KUBERNETES_SERVICE_PORT": str(port)}

    async def stop(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()

    def account_files(self, account: str) -> dict[str, bytes]:
        """What is mounted for a service account."""
        token = self._tokens.setdefault(account, secrets.token_urlsafe(32))
        namespace = self._objects.namespace.encode()
        return {"token": token.encode(), "ca.crt": self._authority, "namespace": namespace}

    async def _create(self, request: web.Request) -> web.Response:
        given: Manifest = await request.json()
        name = given["metadata"]["name"]
        refused = self._refusal(request, "create", "")
        if refused is not None:
            return self._said("create", name, refused)
        if self._objects.get("Secret", name) is not None:
            return self._said("create", name, _status(409, "AlreadyExists", name))
        self._objects.put({**given, "kind": "Secret", "apiVersion": "v1"})
        found = self._objects.get("Secret", name)
        return self._said("create", name, web.json_response(found, status=201))

    async def _get(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        refused = self._refusal(request, "get", name)
        if refused is not None:
            return self._said("get", name, refused)
        found = self._objects.get("Secret", name)
        answer = _status(404, "NotFound", name) if found is None else web.json_response(found)
        return self._said("get", name, answer)

    def _said(self, verb: str, name: str, answer: web.Response) -> web.Response:
        self.asked.append((verb, name, answer.status))
        return answer

    def _refusal(self, request: web.Request, verb: str, name: str) -> web.Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        accounts = {its: account for account, its in self._tokens.items()}
        if token not in accounts:
            return _status(401, "Unauthorized", name)
        if request.match_info["namespace"] != self._objects.namespace:
            return _status(403, "Forbidden", name)
        rules = self._rules(accounts[token])
        allowed = any(allows(rule, verb, name) for rule in rules)
        return None if allowed else _status(403, "Forbidden", name)

    def _rules(self, account: str) -> Iterator[Manifest]:
        for binding in self._objects.of("RoleBinding"):
            if any(one["kind"] == "ServiceAccount" and one["name"] == account
                   for one in binding["subjects"]):  # fmt: skip
                role = self._objects.get("Role", binding["roleRef"]["name"])
                yield from role["rules"] if role else ()


def allows(rule: Manifest, verb: str, name: str) -> bool:
    """Whether a rule of a Role allows this with Secrets; a creation has no name."""
    takes = "" in rule["apiGroups"] and "secrets" in rule["resources"] and verb in rule["verbs"]
    names = rule.get("resourceNames")
    return takes and (not names or name in names)


def _status(code: int, reason: str, name: str) -> web.Response:
    body: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": f'secrets "{name}": {reason}',
        "code": code,
    }
    return web.json_response(body, status=code)
