"""Deterministic prose: the same parts always give the same words, on every machine."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

_THINGS = (
    "river", "reservoir", "forebay", "turbine", "penstock", "spillway", "weir", "canal",
    "sluice", "intake", "tailrace", "generator", "gauge", "catchment", "dam", "fish ladder",
    "headrace", "surge tank", "floodgate", "settling basin", "control room", "valley",
)  # fmt: skip
_QUALITIES = (
    "quiet", "steady", "older", "northern", "modern", "narrow", "well kept", "seasonal",
    "remote", "busy", "restored", "shallow", "broad", "measured", "reliable", "upper",
)  # fmt: skip
_SENTENCES = (
    "The {q} {a} takes the water as it comes and hands it to the {b} at an even rate.",
    "Engineers measured the {a} every morning and wrote the level beside the {b}.",
    "A {q} {a} needs little care as long as the {b} stays clear of debris.",
    "When the {a} rises, operators open the {b} and let the surplus pass.",
    "Visitors who follow the path reach a {q} {a} and, behind it, the {b}.",
    "Records show that the {a} was rebuilt twice before the {b} was finished.",
    "Without the {b}, every change in the {a} would be felt downstream at once.",
    "Most of the cost lies in the {a}; the {b} pays for itself within a decade.",
    "The {q} {a} was designed for a flow that the {b} has never seen.",
    "In a dry year the {a} feeds the {b} for no more than a few hours a day.",
    "Maintenance of the {a} is planned for autumn, when the {b} stands still.",
    "Each {a} is inspected by two people, and the {b} by a third.",
)


def rng(*parts: object) -> Random:
    """Return a generator that depends on the parts only."""
    digest = blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return Random(int.from_bytes(digest, "big"))


def paragraph(chance: Random, sentences: int) -> str:
    """Return so many sentences, no two of one form; there are a dozen forms."""
    return " ".join(_fill(form, chance) for form in chance.sample(_SENTENCES, sentences))


def _fill(form: str, chance: Random) -> str:
    first, second = chance.sample(_THINGS, 2)
    return form.format(a=first, b=second, q=chance.choice(_QUALITIES))


def heading(chance: Random) -> str:
    """Return a short heading."""
    first, second = chance.sample(_THINGS, 2)
    return f"The {chance.choice(_QUALITIES)} {first} and its {second}"


def token(*parts: object, length: int = 24) -> str:
    """Return an identifier of hexadecimal digits that depends on the parts only."""
    text = "\x1f".join(map(str, parts)).encode()
    return blake2b(text, digest_size=-(-length // 2)).hexdigest()[:length]
