"""Pieces of the API description that several routes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ingress.problems import MEDIA_TYPE, Problem
from ingress.query import QueryModel

SAYS = {
    400: "The body is not readable JSON.",
    401: "Where API keys are asked for: none was sent, or none that is live.",
    403: (
        "The role of the API key may not do this. Where none is asked for: the request came from a "
        "web page of another site, or to a host name that is not one of loopback."
    ),
    404: "Not there.",
    408: "The body did not come in time; nothing was accepted.",
    409: "The job is not done yet; only a terminal one can be run again.",
    410: "The result is kept no longer.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    422: "The request is not valid; `errors` names each place.",
    429: (
        "`rate_limited`: the API key has used its requests of the present window. "
        "`quota_exceeded`: it has as many jobs that are not done as it may have."
    ),
    503: (
        "`overloaded`: too many requests at once; nothing was accepted. `store_unavailable`: the "
        "store does not answer; a job that was being accepted may be stored, and a repeat under "
        "the same Idempotency-Key is that job."
    ),
}
NDJSON = "application/x-ndjson"
RETRY_AFTER = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
REPLAYED = {
    "description": "`true` when the key came before with the same body.",
    "schema": {"type": "string", "enum": ["true"]},
}
ETAG = {"description": "Of this very answer, quoted.", "schema": {"type": "string"}}
REQUEST_ID = {"$ref": "#/components/headers/X-Request-ID"}
HEADERS = {
    "X-Request-ID": {
        "description": "The `request_id` of the problem, to find the request in the logs.",
        "schema": {"type": "string", "pattern": "^req_[0-9a-f]{32}$"},
    }
}
"""What answers refer to, because so many have it."""
OF_JOB = "The job failed, expired or was canceled: its problem, with its status."


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problem answers of a route, for its `responses`."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-ID": REQUEST_ID}
    if status in {429, 503}:
        headers["Retry-After"] = RETRY_AFTER
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
    content = {MEDIA_TYPE: PROBLEM}
    return {"description": SAYS[status], "content": content, "headers": headers}


PROBLEM = {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}


JOB_ID = [
    {
        "name": "job_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^job_[0-9a-f]{32}$"},
    }
]


BATCH_ID = [
    {
        "name": "batch_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^batch_[0-9a-f]{32}$"},
    }
]


KEY_ID = [
    {
        "name": "key_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^key_[0-9a-f]{32}$"},
    }
]


def parameters(query: type[QueryModel]) -> list[dict[str, Any]]:
    """The query parameters of a direct route, for its `openapi_extra`."""
    schema = query.model_json_schema(ref_template="#/components/schemas/{model}")
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": field.pop("description", ""),
            "schema": _inlined(field, schema.get("$defs", {})),
        }
        for name, field in schema["properties"].items()
    ]


def _inlined(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema without references: what is asked for here need not be a component."""
    field.pop("title", None)
    items = field.get("items", {})
    if "$ref" in items:
        named = definitions[items["$ref"].rpartition("/")[2]]
        field["items"] = {"type": "string", "enum": named["enum"]}
    return field


def json_body(*models: str, lines: Sequence[str] = ()) -> dict[str, Any]:
    """The request body of a direct route, for its `openapi_extra`; as lines of JSON, too."""
    content = {"application/json": {"schema": _one_of(models)}}
    if lines:
        content[NDJSON] = {"schema": _one_of(lines)}
    return {"required": True, "content": content}


def _one_of(models: Sequence[str]) -> dict[str, Any]:
    refs = [{"$ref": f"#/components/schemas/{name}"} for name in models]
    return {"oneOf": refs} if len(refs) > 1 else refs[0]
