"""Secrets in Kubernetes, over its API, from inside a pod with a service account.

The account needs `get` on these Secrets by name and `create` on Secrets, and nothing else. Its
token is read for every call: the kubelet renews the file before the token ends.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from forebay.cluster.manifests import as_object
from forebay.cluster.secrets import Secret, Texts
from forebay.errors import ClusterError, ClusterUnavailable, ConfigurationError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_ANSWER_WITHIN_S = 10.0
_PASSING = frozenset({httpx.codes.CONFLICT, httpx.codes.TOO_MANY_REQUESTS})
"""A conflict that is not `AlreadyExists` comes of a quota that several wrote at once."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where the API is and the folder with `token`, `ca.crt` and `namespace`."""

    url: str
    folder: Path

    @classmethod
    def of_pod(cls, environ: Mapping[str, str] = os.environ, folder: Path = ACCOUNT) -> Account:
        """What Kubernetes tells a pod; raises `ConfigurationError` outside of one."""
        host = environ.get("KUBERNETES_SERVICE_HOST", "")
        port = environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not (folder / "token").is_file():
            raise ConfigurationError(
                f"--apply works in a pod with a service account: KUBERNETES_SERVICE_HOST and "
                f"{folder}/token must be there; elsewhere pipe into `kubectl create -f -`"
            )
        return cls(f"https://{f'[{host}]' if ':' in host else host}:{port}", folder)

    def namespace(self) -> str:
        """The pod's own namespace; raises `ConfigurationError` when it is not told."""
        file = self.folder / "namespace"
        try:
            name = file.read_text().strip()
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be read, say --namespace: {error}") from error
        if not name:
            raise ConfigurationError(f"{file} is empty, say --namespace")
        return name


@asynccontextmanager
async def open_cluster(account: Account, namespace: str) -> AsyncIterator[Cluster]:
    """The namespace's secrets; raises `ConfigurationError` when the CA file is of no use."""
    try:
        trust = ssl.create_default_context(cafile=str(account.folder / "ca.crt"))
    except OSError as error:
        raise ConfigurationError(f"{account.folder}/ca.crt cannot be used: {error}") from error
    # Python 3.13 refuses a CA without every extension of RFC 5280, and some clusters' lack one. The
    # chain and the host name are judged all the same.
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
    async with httpx.AsyncClient(
        base_url=account.url, verify=trust, timeout=_ANSWER_WITHIN_S, trust_env=False
    ) as client:
        yield Cluster(client, account, namespace)


class Cluster:
    """A `Shelf` in a namespace."""

    def __init__(self, client: httpx.AsyncClient, account: Account, namespace: str) -> None:
        self._client = client
        self._account = account
        self._namespace = namespace

    async def read(self, name: str) -> Texts | None:
        """See `Shelf.read`."""
        response = await self._send("GET", f"/{name}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        self._check(response, f"get Secret {name}")
        return {key: _text(value) for key, value in (response.json().get("data") or {}).items()}

    async def create(self, secret: Secret, texts: Texts) -> bool:
        """See `Shelf.create`."""
        response = await self._send("POST", body=as_object(self._namespace, secret, texts))
        if _reason(response) == "AlreadyExists":
            return False
        self._check(response, f"create Secret {secret.name}")
        return True

    async def _send(
        self, method: str, path: str = "", body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        url = f"/api/v1/namespaces/{self._namespace}/secrets{path}"
        try:
            token = (self._account.folder / "token").read_text().strip()
        except OSError as error:
            raise ClusterUnavailable(f"the account's token cannot be read: {error}") from error
        headers = {"Authorization": f"Bearer {token}"}
        try:
            return await self._client.request(method, url, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise ClusterUnavailable(
                f"the Kubernetes API at {self._account.url} does not answer: "
                f"{type(error).__name__} {error}"
            ) from error

    def _check(self, response: httpx.Response, what: str) -> None:
        """Raise unless it was done. The API's own words name the object, and no value."""
        if response.is_success:
            return
        said = _message(response)
        if response.is_server_error or response.status_code in _PASSING:
            raise ClusterUnavailable(f"the Kubernetes API cannot {what} now: {said}")
        raise ClusterError(
            f"the Kubernetes API refused to {what} in the namespace {self._namespace} "
            f"({response.status_code}): {said}"
        )


def _text(value: str) -> str:
    """A value of a Secret; what is not text is none that we made."""
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _message(response: httpx.Response) -> str:
    return _status(response).get("message") or response.text[:200]


def _reason(response: httpx.Response) -> str | None:
    return _status(response).get("reason") if response.is_error else None


def _status(response: httpx.Response) -> dict[str, str]:
    """What the API says of a refusal; a proxy in between may say something else."""
    try:
        status = response.json()
    except ValueError:
        return {}
    return status if isinstance(status, dict) else {}
