"""What pydantic has against a request, in words that say what to do. The one place of the API that does this.

A pattern is for machines; what it asks for stands here in words. A list of words (`one_of`) is told by its
own pattern. The models of bodies and the words of documents are `app.dsl.model_errors`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from app.api.problems import ParameterProblem
from app.api.terms import KEY_PATTERN
from app.api.v1.parameters import CURSOR, DELIVERY_ID, LABEL_FILTER, LAST_SEQ, choices_of
from app.api.v1.schemas.fixtures import JSON_POINTER
from app.api.v1.schemas.run_webhooks import WEBHOOK_URL
from app.api.v1.schemas.runs import LABEL_NAME, RUN_ID, WORKFLOW_NAME, WORKFLOW_VERSION
from app.dsl.model_errors import Wording, explained, models_in
from app.dsl.spelling import Speller
from app.ports.problems import Problem
from app.services.webhook_signing import FORM, SECRET_RULE

MAX_ERRORS: Final = 100
MAX_COMPARISONS: Final = 2000
MAX_SHOWN: Final = 64
"""Characters of a word that is refused."""
_LABEL: Final = "1 to 63 letters, digits, '.', '_', '/' and '-'; begin and end with a letter or digit"
PATTERNS: Final[Mapping[str, str]] = {
    RUN_ID: "write the id as the submission gave it, such as 0197d6a0-7c1e-7000-8000-000000000000",
    WORKFLOW_NAME: (
        "use 1 to 128 letters, digits, spaces, '.', '_' and '-'; begin and end with a letter or digit"
    ),
    WORKFLOW_VERSION: "use 1 to 64 letters, digits, '.', '_', '+' and '-'; begin with a letter or digit",
    LABEL_NAME: f"use {_LABEL}",
    LABEL_FILTER: f"write name:value, the name with {_LABEL}",
    KEY_PATTERN: "use 1 to 255 printable ASCII characters",
    CURSOR: "pass the next_cursor of the page before as it is",
    WEBHOOK_URL: "write an http or https URL in ASCII, such as https://example.com/hook",
    FORM: SECRET_RULE,
    DELIVERY_ID: "write the id of the delivery as its list has it, such as msg_0197d6a0-…_5",
    JSON_POINTER: "write a JSON Pointer, such as /inputs/name or /steps/draft/outputs/text",
    LAST_SEQ: "write the id of the last event, a whole number",
}
"""What patterns ask for, by the pattern."""
_REQUEST: Final = Wording(
    shapes={
        "string_type": ("text", 'write "…"'),
        "int_type": ("a whole number", "write a number without quotes and fraction"),
        "int_from_float": ("a whole number", "write it without a fraction"),
        "float_type": ("a number", "write a number without quotes"),
        "finite_number": ("a finite number", "write a number without quotes"),
        "bool_type": ("true or false", "write true or false without quotes"),
        "list_type": ("a list", "write […]"),
        "dict_type": ("an object", "write {…}"),
        "model_type": ("an object", "write {…}"),
        "model_attributes_type": ("an object", "write {…}"),
        "int_parsing": ("a whole number", "write digits only"),
        "float_parsing": ("a number", "write it like 1.5"),
        "bool_parsing": ("true or false", "write true or false"),
    },
    patterns=PATTERNS,
    whole="the body",
)


def request_errors(
    errors: Sequence[Mapping[str, Any]], body: Any, route: object
) -> list[Problem | ParameterProblem]:
    """What is to be mended in a request for `route`, whose JSON body is `body`."""
    spelling = Speller(MAX_COMPARISONS)
    found: list[Problem | ParameterProblem] = []
    in_body: list[ErrorDetails] = []
    for error in errors[:MAX_ERRORS]:
        where, *parts = error["loc"]
        if where == "body":
            in_body.append(_relative(error, tuple(parts)))
        else:
            found.append(_parameter(error, str(where), parts, spelling))
    return found + list(
        explained(in_body, value=body, model=_model(route), spelling=spelling, wording=_REQUEST)
    )


def body_errors(errors: Sequence[ErrorDetails], body: Any, model: type[BaseModel]) -> list[Problem]:
    """What is to be mended in a body that a handler reads by itself, with `model`."""
    shown = errors[:MAX_ERRORS]
    return list(
        explained(shown, value=body, model=model, spelling=Speller(MAX_COMPARISONS), wording=_REQUEST)
    )


def unknown_parameters(names: Iterable[str], known: Sequence[str]) -> list[Problem | ParameterProblem]:
    """Query parameters that an operation does not have."""
    spelling = Speller(MAX_COMPARISONS)
    return [
        ParameterProblem(
            parameter=name,
            location="query",
            detail=f"unknown query parameter {name!r}",
            hint=_instead(name, known, spelling),
        )
        for name in list(dict.fromkeys(names))[:MAX_ERRORS]
    ]


def _instead(name: str, known: Sequence[str], spelling: Speller) -> str:
    if not known:
        return "leave it out; this operation takes none"
    near = spelling.nearest(name, known)
    listed = "this operation takes " + ", ".join(repr(one) for one in known)
    return f"did you mean {near!r}? {listed}" if near else listed


def _parameter(
    error: Mapping[str, Any], where: str, parts: Sequence[str | int], spelling: Speller
) -> ParameterProblem:
    """A parameter stands for a body that is an object with this one member."""
    name = str(parts[0]) if parts else ""
    value = error.get("input")
    (problem,) = explained(
        [_relative(error, (name,))], value={name: value}, model=BaseModel, spelling=spelling, wording=_REQUEST
    )
    detail, hint = problem.detail, problem.hint
    choices = choices_of(str(error.get("ctx", {}).get("pattern")))
    if choices:
        wrong = next((word for word in str(value).split(",") if word not in choices), "")
        detail = f"{wrong[:MAX_SHOWN]!r} is no value of {name!r}"
        hint = spelling.hint(wrong, choices, few=len(choices))
    return ParameterProblem(parameter=name, location=where, detail=detail, hint=hint)


def _relative(error: Mapping[str, Any], loc: tuple[str | int, ...]) -> ErrorDetails:
    return ErrorDetails(
        type=error["type"], loc=loc, msg=error["msg"], input=error.get("input"), ctx=error.get("ctx", {})
    )


def _model(route: object) -> type[BaseModel]:
    """The model of a route's body; one without keys where there is none, or more than one."""
    if not isinstance(route, APIRoute) or route.body_field is None:
        return BaseModel
    models = list(models_in(route.body_field.field_info.annotation))
    return models[0] if len(models) == 1 else BaseModel
