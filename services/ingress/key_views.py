"""What a caller says of an API key, and what is shown of one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from forebay.keys import MOST_OPEN_JOBS, MOST_REQUESTS, MOST_WINDOW_S, ApiKey, Quota, Role
from forebay.requests import WHOLE, RequestModel, Text
from ingress.schemas import Moment

_SHOWN: JsonDict = {
    "id": "key_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5",
    "object": "api_key",
    "name": "checkout",
    "role": "user",
    "quota": {"requests": 600, "window_s": 60, "open_jobs": 1000},
    "created_at": "2026-11-22T10:00:00Z",
    "expires_at": None,
    "revoked_at": None,
}
_SECRET = "fb_0199aa4c2f0e7c10b3a7d9c1f2e3d4c5_<48 hexadecimal digits>"  # noqa: S105 - an example


class QuotaChoice(RequestModel):
    """How much the key may ask for; what is left out is not limited."""

    requests: Annotated[int, Field(ge=1, le=MOST_REQUESTS), WHOLE] | None = None
    """Requests in a window, through all replicas together."""
    window_s: Annotated[int, Field(ge=1, le=MOST_WINDOW_S), WHOLE] = 60
    """The length of the window, in seconds. Windows are fixed: they do not slide."""
    open_jobs: Annotated[int, Field(ge=1, le=MOST_OPEN_JOBS), WHOLE] | None = None
    """Jobs of the key that are not done; each job of a batch counts."""

    @property
    def value(self) -> Quota:
        """As the store keeps it."""
        return Quota(self.requests, self.window_s, self.open_jobs)


class NewKey(RequestModel):
    """The body of `POST /v1/keys`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "checkout",
                    "role": "user",
                    "quota": {"requests": 600, "window_s": 60, "open_jobs": 1000},
                }
            ]
        }
    )

    name: Annotated[Text, StringConstraints(max_length=100)]
    """For people: who or what uses it."""
    role: Role = Role.USER
    """`admin`: everything, and keys; `user`: jobs and batches; `read-only`: look at them."""
    quota: QuotaChoice = QuotaChoice()
    expires_at: Moment | None = None
    """It works no longer from then on (RFC 3339); for ever if left out."""


class KeyView(BaseModel):
    """An API key, without its secret."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [_SHOWN]},
    )

    id: str
    """Not secret; the middle part of the key."""
    object: Literal["api_key"] = "api_key"
    name: str
    role: Role
    quota: QuotaChoice
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    """It works no longer; the record is kept for 90 days."""


class NewKeyView(KeyView):
    """A new API key, with its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_SHOWN, "secret": _SECRET}]})

    secret: str = Field(repr=False)
    """The whole key, for the header `Authorization: Bearer`. Shown here and never again."""


class KeyList(BaseModel):
    """The tenant's API keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_extra={"examples": [{"object": "list", "data": [_SHOWN]}]},
    )

    object: Literal["list"] = "list"
    data: tuple[KeyView, ...]
    """The newest first, at most 1000; revoked and expired ones are kept for 90 days."""


def shown(key: ApiKey) -> dict[str, Any]:
    """The fields of a `KeyView`."""
    quota = key.quota
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "quota": QuotaChoice(
            requests=quota.requests, window_s=quota.window_s, open_jobs=quota.open_jobs
        ),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
