"""What editors are told: the same that the compiler says, as far as one key at a time goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import orjson
import pytest

from app.dsl.compiler import compile_workflow
from app.dsl.schema import document_schema, schema_json
from app.ports.errors import DefinitionInvalid
from app.steps.registry import CONTROL_KINDS, STEP_KINDS

SCHEMA = document_schema(STEP_KINDS)
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)
LLM = {"id": "a", "type": "llm", "provider": "echo", "model": "any", "prompt": "hi"}
SEARCH = {"id": "a", "type": "vector_search", "database": "embedded", "index": "kb"}
INNER = [{"id": "b", "type": "transform", "expression": "1"}]


@pytest.mark.parametrize(
    ("step", "accepted"),
    [
        ({**LLM, "temperature": "hot"}, False),
        ({**LLM, "temperature": 3}, False),
        ({**LLM, "retry": 0}, False),
        ({**SEARCH, "query": ["{{ inputs.x }}", 0.2]}, False),
        ({**SEARCH, "query": [0.1], "topk": 3}, False),
        (
            {"id": "a", "type": "map", "items": [1], "steps": INNER, "max_concurrency": "{{ inputs.n }}"},
            False,
        ),
        ({"id": "a", "type": "map", "items": [1], "steps": INNER, "retry": 3}, False),
        ({"id": "a", "type": "map", "items": [1], "steps": []}, False),
        ({"id": "a", "type": "branch", "condition": "inputs.x", "branches": {}}, False),
        ({"id": "a", "type": "approval", "message": "?", "on_timeout": "maybe"}, False),
        ({"id": "a", "type": "wait", "until": {"at": "noon"}}, False),
        ({**LLM, "temperature": "{{ inputs.heat }}"}, True),
        ({**LLM, "repetition_penalty": 1.1}, True),
        ({**SEARCH, "query": "{{ inputs.vector }}", "top_k": "{{ inputs.n }}"}, True),
        ({"id": "a", "type": "map", "items": "inputs.list", "steps": INNER}, True),
        ({"id": "a", "type": "branch", "condition": "inputs.x", "branches": {"y": INNER[0]}}, True),
        (
            {"id": "a", "type": "branch", "condition": "inputs.x", "branches": {"y": []}, "default": INNER},
            True,
        ),
        ({"id": "a", "type": "loop", "steps": INNER, "until": True}, True),
        ({"id": "a", "type": "wait", "seconds": "{{ inputs.s }}"}, True),
    ],
)
def test_the_schema_and_the_compiler_agree(step: dict[str, Any], accepted: bool) -> None:
    document = {"name": "x", "steps": [step]}
    assert VALIDATOR.is_valid(document) is accepted
    if accepted:
        compile_workflow(document, kinds=STEP_KINDS)
    else:
        with pytest.raises(DefinitionInvalid):
            compile_workflow(document, kinds=STEP_KINDS)


@pytest.mark.parametrize("key", ["concurrency", "budget", "defaults"])
def test_keys_of_the_workflow_are_checked_within(key: str) -> None:
    assert not VALIDATOR.is_valid({"name": "x", "steps": [LLM], key: {"colour": "red"}})


def test_handlers_hold_steps() -> None:
    assert VALIDATOR.is_valid({"name": "x", "steps": [LLM], "finally": INNER, "on_failure": INNER})
    assert not VALIDATOR.is_valid({"name": "x", "steps": [LLM], "finally": [{"id": "b"}]})


def test_every_kind_and_every_key_says_what_it_is_for() -> None:
    for name in [*STEP_KINDS, *CONTROL_KINDS]:
        definition = SCHEMA["$defs"]["".join(word.capitalize() for word in name.split("_")) + "Step"]
        assert definition["description"]
        assert [key for key, it in definition["properties"].items() if not it.get("description")] == []
    assert [key for key, it in SCHEMA["properties"].items() if not it.get("description")] == []


def test_editors_are_shown_no_titles_made_of_names_and_no_null_to_fill_in() -> None:
    for schema in properties(SCHEMA):
        assert "title" not in schema
        assert schema.get("default", ...) is not None


def test_the_text_of_the_schema_is_the_same_every_time() -> None:
    assert schema_json(STEP_KINDS) == schema_json(STEP_KINDS)
    assert orjson.loads(schema_json(STEP_KINDS)) == SCHEMA


def properties(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema of every key that is named in a schema."""
    if isinstance(schema, list):
        for part in schema:
            yield from properties(part)
    elif isinstance(schema, dict):
        yield from schema.get("properties", {}).values()
        for part in schema.values():
            yield from properties(part)
