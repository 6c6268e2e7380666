"""The API's documentation, readable without any other network."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent.parent / "static"


def add_docs(app: FastAPI) -> None:
    """Serve `/docs`, and `/static` for it."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_route("/docs", _docs, include_in_schema=False)


async def _docs(request: Request) -> Response:  # noqa: ARG001 - the signature of an endpoint
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Forebay",
        swagger_js_url="/static/swagger-ui/swagger-ui-bundle.js",
        swagger_css_url="/static/swagger-ui/swagger-ui.css",
        swagger_favicon_url="/static/swagger-ui/favicon-32x32.png",
        # The badge would send the description to a validator on the Internet.
        swagger_ui_parameters={"validatorUrl": None},
    )
