"""From the query of a request to a validated model: an unknown parameter is an error there too."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request

from ingress.body import say, validation_error
from ingress.problems import InvalidPart

MAX_NAME = 64

Item = TypeVar("Item")


class QueryModel(BaseModel):
    """The base of every query: frozen, and a parameter that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Nothing(QueryModel):
    """No query at all."""


def _split(values: list[str]) -> list[str]:
    return [part for value in values for part in value.split(",")]


Many = Annotated[tuple[Item, ...], BeforeValidator(_split)]
"""Several values, repeated or separated by commas: `state=queued,running`."""
Each = Annotated[tuple[Item, ...], Field(max_length=20)]
"""Several values, repeated: for texts that may hold commas."""

Query = TypeVar("Query", bound=QueryModel)


def _takes_many(model: type[QueryModel], name: str) -> bool:
    field = model.model_fields.get(name)
    return field is not None and isinstance(field.default, tuple)


def _require_once(params: QueryParams, model: type[QueryModel]) -> None:
    """Refuse what came several times and has one value: which of them is meant nobody knows."""
    several = [
        name
        for name in params
        if name in model.model_fields
        and not _takes_many(model, name)
        and len(params.getlist(name)) > 1
    ]
    if several:
        said = "It may be given once only"
        raise validation_error(InvalidPart(parameter=name, detail=said) for name in several)


def read_query(request: Request, model: type[Query]) -> Query:
    """The validated query; raises `RequestRefused` naming each parameter that is not valid."""
    if not request.scope["query_string"]:
        return model()
    params = request.query_params
    _require_once(params, model)
    given = {
        name: params.getlist(name) if _takes_many(model, name) else params[name] for name in params
    }
    try:
        return model.model_validate(given)
    except ValidationError as invalid:
        raise validation_error(
            InvalidPart(parameter=str(error["loc"][0])[:MAX_NAME], detail=say(error))
            for error in invalid.errors(include_url=False, include_input=False)
        ) from None
