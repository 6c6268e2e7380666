from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ingress import openapi
from ingress.app import describe_app
from ingress.batch_views import BatchView, ResultLine
from ingress.schemas import BATCH_ITEM, BATCH_SUBMISSION, JOB_SUBMISSION
from ingress.views import JobList, JobView
from tests.ingress_by_hand import World

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_the_committed_description_is_the_present_one() -> None:
    said = "run `make docs`"
    assert COMMITTED.read_text(encoding="utf-8") == openapi.render(describe_app()), said


def test_every_reference_of_the_description_leads_somewhere() -> None:
    description = openapi.describe(describe_app())
    for part in ("schemas", "headers"):
        names = set(re.findall(rf"#/components/{part}/([\w-]+)", str(description)))
        assert names
        assert names <= description["components"][part].keys()


def test_every_path_of_this_version_is_described_with_its_problems() -> None:
    paths = openapi.describe(describe_app())["paths"]
    assert {(method, path) for path, operations in paths.items() for method in operations} == {
        ("post", "/v1/jobs"),
        ("get", "/v1/jobs"),
        ("post", "/v1/search"),
        ("post", "/v1/crawl"),
        ("post", "/v1/llm"),
        ("get", "/v1/jobs/{job_id}"),
        ("get", "/v1/jobs/{job_id}/result"),
        ("post", "/v1/jobs/{job_id}/cancel"),
        ("get", "/v1/jobs/{job_id}/events"),
        ("post", "/v1/jobs/replay"),
        ("post", "/v1/jobs/{job_id}/retry"),
        ("delete", "/v1/jobs/{job_id}"),
        ("post", "/v1/batches"),
        ("get", "/v1/batches/{batch_id}"),
        ("get", "/v1/batches/{batch_id}/results"),
        ("post", "/v1/batches/{batch_id}/cancel"),
        ("post", "/v1/batches/{batch_id}/retry"),
        ("post", "/v1/keys"),
        ("get", "/v1/keys"),
        ("delete", "/v1/keys/{key_id}"),
        ("post", "/v1/webhook-endpoints"),
        ("get", "/v1/webhook-endpoints"),
        ("get", "/v1/webhook-endpoints/{endpoint_id}"),
        ("patch", "/v1/webhook-endpoints/{endpoint_id}"),
        ("delete", "/v1/webhook-endpoints/{endpoint_id}"),
        ("get", "/v1/webhook-endpoints/{endpoint_id}/secret"),
        ("post", "/v1/webhook-endpoints/{endpoint_id}/rotate-secret"),
        ("post", "/v1/webhook-endpoints/{endpoint_id}/test"),
        ("get", "/v1/webhook-deliveries"),
        ("get", "/v1/webhook-deliveries/{delivery_id}"),
        ("post", "/v1/webhook-deliveries/{delivery_id}/redeliver"),
        ("get", "/livez"),
        ("get", "/readyz"),
        ("get", "/metrics"),
    }
    submit: dict[str, Any] = paths["/v1/jobs"]["post"]
    of_keys = {"401", "403", "429"}
    of_bodies = {"400", "408", "413", "415", "422", "503"}
    assert submit["responses"].keys() == {"200", "202"} | of_keys | of_bodies
    assert len(submit["requestBody"]["content"]["application/json"]["schema"]["oneOf"]) == 3
    listing = {parameter["name"] for parameter in paths["/v1/jobs"]["get"]["parameters"]}
    filters = {"state", "kind", "tag", "provider", "error_code", "dead_lettered"}
    times = {"created_after", "created_before"}
    assert listing == filters | times | {"batch_id", "include", "limit", "order", "cursor"}


def test_the_examples_are_what_they_are_examples_of() -> None:
    schemas = openapi.describe(describe_app())["components"]["schemas"]
    for name in ("SearchSubmission", "CrawlSubmission", "LlmSubmission"):
        for example in schemas[name]["examples"]:
            JOB_SUBMISSION.validate_python(example)
    for example in schemas["BatchSubmission"]["examples"]:
        assert BATCH_SUBMISSION.validate_json(json.dumps(example), strict=True)
        for item in example["jobs"]:
            BATCH_ITEM.validate_python(item)
    for model in (JobView, JobList, BatchView, ResultLine):
        for example in schemas[model.__name__]["examples"]:
            model.model_validate(example)


def test_an_answer_has_the_type_that_is_sent_and_no_other() -> None:
    paths = openapi.describe(describe_app())["paths"]
    types = {
        path: list(paths[path]["get"]["responses"]["200"]["content"])
        for path in paths
        if "get" in paths[path]
    }
    others = {path: said for path, said in types.items() if said != ["application/json"]}
    assert others == {
        "/v1/jobs/{job_id}/events": ["text/event-stream"],
        "/v1/batches/{batch_id}/results": ["application/x-ndjson"],
        "/livez": ["text/plain"],
        "/readyz": ["text/plain"],
        "/metrics": ["text/plain"],
    }


@pytest.mark.parametrize(
    ("operation", "status", "names"),
    [
        ("POST /v1/jobs", "202", {"Idempotent-Replayed", "Preference-Applied", "Retry-After"}),
        ("POST /v1/llm", "200", {"Idempotent-Replayed", "Preference-Applied", "Location"}),
        ("POST /v1/batches", "202", {"Idempotent-Replayed", "Location", "Retry-After"}),
        ("POST /v1/jobs/replay", "202", {"Idempotent-Replayed", "Location", "Retry-After"}),
        ("GET /v1/jobs/{job_id}", "200", {"ETag", "Retry-After"}),
        ("GET /v1/jobs/{job_id}", "304", {"ETag"}),
        ("GET /v1/jobs/{job_id}/result", "422", {"X-Request-ID"}),
        ("GET /v1/jobs/{job_id}/result", "202", {"Location", "Retry-After"}),
        ("GET /v1/keys", "401", {"X-Request-ID", "WWW-Authenticate"}),
    ],
)
def test_what_an_answer_says_in_headers_is_described(
    operation: str, status: str, names: set[str]
) -> None:
    method, path = operation.split()
    described = openapi.describe(describe_app())["paths"][path][method.lower()]
    assert names <= described["responses"][status]["headers"].keys()


def test_what_is_asked_for_in_headers_is_described() -> None:
    paths = openapi.describe(describe_app())["paths"]
    asked = {
        (method, path): {one["name"] for one in said.get("parameters", ()) if one["in"] == "header"}
        for path, operations in paths.items()
        for method, said in operations.items()
    }
    submits = {"/v1/jobs", "/v1/search", "/v1/crawl", "/v1/llm"}
    assert {path for (_, path), names in asked.items() if "Prefer" in names} == submits
    keyed = {path for (_, path), names in asked.items() if "Idempotency-Key" in names}
    assert keyed == submits | {"/v1/batches", "/v1/jobs/replay"}
    assert asked["get", "/v1/jobs/{job_id}"] == {"If-None-Match"}


async def test_the_docs_page_needs_nothing_from_another_host(world: World) -> None:
    page = await world.client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text
    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(files) == 3
    for path in (*files, "/openapi.json"):
        assert (await world.client.get(path)).status_code == 200
    assert '"validatorUrl": null' in page.text
