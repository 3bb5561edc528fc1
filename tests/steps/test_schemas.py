"""A JSON Schema that cannot be used: what is wrong, and where in it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.dsl.catalog import Catalog
from app.ports.errors import DefinitionInvalid
from app.ports.problems import Problem
from app.steps.registry import STEP_KINDS

PATTERN_RULE = "patterns are plain regular expressions without look-around and back-references"
FAULTS: list[tuple[Any, str, str, str | None]] = [
    ({"type": "objct"}, "/type", "this is no JSON type", "did you mean 'object'?"),
    ({"type": ["string", "nul"]}, "/type", "this is no JSON type", "did you mean 'null'?"),
    (
        {"properties": {"a": {"required": True}}},
        "/properties/a/required",
        "'required' should be a list and is a truth value",
        "list the names of what is required beside 'properties': required: [a, b]",
    ),
    ({"required": "a"}, "/required", "'required' should be a list and is text", "write required: [a, b]"),
    (
        {"properties": {"a": 5}},
        "/properties/a",
        "'a' should be true or false or an object and is a number",
        "write a: {type: string}",
    ),
    (
        {"properties": []},
        "/properties",
        "'properties' should be an object and is a list",
        "write properties: {name: {type: string}}",
    ),
    (
        {"properties": {"a": {"pattern": "("}}},
        "/properties/a/pattern",
        "'pattern' is no regular",
        PATTERN_RULE,
    ),
    ({"properties": {"a": {"pattern": "(?=x)"}}}, "/properties/a/pattern", "'pattern' is no", PATTERN_RULE),
    (
        {"properties": {"a": {"$ref": "#/$defs/x"}}},
        "/properties/a/$ref",
        "'#/$defs/x' does not exist",
        "define it under '$defs'",
    ),
    (
        {"properties": {"a": {"$ref": "https://x.test/y"}}},
        "/properties/a/$ref",
        "'https://x.test/y' leaves the schema",
        "refer to '#/$defs/<name>'",
    ),
]


def refused(step: dict[str, Any]) -> Problem:
    with pytest.raises(DefinitionInvalid) as caught:
        Catalog(STEP_KINDS).compile(orjson.dumps({"name": "n", "steps": [{"id": "s", **step}]}))
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(("schema", "place", "detail", "hint"), FAULTS, ids=lambda it: str(it)[:40])
@pytest.mark.parametrize("key", ["form", "response_schema"])
def test_a_schema_is_refused_where_it_is_wrong(
    key: str, schema: Any, place: str, detail: str, hint: str | None
) -> None:
    asking = {"type": "llm", "provider": "echo", "model": "m", "prompt": "x"}
    step = {"type": "approval", "message": "m"} if key == "form" else asking
    problem = refused({**step, key: schema})
    assert problem.pointer == f"/steps/0/{key}{place}"
    assert problem.detail.startswith(detail)
    assert problem.hint == hint


def test_a_form_of_another_dialect_is_refused() -> None:
    problem = refused({"type": "approval", "message": "m", "form": {"$schema": "x://nope"}})
    assert (problem.pointer, problem.detail) == (
        "/steps/0/form/$schema",
        "only JSON Schema 2020-12 is understood",
    )
