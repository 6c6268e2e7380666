"""What schemathesis must know of the API that JSON Schema cannot say.

Only values that are valid by themselves are changed, so that what is wrong stays wrong:
- a valid Idempotency-Key is made a new one, or two different bodies would come under the same;
- times are put into an order in which a job can run, and a key works;
- the names of a batch's items are made unique;
- `on_invalid` is left out, so that every batch that is partly wrong is refused.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import strategies

from ingress import cursor, idempotency
from tests.schema.memory_ingress import TENANT

_NUMBERS = itertools.count()
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}(\.[0-9]{1,9})?([Zz]|[+-][0-9:]{5})")
_ORDER = {
    "not_before": "2020-01-01T00:00:00Z",
    "start_by": "2098-01-01T00:00:00Z",
    "deadline": "2099-01-01T00:00:00Z",
    "expires_at": "2099-01-01T00:00:00Z",
    "created_after": "2020-01-01T00:00:00Z",
    "created_before": "2099-01-01T00:00:00Z",
}

ON_INVALID = ("reject", "skip")
"""`reject` is what happens without it; with `skip` a batch that is partly wrong is accepted."""
NO_LINE = {"custom_id": None, "id": "", "state": "queued", "done": False} | dict.fromkeys(
    ("error", "usage", "result")
)
NO_LINE["links"] = dict.fromkeys(("self", "result", "events", "cancel"), "")

schemathesis.openapi.format(
    "uri",
    strategies.sampled_from(
        [
            "https://example.com/",
            "http://example.org:8080/a/b?c=d#e",
            "https://www.example.net/%C3%A4?q=%00",
        ]
    ),
)
schemathesis.openapi.format(
    "job-cursor",
    strategies.integers(0, 2**128 - 1).map(
        lambda number: cursor.encode(TENANT, f"job_{number:032x}")
    ),
)
schemathesis.openapi.format(
    "delivery-cursor",
    strategies.integers(0, 2**128 - 1).map(
        lambda number: cursor.encode(TENANT, f"msg_{number:032x}")
    ),
)


@schemathesis.serializer("application/x-ndjson")
def as_lines(_: schemathesis.SerializationContext, value: Any) -> Any:
    """What is described is one line."""
    return json.dumps(value).encode() + b"\n"


@schemathesis.deserializer("application/x-ndjson")
def of_lines(_: schemathesis.DeserializationContext, response: schemathesis.Response) -> Any:
    """What is described is one line: the first. Of no lines nothing can be wrong."""
    first = response.content.split(b"\n", 1)[0]
    return json.loads(first) if first else NO_LINE


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case, _kwargs: Any) -> None:
    """Change what is valid by itself."""
    headers = case.headers or {}
    key = headers.get(idempotency.HEADER)
    if isinstance(key, str) and re.fullmatch(idempotency.PATTERN, key):
        headers[idempotency.HEADER] = f"key-{next(_NUMBERS)}"
    for part in (case.query, *_objects(case.body)):
        if isinstance(part, dict):
            _put_in_order(part)
            if part.get("on_invalid") in ON_INVALID:
                del part["on_invalid"]


def _objects(body: Any) -> Iterator[Any]:
    yield body
    if isinstance(body, dict) and isinstance(body.get("jobs"), list):
        yield from body["jobs"]


def _put_in_order(said: dict[str, Any]) -> None:
    for name, moment in _ORDER.items():
        if isinstance(said.get(name), str) and _MOMENT.fullmatch(said[name]):
            said[name] = moment
    name = said.get("custom_id")
    if isinstance(name, str) and 1 <= len(name) <= 64:
        said["custom_id"] = f"{name[:40]}-{next(_NUMBERS)}"
