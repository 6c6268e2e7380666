"""The secrets of a deployment as values: which there are, what is in them, how they fit together.

Theory of operation. A `Secret` is a name and texts under keys. The texts are patterns over a few
*words*: the worker's broker password is a word, and stands in the worker's AMQP URL as well as
among what `forebay topology apply` reads. All words are random but `domain`, which is told. A
pattern works both ways: with the words it makes a text, and from a text that is there already it
gives the words back. That is how a run that died half-way is completed, and how a secret that was
deleted is made again to fit the others, without a place where all words are kept beside the secrets
themselves.

Secrets are made one at a time in the order of `SECRETS`, and whoever finds that somebody was faster
reads everything again (`fill`). So of two runs at once the faster one decides each word.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from forebay.broker.topology import forebay_topology
from forebay.errors import ClusterError, ClusterUnavailable
from forebay.store.initiation import APP_USER, SET_NAME

Texts = Mapping[str, str]
"""The texts of one secret by their keys."""

BROKER, STORE = "rabbitmq", "mongodb"
"""Host names of the servers, in the cluster as in compose; each member of the store knows all."""
BROKER_ADMIN = "forebay-admin"

_OUTSIDE = f"{BROKER}{{domain}}"
"""The broker as another namespace calls it: there the plain name means nobody, or somebody else."""
_VHOST = forebay_topology().vhost
_USERS = {user.role: user.name for user in forebay_topology().users}
_MONGODB_URL = (
    f"mongodb://{APP_USER}:{{mongodb_app}}@{STORE}:27017/?replicaSet={SET_NAME}&authSource=admin"
)
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret: its name, what it is for, and a pattern under each key."""

    name: str
    purpose: str
    patterns: Texts

    def words(self) -> frozenset[str]:
        """The names of the words in it."""
        return frozenset(
            word for pattern in self.patterns.values() for word in _PLACE.findall(pattern)
        )

    def texts(self, words: Mapping[str, str]) -> dict[str, str]:
        """What is in it, with these words."""
        return {
            key: _PLACE.sub(lambda place: words[place[1]], pattern)
            for key, pattern in self.patterns.items()
        }


def _process(role: str) -> Secret:
    urls = {
        "forebay_amqp_url": f"amqp://{_USERS[role]}:{{{role}}}@{BROKER}:5672/{_VHOST}",
        "forebay_mongodb_url": _MONGODB_URL,
    }
    return Secret(f"forebay-{role}", f"How the {role} reaches broker and store.", urls)


SECRETS = (
    Secret(
        "forebay-prepare",
        "For `forebay topology apply` and `forebay store apply`.",
        {
            "forebay_rabbitmq_management_url": f"http://{BROKER_ADMIN}:{{broker_admin}}@{BROKER}:15672",
            **{f"forebay_topology_{role}_password": f"{{{role}}}" for role in sorted(_USERS)},
            "forebay_mongodb_url": _MONGODB_URL,
        },
    ),
    Secret(
        "mongodb",
        "The store's own: its members' key, and what `forebay store initiate` reads.",
        {
            "keyfile": "{mongodb_key}",
            "forebay_mongodb_keyfile_secret": "{mongodb_key}",
            "forebay_mongodb_app_password": "{mongodb_app}",
            "forebay_mongodb_admin_password": "{mongodb_admin}",
        },
    ),
    Secret(
        "rabbitmq",
        "The broker's own: its administrator, and what its nodes know each other by.",
        {
            # These three are what RabbitMQ's Cluster Operator reads as well.
            "default_user.conf": (
                f"default_user = {BROKER_ADMIN}\ndefault_pass = {{broker_admin}}\n"
            ),
            "username": BROKER_ADMIN,
            "password": "{broker_admin}",
            "erlang-cookie": "{erlang_cookie}",
        },
    ),
    *(_process(role) for role in ("ingress", "worker", "reconciler")),
    Secret(
        "forebay-monitor",
        "The broker's figures, for KEDA and people.",
        {"host": f"http://{_USERS['monitor']}:{{monitor}}@{_OUTSIDE}:15672/{_VHOST}"},
    ),
)
"""Every secret of a deployment, in the order in which they are made."""


def _password() -> str:
    """192 bits that need no quoting in a URL, a configuration file or a shell."""
    return secrets.token_hex(24)


