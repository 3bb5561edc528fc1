"""Every shipped document compiles, the shipped schema takes it, and together they show the language."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest
from pydantic import BaseModel

from app.core.plan import Backoff, OnItemError, OnTimeout, RunOn
from app.dsl.compiled import CompiledWorkflow
from app.dsl.compiler import compile_workflow
from app.dsl.document import (
    BudgetDocument,
    CacheDocument,
    ConcurrencyDocument,
    DefaultsDocument,
    OnErrorDocument,
    StepDocument,
    WorkflowDocument,
)
from app.dsl.loader import load_document
from app.dsl.retry import RetryDocument
from app.steps.llm_config import FallbackConfig, OnInvalidConfig
from app.steps.registry import CONTROL_KINDS, STEP_KINDS
from app.steps.vector_search import HybridConfig

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCUMENTS = sorted(
    path
    for path in EXAMPLES.rglob("*")
    if path.suffix in {".yaml", ".json"} and path.parent.name != "fixtures"
)
SCHEMA = Path(__file__).parents[2] / "docs" / "workflow.schema.json"
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA.read_text())


def compiled(path: Path) -> CompiledWorkflow:
    return compile_workflow(load_document(path.read_bytes()), kinds=STEP_KINDS)


def written(value: Any) -> Iterator[dict[str, Any]]:
    """Every step of a document, as it is written."""
    if isinstance(value, dict):
        if {"id", "type"} <= value.keys() and value["type"] in {*STEP_KINDS, *CONTROL_KINDS}:
            yield value
        for inner in value.values():
            yield from written(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from written(inner)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_an_example_compiles_and_the_schema_takes_it(path: Path) -> None:
    compiled(path)
    value = load_document(path.read_bytes()).value
    assert [error.message for error in VALIDATOR.iter_errors(value)] == []


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if p.suffix == ".yaml"], ids=lambda path: path.name)
def test_an_example_says_what_it_shows(path: Path) -> None:
    assert path.read_text().startswith("# ")


STEPS = [step for path in DOCUMENTS for step in written(load_document(path.read_bytes()).value)]


@pytest.mark.parametrize("name", [*STEP_KINDS, *CONTROL_KINDS])
def test_every_kind_and_each_of_its_keys_has_an_example(name: str) -> None:
    control = CONTROL_KINDS.get(name)
    fields = {**(control or STEP_KINDS[name]).config_model.model_fields}
    if control is not None:
        fields |= control.blocks_model.model_fields
    shown = {key for step in STEPS if step["type"] == name for key in step}
    assert {field.alias or key for key, field in fields.items()} - shown == set()


def test_every_key_of_steps_and_workflows_has_an_example() -> None:
    documents = [load_document(path.read_bytes()).value for path in DOCUMENTS]
    shown = {key for step in STEPS for key in step}
    assert StepDocument.model_fields.keys() <= shown
    keys = {field.alias or key for key, field in WorkflowDocument.model_fields.items()}
    assert keys == {key for document in documents for key in document}


@pytest.mark.parametrize(
    ("key", "model"),
    [
        ("retry", RetryDocument),
        ("cache", CacheDocument),
        ("on_error", OnErrorDocument),
        ("concurrency", ConcurrencyDocument),
        ("budget", BudgetDocument),
        ("defaults", DefaultsDocument),
        ("on_invalid", OnInvalidConfig),
        ("fallbacks", FallbackConfig),
        ("hybrid", HybridConfig),
    ],
)
def test_every_key_within_a_key_has_an_example(key: str, model: type[BaseModel]) -> None:
    assert model.model_fields.keys() == {name for value in of_key(key) for name in value}


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("run_on", get_args(RunOn)),
        ("on_unknown", ("fail", "retry")),
        ("on_item_error", get_args(OnItemError)),
        ("on_timeout", get_args(OnTimeout)),
    ],
)
def test_every_choice_of_a_step_has_an_example(key: str, choices: tuple[str, ...]) -> None:
    assert set(choices) == {step[key] for step in STEPS if key in step}


@pytest.mark.parametrize(
    ("key", "within", "choices"),
    [
        ("concurrency", "on_limit", ("queue", "reject", "cancel_oldest")),
        ("budget", "on_exceeded", ("fail", "pause")),
        ("retry", "backoff", get_args(Backoff)),
    ],
)
def test_every_choice_within_a_key_has_an_example(key: str, within: str, choices: tuple[str, ...]) -> None:
    assert set(choices) == {value[within] for value in of_key(key) if within in value}


def of_key(key: str) -> list[dict[str, Any]]:
    """The objects that stand at a key of a step or of a workflow, those in a list included."""
    documents = [load_document(path.read_bytes()).value for path in DOCUMENTS]
    places = [*documents, *STEPS, *(document.get("defaults", {}) for document in documents)]
    values = [place[key] for place in places if key in place]
    listed = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [one for one in listed if isinstance(one, dict)]
