"""The `transform` kind: names, parameters, and its way to the functions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from app.ports.errors import PermanentError
from app.steps.registry import STEP_KINDS
from app.steps.transform import TransformConfig, TransformKind
from app.steps.transforms.registry import TRANSFORMS
from tests.steps.fakes import FakeScope, problems, run

SCOPE = FakeScope(
    inputs=frozenset({"question", "search"}),
    steps={"search": ("hits", "count", "found"), "re-rank": ("results",), "ask": ("text", "count")},
)


def normalised(inputs: object) -> Any:
    return TransformKind().normalise({"function": "merge", "inputs": inputs}, SCOPE)["inputs"]


@pytest.mark.parametrize("document", [{}, {"function": "merge", "expression": "1"}, {"inputs": ["a"]}])
def test_both_or_neither_of_function_and_expression_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="exactly one of 'function' and 'expression'"):
        TransformConfig.model_validate(document)


def test_an_unknown_function_is_refused_with_the_nearest_one() -> None:
    found = problems(TransformKind(), {"function": "conact", "inputs": []})

    assert found == {"/function": "there is no function 'conact' - did you mean 'concat'?"}


def test_a_misspelt_parameter_is_refused_where_it_stands() -> None:
    kind = TransformKind()
    beside = problems(kind, {"function": "filter", "inputs": ["{{ x }}"], "kee": "a", "value": 1})
    inside = problems(kind, {"function": "merge", "inputs": ["{{ x }}"], "parameters": {"deep": True}})

    assert beside == {"/kee": "'filter' has no parameter 'kee' - did you mean 'key'?"}
    assert inside == {"/parameters/deep": "'merge' has no parameter 'deep' - remove 'deep'"}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"function": "chunk", "size": 0}, "/size"),
        ({"function": "chunk", "parameters": {"size": 10, "overlap": 6}}, ""),
        ({"function": "chunk", "overlap": 501}, ""),
        ({"function": "chunk", "by": "tokens", "overlap": 126}, ""),
        ({"function": "chunk", "by": "words"}, "/by"),
        ({"function": "chunk", "border": "line"}, "/border"),
        ({"function": "sort", "parameters": {"order": "up"}}, "/parameters/order"),
        ({"function": "regex"}, ""),
        ({"function": "regex", "pattern": "("}, ""),
        ({"function": "regex", "pattern": "(?=x)"}, ""),
        ({"function": "filter", "operator": "gt"}, ""),
        ({"function": "pick", "keys": "a"}, "/keys"),
        ({"function": "map", "key": "a", "fields": {"b": "c"}}, ""),
        ({"function": "omit", "keys": []}, "/keys"),
        ({"function": "rename", "keys": ["a"]}, "/keys"),
        ({"function": "get"}, ""),
        ({"function": "limit", "count": -1}, "/count"),
        ({"function": "group_by"}, ""),
        ({"function": "batch", "size": 0}, "/size"),
        ({"function": "aggregate", "operation": "mean"}, "/operation"),
        ({"function": "vote", "quorum": 1.5}, "/quorum"),
        ({"function": "replace", "search": ""}, "/search"),
        ({"function": "extract", "what": "yaml"}, "/what"),
        ({"function": "extract", "what": "json", "language": "python"}, ""),
    ],
)
def test_wrong_parameters_are_refused(document: dict[str, Any], place: str) -> None:
    assert set(problems(TransformKind(), {"inputs": ["{{ x }}"], **document})) == {place}


def test_a_function_without_inputs_is_refused_unless_it_takes_none() -> None:
    assert "has no 'inputs'" in problems(TransformKind(), {"function": "merge"})[""]
    assert problems(TransformKind(), {"function": "template", "template": "Hi {{ inputs.name }}"}) == {}


def test_names_that_are_unknown_or_ambiguous_stay_and_are_reported() -> None:
    document = TransformKind().normalise(
        {"function": "merge", "inputs": ["serch", "count", "search", "Two words."]}, SCOPE
    )
    found = problems(TransformKind(), document)

    assert set(found) == {"/inputs/0", "/inputs/1"}
    assert "'serch' names no step" in found["/inputs/0"]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("search", "{{ outputs.search | default(none) }}"),
        ("re-rank", "{{ outputs['re-rank'] | default(none) }}"),
        ("question", "{{ inputs.question | default(none) }}"),
        ("found", "{{ steps.search.found | default(none) }}"),
        ("results", "{{ steps['re-rank'].results | default(none) }}"),
        ("ask.text", "{{ steps.ask.text | default(none) }}"),
        ("search.hits.0", "{{ steps.search.hits[0] | default(none) }}"),
        ("input.question", "{{ input.question | default(none) }}"),
        ("outputs.ask", "{{ outputs.ask | default(none) }}"),
    ],
)
def test_names_become_references(name: str, reference: str) -> None:
    assert normalised([name]) == [reference]
    assert normalised(name) == [reference]


@pytest.mark.parametrize("value", ["{{ outputs.search }}", "Two words.", 5, {"id": "search"}, ["search"]])
def test_what_is_no_name_is_left_alone(value: object) -> None:
    assert normalised([value]) == [value]


def test_inputs_are_a_list_whatever_the_author_wrote() -> None:
    assert normalised("{{ x }}") == ["{{ x }}"]
    assert normalised({"id": "{{ ids }}"}) == [{"id": "{{ ids }}"}]
    assert TransformKind().normalise({"expression": "1"}, SCOPE) == {"expression": "1"}


def test_an_expression_stands_alone_and_is_text() -> None:
    kind = TransformKind()

    assert set(problems(kind, {"expression": "1", "inputs": ["{{ a }}"], "key": "x"})) == {"/inputs", "/key"}
    assert set(problems(kind, {"expression": 5})) == {"/expression"}
    assert problems(kind, {"expression": "steps.a.hits | length"}) == {}


def test_parameters_that_are_templates_wait_for_their_values() -> None:
    document = {"function": "chunk", "inputs": ["{{ x }}"], "by": "{{ b }}", "size": "{{ s }}", "overlap": 9}

    assert problems(TransformKind(), document) == {}


@pytest.mark.parametrize(
    "document",
    [
        {"function": "sort", "inputs": [list(range(50_000, 0, -1))]},
        {"function": "chunk", "inputs": ["One sentence. " * 50_000]},
        {"function": "regex", "inputs": ["aaa"], "pattern": "a"},
    ],
)
async def test_the_event_loop_goes_on_while_much_data_is_reshaped(document: dict[str, Any]) -> None:
    step = asyncio.create_task(run(TransformKind(), document))
    await asyncio.sleep(0)

    assert not step.done()
    assert (await step).outputs["result"]


async def test_little_data_is_reshaped_on_the_spot() -> None:
    step = asyncio.create_task(run(TransformKind(), {"function": "sort", "inputs": [[2, 1]]}))
    await asyncio.sleep(0)

    assert step.done()
    assert step.result().outputs == {"result": [1, 2]}


async def test_wrong_parameters_after_rendering_fail_for_good() -> None:
    with pytest.raises(
        PermanentError, match="parameter 'size' of 'chunk' should be a whole number and is text"
    ):
        await run(TransformKind(), {"function": "chunk", "inputs": ["abc"], "size": "10"})


async def test_data_nested_without_end_fails_for_good() -> None:
    data: list[Any] = []
    for _ in range(100_000):
        data = [data]
    with pytest.raises(PermanentError, match="nested too deep"):
        await run(TransformKind(), {"function": "unique", "inputs": [[data]]})


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, "{{ text }}", 0])
async def test_the_value_of_an_expression_is_the_result(value: object) -> None:
    outcome = await run(TransformKind(), {"expression": value})

    assert outcome.outputs == {"result": value}


async def test_the_older_dialect_has_its_parameters_beside_the_function() -> None:
    hits = [{"kind": "a", "n": 1}, {"kind": "b", "n": 2}]
    outcome = await run(
        TransformKind(), {"function": "filter", "inputs": [hits], "key": "kind", "value": "b"}
    )

    assert outcome.outputs == {"result": [{"kind": "b", "n": 2}]}


async def test_template_returns_the_rendered_text_and_renders_nothing_again() -> None:
    outcome = await run(TransformKind(), {"function": "template", "parameters": {"template": "{{ x }}"}})

    assert outcome.outputs == {"result": "{{ x }}"}


def test_every_kind_and_function_is_registered_under_its_name() -> None:
    assert {name: kind.name for name, kind in STEP_KINDS.items()} == {name: name for name in STEP_KINDS}
    assert all(transform.apply.__doc__ for transform in TRANSFORMS.values())