def _key() -> str:
    """A key file's text: up to 1024 characters of base64, and on one line."""
    return base64.b64encode(secrets.token_bytes(756)).decode()


_MAKERS: Mapping[str, Callable[[], str]] = {"mongodb_key": _key}
_SHAPES = {"mongodb_key": r"[A-Za-z0-9+/=\s]+", "domain": r"(?:\.[a-z0-9.-]+)?"}
_SHAPE = r"[^\s/@:?#]+"


def fresh_words(namespace: str = "") -> dict[str, str]:
    """A new word for every place.

    `namespace` is where the servers are, empty for compose, which has no namespaces.
    """
    names = sorted(frozenset[str]().union(*(secret.words() for secret in SECRETS)))
    told = {"domain": f".{namespace}.svc" if namespace else ""}
    return {name: _MAKERS.get(name, _password)() for name in names} | told


def found_words(secret: Secret, texts: Texts) -> dict[str, set[str]]:
    """The words in a secret that is there; none from a text that is of another form."""
    found: dict[str, set[str]] = {}
    for key, pattern in secret.patterns.items():
        match = _reading(pattern).fullmatch(texts.get(key, "").strip())
        for word, value in (match.groupdict() if match else {}).items():
            found.setdefault(word, set()).add(value.strip())
    return found


def _reading(pattern: str) -> re.Pattern[str]:
    pieces = _PLACE.split(pattern.strip())
    # Every second piece is the name of a word; between them is plain text.
    return re.compile(
        "".join(
            f"(?P<{piece}>{_SHAPES.get(piece, _SHAPE)})" if n % 2 else re.escape(piece)
            for n, piece in enumerate(pieces)
        )
    )


class Shelf(Protocol):
    """Where secrets are kept."""

    async def read(self, name: str) -> Texts | None:
        """The texts of the secret of this name; None when there is none."""

    async def create(self, secret: Secret, texts: Texts) -> bool:
        """Make it, whole or not at all; False when one of this name is there."""


class Made(StrEnum):
    """What became of one secret."""

    CREATED = "created"
    UNCHANGED = "unchanged"


async def fill(shelf: Shelf, namespace: str = "") -> dict[str, Made]:
    """Make the secrets that are missing, to fit those that are there; never change one.

    `namespace` is as in `fresh_words`.
    Raises `ClusterError` when those that are there do not tell what a missing one needs, and then
    makes nothing more.
    """
    made: set[str] = set()
    # Each further round is one that somebody else made in between.
    for _ in range(2 * len(SECRETS)):
        there = {secret.name: await shelf.read(secret.name) for secret in SECRETS}
        missing = [secret for secret in SECRETS if there[secret.name] is None]
        kept = {name: texts for name, texts in there.items() if texts is not None}
        words = _words_for(missing, kept, namespace)
        for secret in missing:
            if not await shelf.create(secret, secret.texts(words)):
                break  # somebody was faster, with words of his own: read again
            made.add(secret.name)
        else:
            return {
                secret.name: Made.CREATED if secret.name in made else Made.UNCHANGED
                for secret in SECRETS
            }
    raise ClusterUnavailable("the secrets changed all the time while they were made")


def _words_for(missing: list[Secret], there: Mapping[str, Texts], namespace: str) -> dict[str, str]:
    words = fresh_words(namespace)
    kept = [secret for secret in SECRETS if secret.name in there]
    for word in sorted(frozenset[str]().union(*(secret.words() for secret in missing))):
        holders = [secret for secret in kept if word in secret.words()]
        values = {
            value
            for secret in holders
            for value in found_words(secret, there[secret.name]).get(word, ())
        }
        if len(values) > 1 or (holders and not values):
            raise ClusterError(_misfit(word, missing, holders, differ=bool(values)))
        if values:
            words[word] = values.pop()
    return words


def _misfit(word: str, missing: list[Secret], holders: list[Secret], *, differ: bool) -> str:
    needing = next(secret.name for secret in missing if word in secret.words())
    names = ", ".join(secret.name for secret in holders)
    why = "do not agree on" if differ else "do not have, in the form that is made here,"
    return (
        f"the secret {needing} is missing and cannot be made to fit: the secrets {names} {why} the "
        f"password '{word}'; make {needing} by hand, or delete those that are wrong"
    )
