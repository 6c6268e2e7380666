"""The Secrets that `forebay k8s init-secrets` makes, as far as manifests are concerned."""

from __future__ import annotations

from functools import cache

from forebay.cluster.secrets import SECRETS, fresh_words

NAMESPACE = "forebay"
"""Where everything is rendered to."""


@cache
def made_secrets() -> dict[str, dict[str, str]]:
    """Every Secret with its keys and fresh values."""
    words = fresh_words(NAMESPACE)
    return {secret.name: secret.texts(words) for secret in SECRETS}


def keys_of_made_secrets() -> dict[str, set[str]]:
    """The keys of each of them."""
    return {name: set(values) for name, values in made_secrets().items()}
