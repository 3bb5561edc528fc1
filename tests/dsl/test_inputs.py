"""The schema of a workflow's inputs: what is accepted as one, what it costs, and what it says of inputs."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.dsl.compiled import CompiledWorkflow
from app.dsl.compiler import compile_workflow
from app.dsl.loader import load_document
from app.ports.errors import DefinitionInvalid, InputsInvalid
from app.ports.problems import Problem
from tests.dsl.kinds import KINDS


def workflow(schema: dict[str, Any], message: str = "hi") -> CompiledWorkflow:
    """A workflow with these inputs and one step."""
    document = {"name": "x", "inputs": schema, "steps": [{"id": "a", "type": "tell", "message": message}]}
    return compile_workflow(load_document(orjson.dumps(document)), kinds=KINDS)


def refused_schema(schema: dict[str, Any]) -> tuple[Problem, ...]:
    """What is wrong with a schema."""
    with pytest.raises(DefinitionInvalid) as refused:
        workflow(schema)
    return refused.value.problems


def refused_inputs(schema: dict[str, Any], inputs: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """What is wrong with inputs."""
    with pytest.raises(InputsInvalid) as refused:
        workflow(schema).validate_inputs(inputs)
    return [(problem.pointer, problem.detail, problem.hint) for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("schema", "pointer", "detail", "hint"),
    [
        (
            {"question": {"type": "string"}},
            "/inputs/question",
            "'question' is no keyword of a JSON Schema for an object",
            "declare an input as 'properties: {question: {type: string}}'",
        ),
        (
            {"propertes": {}},
            "/inputs/propertes",
            "'propertes' is no keyword of a JSON Schema for an object",
            "did you mean 'properties'?",
        ),
        (
            {"type": "array"},
            "/inputs/type",
            "inputs are always an object",
            "write 'type: object' and 'properties'",
        ),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            "/inputs/$schema",
            "only JSON Schema 2020-12 is understood",
            "write 'https://json-schema.org/draft/2020-12/schema'",
        ),
        (
            {"properties": {"a": {"type": "strng"}}},
            "/inputs/properties/a/type",
            "this is no JSON type",
            "did you mean 'string'?",
        ),
        (
            {"properties": {"a": {"minLength": -1}}},
            "/inputs/properties/a/minLength",
            "'minLength' is less than the minimum of 0",
            None,
        ),
        (
            {"required": "a"},
            "/inputs/required",
            "'required' should be a list and is text",
            "write required: [a, b]",
        ),
        (
            {"properties": {"a": {"pattern": "(?=x)"}}},
            "/inputs/properties/a/pattern",
            "'pattern' is no regular expression that is taken",
            "patterns are plain regular expressions without look-around and back-references",
        ),
        (
            {"properties": {"a": {"type": "string", "default": 5}}},
            "/inputs/properties/a/default",
            'the default does not fit: the value is not of type "string"',
            "change the default or the schema",
        ),
        (
            {"properties": {"a": {"$ref": "https://example.com/schema.json"}}},
            "/inputs/properties/a/$ref",
            "'https://example.com/schema.json' leaves the schema",
            "refer to '#/$defs/<name>'",
        ),
        (
            {"properties": {"a": {"$ref": "file:///etc/passwd"}}},
            "/inputs/properties/a/$ref",
            "'file:///etc/passwd' leaves the schema",
            "refer to '#/$defs/<name>'",
        ),
        (
            {"properties": {"a": {"$ref": "#/$defs/b"}}},
            "/inputs/properties/a/$ref",
            "'#/$defs/b' does not exist",
            "define it under '$defs'",
        ),
        (
            {"properties": {"a": {"$ref": "#"}}},
            "/inputs/properties/a/$ref",
            "the schema refers to itself",
            "write the levels out that you need",
        ),
        (
            {"properties": {"a": {"$dynamicRef": "#a"}}},
            "/inputs/properties/a/$dynamicRef",
            "'$dynamicRef' is not accepted here",
            "use '$ref' and '$defs'",
        ),
        (
            {"properties": {"a": {"$id": "urn:a"}}},
            "/inputs/properties/a/$id",
            "'$id' is accepted at the top only",
            "use '$ref' and '$defs'",
        ),
    ],
)
def test_a_schema_with_one_problem(schema: dict[str, Any], pointer: str, detail: str, hint: str) -> None:
    (problem,) = refused_schema(schema)
    assert (problem.pointer, problem.detail, problem.hint) == (pointer, detail, hint)
    assert problem.line == 1


def test_all_problems_of_a_schema_come_at_once() -> None:
    found = refused_schema({"properties": {"a": {"type": 1}, "b": {"maximum": "x"}}, "required": [1]})
    assert {problem.pointer for problem in found} >= {
        "/inputs/properties/a/type",
        "/inputs/properties/b/maximum",
        "/inputs/required/0",
    }


def test_a_schema_that_doubles_itself_is_refused_before_it_is_applied() -> None:
    levels: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}
    found = refused_schema(
        {"$defs": {**levels, "d60": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/d0"}}}
    )
    assert "more than 10000 subschemas" in found[0].detail


def test_a_long_chain_of_references_is_refused() -> None:
    levels: dict[str, Any] = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(3_000)}
    found = refused_schema({"$defs": {**levels, "d3000": {}}, "properties": {"a": {"$ref": "#/$defs/d0"}}})
    assert "levels deep" in found[0].detail


def test_a_recursion_through_definitions_is_refused() -> None:
    tree = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
    }
    (problem,) = refused_schema({"$defs": {"tree": tree}, "properties": {"root": {"$ref": "#/$defs/tree"}}})
    assert problem.detail == "the schema refers to itself"


def test_definitions_that_are_used_twice_are_fine() -> None:
    schema = {
        "$defs": {
            "name": {"type": "string", "maxLength": 3},
            "pair": {"prefixItems": [{"$ref": "#/$defs/name"}] * 2},
        },
        "properties": {
            "a": {"$ref": "#/$defs/name"},
            "b": {"$ref": "#/$defs/pair"},
            "c": {"$ref": "#/properties/a"},
        },
    }
    assert workflow(schema).validate_inputs({"a": "x", "b": ["x", "y"], "c": "z"})
    assert [pointer for pointer, _, _ in refused_inputs(schema, {"b": ["x", "long"], "c": "long"})] == [
        "/b/1",
        "/c",
    ]


SCHEMA = {
    "type": "object",
    "required": ["question"],
    "properties": {
        "question": {"type": "string", "maxLength": 5},
        "tags": {"type": "array", "items": {"type": "string"}, "default": []},
        "mail": {"type": "string", "format": "email"},
        "depth": {"type": "integer", "default": 2, "maximum": 9},
    },
    "additionalProperties": False,
}


def test_every_problem_of_the_inputs_is_told_without_repeating_values() -> None:
    found = refused_inputs(SCHEMA, {"qestion": "s3cret", "tags": ["a", 5], "mail": "s3cret", "depth": 10})
    assert sorted(found) == [
        ("", "'question' is missing", "add 'question'"),
        ("/depth", "the value is greater than the maximum of 9", None),
        ("/mail", 'the value is not a "email"', None),
        ("/qestion", "'qestion' is not declared", "did you mean 'question'?"),
        ("/tags/1", 'the value is not of type "string"', None),
    ]


def test_inputs_are_completed_with_defaults_of_their_own() -> None:
    compiled = workflow(SCHEMA)
    given = {"question": "why"}
    first = compiled.validate_inputs(given)
    assert first == {"question": "why", "tags": [], "depth": 2}
    assert given == {"question": "why"}
    first["tags"].append("x")
    assert compiled.validate_inputs(given)["tags"] == []
    assert compiled.validate_inputs({**given, "depth": 3})["depth"] == 3


def test_a_pattern_that_backtracks_elsewhere_is_linear_here() -> None:
    schema = {"properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    assert refused_inputs(schema, {"a": "a" * 5_000 + "b"})


@pytest.mark.parametrize(
    ("schema", "message", "problem"),
    [
        (SCHEMA, "{{ inputs.qestion }}", "did you mean 'question'?"),
        (SCHEMA, "{{ input.nothing_like_it }}", "use one of"),
        ({"properties": {"a": {}}}, "{{ inputs.b }}", "use one of 'a'"),
        ({"additionalProperties": False}, "{{ inputs.b }}", "declare it under 'inputs.properties'"),
    ],
)
def test_an_input_that_is_not_declared_is_a_mistake(
    schema: dict[str, Any], message: str, problem: str
) -> None:
    with pytest.raises(DefinitionInvalid) as refused:
        workflow(schema, message)
    (found,) = refused.value.problems
    assert "unknown input" in found.detail
    assert problem in (found.hint or "")


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"properties": {"a": {}}, "additionalProperties": True},
        {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
        {"properties": {"a": {}}, "patternProperties": {"^b": {}}},
        {"properties": {"a": {}}, "allOf": [{"properties": {"b": {}}}]},
        {"properties": {"b": {}}},
        {"properties": {"b": {}}, "x-order": ["b"]},
    ],
)
def test_an_input_that_may_be_there_can_be_read(schema: dict[str, Any]) -> None:
    assert workflow(schema, "{{ inputs.b }} {{ inputs | tojson }}").steps["a"].config.references
