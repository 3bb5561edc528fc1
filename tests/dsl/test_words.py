"""No author reads a word of the validator's own: every key of every kind, given what it cannot be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson
import pytest
from pydantic import ValidationError

from app.dsl.catalog import Catalog
from app.dsl.document import StepDocument, WorkflowDocument
from app.ports.errors import DefinitionInvalid
from app.steps.control import ControlKind
from app.steps.faults import first_fault
from app.steps.kind import RENDERED, StepKind
from app.steps.registry import CONTROL_KINDS, STEP_KINDS
from app.steps.transforms.registry import TRANSFORMS

STOCK: Final = re.compile(
    r"Input should|Field required|[Vv]alidation error|valid (?:integer|string|number|boolean|list|dict|URL)"
    r"|type=|input_value|pydantic|https?://errors|instance of|not permitted"
    r"|\b(?:List|String|Dictionary) should|Value error|after validation|function-wrap"
    r"|\[(?:list|text|code|class|one|flag)\]"
)
WAIT: Final[list[Any]] = [{"id": "w", "type": "wait", "seconds": 1}]
COMPLETE: Final[Mapping[str, Mapping[str, Any]]] = {
    "llm": {"provider": "echo", "model": "m", "prompt": "x"},
    "embed": {"provider": "echo", "model": "m", "input": "x"},
    "rerank": {"provider": "echo", "model": "m", "query": "q", "documents": ["a"]},
    "vector_search": {"database": "embedded", "index": "i", "query": [1.0]},
    "vector_upsert": {"database": "embedded", "index": "i", "vectors": [{"id": "a", "vector": [1.0]}]},
    "vector_delete": {"database": "embedded", "index": "i", "ids": ["a"]},
    "transform": {"function": "merge", "inputs": [[1]]},
    "http": {"url": "https://example.com"},
    "action": {"action": "log"},
    "branch": {"condition": "inputs.x", "branches": {"a": WAIT}},
    "parallel": {"tasks": WAIT},
    "map": {"items": "inputs.x", "steps": WAIT},
    "loop": {"until": "true", "max_iterations": 2, "steps": WAIT},
    "workflow": {"workflow": "other"},
    "wait": {"seconds": 1},
    "approval": {"message": "fine?"},
}
WRONG: Final[tuple[Any, ...]] = (
    *(None, True, 7, -7, 1.5, 1e300, 10**15, "", "text", [], ["a"], [1], [None], [[1]], {}, {"a": 1}),
    *({"a": None}, {"status": []}, {"status": 9999}, {"status": "9xx"}, {"status": [1.5]}, {"status": {}}),
)
KINDS: Final[Mapping[str, StepKind | ControlKind]] = {**STEP_KINDS, **CONTROL_KINDS}


def said_of(document: Any) -> Iterator[str]:
    try:
        Catalog(STEP_KINDS).compile(orjson.dumps(document))
    except DefinitionInvalid as error:
        for problem in error.problems:
            yield f"{problem.pointer} | {problem.detail} | {problem.hint}"


def step(kind: str, **keys: Any) -> dict[str, Any]:
    return {"name": "n", "steps": [{"id": "s", "type": kind, **COMPLETE[kind], **keys}]}


def keys_of(kind: str) -> set[str]:
    models = [StepDocument, KINDS[kind].config_model, getattr(KINDS[kind], "blocks_model", StepDocument)]
    return {key for model in models for key in model.model_json_schema()["properties"]} - {"type"}


def test_every_kind_is_walked() -> None:
    assert COMPLETE.keys() == KINDS.keys()
    assert not [said for kind in COMPLETE for said in said_of(step(kind))]


@pytest.mark.parametrize("kind", COMPLETE)
def test_keys_of_a_step_are_refused_in_words(kind: str) -> None:
    said = [said for key in keys_of(kind) for wrong in WRONG for said in said_of(step(kind, **{key: wrong}))]
    assert said
    assert not [one for one in said if STOCK.search(one)]


def test_keys_of_a_workflow_are_refused_in_words() -> None:
    said = [
        said
        for key in WorkflowDocument.model_json_schema()["properties"]
        for wrong in WRONG
        for said in said_of({"name": "n", "steps": WAIT, key: wrong})
    ]
    assert said
    assert not [one for one in said if STOCK.search(one)]


@pytest.mark.parametrize("function", TRANSFORMS)
def test_parameters_of_functions_are_refused_in_words(function: str) -> None:
    said = [
        said
        for key in TRANSFORMS[function].parameters.model_fields
        for wrong in WRONG
        for said in said_of(step("transform", function=function, parameters={key: wrong}))
    ]
    assert not [one for one in said if STOCK.search(one)]


@pytest.mark.parametrize("kind", CONTROL_KINDS)
def test_no_key_is_recommended_that_does_not_go_with_the_kind(kind: str) -> None:
    said = [text for wrong in ("cases", "retries", "on") for text in said_of(step(kind, **{wrong: 1}))]
    unknown = [text for text in said if "unknown key" in text]
    assert len(unknown) == 3
    assert not [text for text in unknown if re.search("'(?:cache|retry|on_unknown)'", text)]


@pytest.mark.parametrize("kind", COMPLETE)
def test_what_templates_yield_is_refused_in_words(kind: str) -> None:
    model = KINDS[kind].config_model
    whole = {
        key: value for key, value in COMPLETE[kind].items() if key in model.model_json_schema()["properties"]
    }
    for key in model.model_json_schema()["properties"]:
        for wrong in WRONG:
            try:
                model.of_rendered({**whole, key: wrong})
            except ValidationError as error:
                said = first_fault(error.errors(include_url=False), whole="the step")
                assert not STOCK.search(said), said


@pytest.mark.parametrize("kind", COMPLETE)
def test_rendered_values_are_judged_as_the_model_judges_them(kind: str) -> None:
    model = KINDS[kind].config_model
    keys = model.model_json_schema()["properties"]
    whole = {key: value for key, value in COMPLETE[kind].items() if key in keys}
    for key in keys:
        for value in (*WRONG, "{{ braces }}", ["{{ braces }}"]):
            config = {**whole, key: value}
            assert _judged(model.of_rendered, config) == _judged(
                lambda config: model.model_validate(config, context=RENDERED), config
            )


def _judged(judge: Callable[[Any], Any], config: Any) -> Any:
    try:
        return judge(config)
    except ValidationError as error:
        return first_fault(error.errors(include_url=False), whole="the step")


@pytest.mark.parametrize(
    ("kind", "key", "value", "said"),
    [
        ("map", "items", None, "'items' should be a list and is null; write `| default([], true)`"),
        ("wait", "seconds", "5", "'seconds' should be a number and is text"),
        ("wait", "seconds", -1, "'seconds' should be greater than or equal to 0"),
        ("http", "expect", {"status": [200, 1.5]}, "'expect.status[1]' should be a whole number and"),
        ("http", "expect", {"status": 999}, "'expect.status' should be less than or equal to 599"),
        ("llm", "prompt", None, "Give exactly one of 'prompt' and 'messages'"),
        ("rerank", "query", None, "'query' should be text and is null; what may be absent needs a default"),
        ("llm", "fallbacks", ["gpt"], "'fallbacks[0]' should be an object and is text"),
    ],
)
def test_a_value_that_does_not_fit_after_rendering(kind: str, key: str, value: Any, said: str) -> None:
    model = KINDS[kind].config_model
    whole = {name: value for name, value in COMPLETE[kind].items() if name != "steps"}
    with pytest.raises(ValidationError) as caught:
        model.of_rendered({**whole, key: value})
    assert said in first_fault(caught.value.errors(include_url=False), whole="the step")
