"""The API's description, which `make docs` writes to docs/openapi.json."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from forebay.requests import CrawlRequest, LlmRequest, SearchRequest
from ingress.batch_views import BatchView, ResultLine
from ingress.problems import Problem
from ingress.routes.replay import ReplayPreview, ReplayRequest
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

_SCHEMAS = "#/components/schemas/{model}"
# What the direct routes read and say. The framework sees only a part of it, and leaves every null
# out of the examples.
_SAID = (JobView, JobSummary, JobList, BatchView, ResultLine, ReplayPreview, Problem)
_READ = (
    *(SearchSubmission, CrawlSubmission, LlmSubmission),
    *(SearchRequest, CrawlRequest, LlmRequest),
    *(BatchSubmission, SearchItem, CrawlItem, LlmItem),
    ReplayRequest,
)


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
        app.openapi_schema = description
    return app.openapi_schema


def _models() -> dict[str, Any]:
    _, read = models_json_schema([(model, "validation") for model in _READ], ref_template=_SCHEMAS)
    _, said = models_json_schema(
        [(model, "serialization") for model in _SAID], ref_template=_SCHEMAS
    )
    return {**read["$defs"], **said["$defs"]}


def render(app: FastAPI) -> str:
    """The description as the text of docs/openapi.json."""
    return json.dumps(describe(app), indent=2, ensure_ascii=False) + "\n"
