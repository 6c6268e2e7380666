"""Secrets as text for `kubectl`."""

from __future__ import annotations

import json
from typing import Any

from forebay.cluster.secrets import SECRETS, Secret, Texts, fresh_words

LABELS = {"app.kubernetes.io/name": "forebay", "app.kubernetes.io/part-of": "forebay"}
_HEAD = """\
# New random values at every call. `kubectl create -f -` makes the Secrets and refuses those that
# are there; `kubectl apply -f -` would replace them, and the servers keep the passwords they know.
"""


def as_object(namespace: str, secret: Secret, texts: Texts) -> dict[str, Any]:
    """The Secret as the Kubernetes API takes it."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret.name,
            "namespace": namespace,
            "labels": LABELS,
            "annotations": {"forebay/purpose": secret.purpose},
        },
        "type": "Opaque",
        "stringData": dict(texts),
    }


def fresh_manifests(namespace: str) -> str:
    """Every secret with new words, as one YAML text."""
    words = fresh_words(namespace)
    documents = [_as_yaml(as_object(namespace, secret, secret.texts(words))) for secret in SECRETS]
    return _HEAD + "".join(f"---\n{document}" for document in documents)


def _as_yaml(value: dict[str, Any], indent: str = "") -> str:
    """Mappings of texts as YAML; a JSON text is a YAML text too, so quoting is JSON's."""
    lines = ""
    for key, inner in value.items():
        if isinstance(inner, dict):
            lines += f"{indent}{key}:\n{_as_yaml(inner, indent + '  ')}"
        else:
            lines += f"{indent}{key}: {json.dumps(inner)}\n"
    return lines
