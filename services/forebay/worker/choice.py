"""Which provider a job is sent to: the first of the caller's order that is known and set up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from forebay.errors import ErrorCode, JobError
from forebay.jobs import ProviderPreference
from forebay.outcomes import Failed


class Configurable(Protocol):
    """A provider that may lack a setting; the process starts all the same."""

    @property
    def missing_setting(self) -> str | None:
        """The setting without which it cannot be called, or None when it is complete."""


P = TypeVar("P", bound=Configurable)


def choose(providers: Mapping[str, P], preference: ProviderPreference, default: str) -> P | Failed:
    """The provider to call, or why there is none.

    `allow_fallbacks = False` means the first of the order or none. A name nobody knows is the
    caller's to mend (`provider_rejected`), a missing setting the operator's (`provider_auth`).
    """
    order = preference.order or (default,)
    if not preference.allow_fallbacks:
        order = order[:1]
    known = [providers[name] for name in order if name in providers]
    if not known:
        names = ", ".join(sorted(providers))
        detail = f"No provider asked for is known here; `provider.order` may name {names}."
        return Failed(JobError(ErrorCode.PROVIDER_REJECTED, detail))
    for provider in known:
        if provider.missing_setting is None:
            return provider
    detail = f"{known[0].missing_setting} is not set; an operator must set it."
    return Failed(JobError(ErrorCode.PROVIDER_AUTH, detail))
