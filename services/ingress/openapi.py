"""The API's description, which `make docs` writes to docs/openapi.json."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from forebay.requests import CrawlRequest, LlmRequest, SearchRequest
from ingress.access import NEEDS, Access
from ingress.batch_views import BatchView, ResultLine
from ingress.key_views import KeyList, KeyView, NewKey, NewKeyView
from ingress.problems import Problem
from ingress.routes.described import HEADERS, problems
from ingress.routes.replay import ReplayPreview, ReplayRequest
from ingress.routes.webhook_endpoints import EndpointPatch, EndpointSubmission
from ingress.schemas import (
    BatchSubmission,
    CrawlItem,
    CrawlSubmission,
    LlmItem,
    LlmSubmission,
    SearchItem,
    SearchSubmission,
)
from ingress.views import JobList, JobSummary, JobView
from ingress.webhook_views import (
    DeliveryList,
    DeliveryView,
    EndpointList,
    EndpointSecretView,
    EndpointView,
)

_SCHEMAS = "#/components/schemas/{model}"
# What the direct routes read and say. The framework sees only a part of it, and leaves every null
# out of the examples.
_SAID = (JobView, JobSummary, JobList, BatchView, ResultLine, ReplayPreview, Problem)
_SAID_OF_KEYS = (KeyView, NewKeyView, KeyList)
_SAID_OF_WEBHOOKS = (EndpointView, EndpointSecretView, EndpointList, DeliveryView, DeliveryList)
_READ = (
    *(SearchSubmission, CrawlSubmission, LlmSubmission),
    *(SearchRequest, CrawlRequest, LlmRequest),
    *(BatchSubmission, SearchItem, CrawlItem, LlmItem),
    ReplayRequest,
    NewKey,
    *(EndpointSubmission, EndpointPatch),
)
_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, `fb_...`; not asked for in open mode.",
}
_QUOTA_HEADERS = {
    name: {"description": said, "schema": {"type": "string"}}
    for name, said in (
        ("RateLimit-Policy", 'The quota of the API key: `"key";q=600;w=60`.'),
        ("RateLimit", 'What is left of it, and for how many seconds: `"key";r=597;t=41`.'),
    )
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description of the application, with the models of its direct routes."""
    if app.openapi_schema is None:
        description = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = description["components"]["schemas"]
        schemas.update(_models())
        # The framework describes its own error shape, which nobody ever sees here.
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        description["components"]["schemas"] = dict(sorted(schemas.items()))
        description["components"]["headers"] = HEADERS
        description["components"]["securitySchemes"] = {"key": _BEARER}
        for path, operations in description["paths"].items():
            for method, operation in operations.items():
                _say_no_false_type(operation)
                if NEEDS[f"{method.upper()} {path}"] is not Access.PUBLIC:
                    _ask_for_key(operation)
        app.openapi_schema = description
    return app.openapi_schema


def _say_no_false_type(operation: dict[str, Any]) -> None:
    """The framework says JSON without a schema beside each type that is said by a route itself."""
    for answer in operation["responses"].values():
        content = answer.get("content", {})
        if len(content) > 1 and content.get("application/json") == {"schema": {}}:
            del content["application/json"]


def _ask_for_key(operation: dict[str, Any]) -> None:
    """What every route that needs a key says, and answers when it is not the right one."""
    # The empty requirement: in open mode none is needed.
    operation["security"] = [{"key": []}, {}]
    answers = operation["responses"]
    for status, answer in problems(401, 403, 429).items():
        answers.setdefault(str(status), answer)
    for status, answer in answers.items():
        if status != "401":
            answer["headers"] = {**answer.get("headers", {}), **_QUOTA_HEADERS}


def _models() -> dict[str, Any]:
    _, read = models_json_schema([(model, "validation") for model in _READ], ref_template=_SCHEMAS)
    _, said = models_json_schema(
        [(model, "serialization") for model in (*_SAID, *_SAID_OF_KEYS, *_SAID_OF_WEBHOOKS)],
        ref_template=_SCHEMAS,
    )
    return {**read["$defs"], **said["$defs"]}


def render(app: FastAPI) -> str:
    """The description as the text of docs/openapi.json."""
    return json.dumps(describe(app), indent=2, ensure_ascii=False) + "\n"
