"""Distributed maps as the compiler sees them: what is refused, what an item is given, and how it is kept."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.plan import Child, Map, all_nodes
from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.dsl.compiler import compile_workflow
from app.dsl.loader import load_document
from app.ports.errors import DefinitionInvalid, InputsInvalid
from app.ports.problems import Problem
from app.steps.registry import STEP_KINDS


def problems(steps: str) -> tuple[Problem, ...]:
    with pytest.raises(DefinitionInvalid) as refused:
        compile_workflow(load_document("name: x\nsteps:\n" + steps), kinds=STEP_KINDS)
    return refused.value.problems


def compiled(*steps: dict[str, Any], **more: Any) -> CompiledWorkflow:
    return compile_workflow({"name": "x", "steps": list(steps), **more}, kinds=STEP_KINDS)


def compute(step_id: str, expression: str, **more: Any) -> dict[str, Any]:
    return {"id": step_id, "type": "transform", "expression": expression, **more}


def each(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "each",
        "type": "map",
        "items": "inputs.xs",
        "distribute": True,
        "steps": list(steps),
        **more,
    }


def reads(*steps: dict[str, Any], of: str = "each.run") -> tuple[tuple[str, ...], ...]:
    item = compiled(*steps).item_workflows[of].item
    assert item is not None
    return item.reads


# --- refused ------------------------------------------------------------------------------------------

MAP = "- {id: m, type: map, items: inputs.xs, distribute: %s, steps: [{id: %s, type: wait, seconds: 1}]}"


@pytest.mark.parametrize(
    ("steps", "pointer", "detail", "hint"),
    [
        (
            MAP % ("'yes'", "a"),
            "/steps/0/distribute",
            "'distribute' should be true or false",
            "write true or false, without quotes",
        ),
        (
            MAP % ("'{{ inputs.many }}'", "a"),
            "/steps/0/distribute",
            "'distribute' should be true or false",
            "write true or false, without quotes",
        ),
        (
            MAP % ("true", "run"),
            "/steps/0/steps/0/id",
            "a step right within a distributed map cannot be called 'run'",
            "this is how the run of an item is called; choose another id",
        ),
        (
            "- {id: w, type: workflow, workflow: other, distribute: false}",
            "/steps/0/distribute",
            "a 'workflow' step always has a run of its own",
            "leave 'distribute' out, or write the steps of that workflow here",
        ),
        (
            "- {id: l, type: loop, distribute: true, steps: [{id: a, type: wait, seconds: 1}]}",
            "/steps/0/distribute",
            "unknown key 'distribute'",
            None,
        ),
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(
    steps: str, pointer: str, detail: str, hint: str | None
) -> None:
    (problem,) = problems(steps)
    assert (problem.pointer, problem.line, problem.detail) == (pointer, 3, detail)
    assert hint is None or problem.hint == hint


def test_a_step_deeper_within_may_be_called_run_and_so_may_one_of_another_map() -> None:
    loop = {"id": "l", "type": "loop", "steps": [compute("run", "1")]}
    assert compiled(each(loop)).item_workflows
    assert not compiled(each(compute("run", "1"), distribute=False)).item_workflows


def test_problems_within_a_distributed_map_are_told_where_they_stand() -> None:
    text = "- {id: m, type: map, items: inputs.xs, distribute: true, steps: [\n"
    (problem,) = problems(text + "  {id: a, type: transform, expression: steps.b.result}]}")
    assert (problem.pointer, problem.line) == ("/steps/0/steps/0/expression", 4)


def test_a_workflow_cannot_be_submitted_as_the_items_of_a_map() -> None:
    document = {"items_of": {"name": "x", "steps": [each(compute("a", "item"))]}, "step": "each"}
    with pytest.raises(DefinitionInvalid):
        Catalog(STEP_KINDS).compile(document)


# --- what an item is given ----------------------------------------------------------------------------


def test_an_item_that_reads_nothing_else_is_given_itself_and_its_position() -> None:
    own = [compute("a", "item ~ index"), compute("b", "steps.a.result ~ outputs.a")]
    assert reads(each(*own)) == ()


def test_an_item_is_given_exactly_what_its_templates_read_around_it() -> None:
    outer = [
        compute("base", "{'a': 1}", output=["alias"]),
        compute("unread", "2"),
        {"id": "more", "type": "llm", "provider": "p", "model": "m", "prompt": "?"},
    ]
    body = each(
        compute("a", "inputs.k.deep ~ steps.more.text", condition="outputs.alias"),
        compute("b", "1", on_error={"action": "continue", "value": "{{ run.id }}"}),
        {"id": "c", "type": "loop", "until": "inputs.stop", "steps": [compute("d", "loop.index ~ item")]},
        {
            "id": "e",
            "type": "llm",
            "provider": "p",
            "model": "m",
            "prompt": "?",
            "cache": {"ttl_seconds": 1, "key": "{{ input.key }}"},
        },
    )
    assert reads(*outer, body) == (
        ("inputs", "k"),
        ("inputs", "key"),
        ("inputs", "stop"),
        ("outputs", "alias"),
        ("run",),
        ("steps", "more", "text"),
    )


def test_a_whole_value_stands_for_its_members() -> None:
    body = each(compute("a", "inputs"), compute("b", "inputs.k"), compute("c", "steps.base"))
    found = reads(
        compute("base", "1"), {**body, "steps": [*body["steps"], compute("d", "steps.base.result")]}
    )
    assert found == (("inputs",), ("steps", "base"))


def test_names_of_the_blocks_around_the_map_are_given_unless_it_hides_them() -> None:
    inner = each(compute("a", "row ~ item ~ index ~ loop.iteration ~ steps.first.result"))
    loop = {"id": "again", "type": "loop", "steps": [compute("first", "1"), inner]}
    outer = {"id": "rows", "type": "map", "items": "inputs.rows", "as": "row", "steps": [loop]}
    found = reads(outer, of="rows.again.each.run")
    assert found == (("loop",), ("row",), ("steps", "first", "result"))


def test_a_distributed_map_within_one_has_its_needs_met_by_it() -> None:
    inner = {**each(compute("a", "cell ~ row ~ inputs.k")), "id": "cells", "items": "row", "as": "cell"}
    document = [{**each(inner), "id": "rows", "as": "row"}]
    assert reads(*document, of="rows.cells.run") == (("inputs", "k"), ("row",))
    assert reads(*document, of="rows.run") == (("inputs", "k"),)


def test_the_model_of_vectors_from_outside_is_known_within() -> None:
    embed = {"id": "v", "type": "embed", "provider": "p", "model": "{{ inputs.m }}", "input": "x"}
    search = {
        "id": "s",
        "type": "vector_search",
        "database": "d",
        "index": "i",
        "query": "{{ steps.v.vector }}",
    }
    assert reads(embed, each(search)) == (("inputs", "m"), ("steps", "v", "vector"))


def test_what_is_given_is_checked_where_somebody_repeats_the_run_of_an_item() -> None:
    workflow = compiled(each(compute("a", "item ~ inputs.k"))).item_workflows["each.run"]
    good: dict[str, object] = {"item": None, "index": 0, "inputs": {}}
    assert workflow.validate_inputs(good) == good
    for wrong in ({}, {**good, "index": -1}, {**good, "inputs": 1}, {**good, "more": 1}):
        with pytest.raises(InputsInvalid):
            workflow.validate_inputs(wrong)


# --- plans and definitions ----------------------------------------------------------------------------


def test_a_map_that_is_not_distributed_is_compiled_as_ever() -> None:
    workflow = compiled(each(compute("a", "item"), distribute=False))
    assert workflow.item_workflows == {}
    assert workflow.written_plan is workflow.plan
    assert [*workflow.steps] == ["each", "each.a"]


def test_the_plan_of_a_distributed_map_has_the_run_of_an_item_for_its_steps() -> None:
    workflow = compiled(each(compute("a", "item")))
    body = workflow.plan.main.nodes[0].control
    assert isinstance(body, Map)
    assert [(node.key, node.control) for node in body.body.nodes] == [("each.run", Child())]
    assert [node.key for node in all_nodes(workflow.written_plan)] == ["each", "each.a"]
    assert [step.key for step in workflow.written_steps] == ["each", "each.a"]
    inner = workflow.item_workflows["each.run"]
    assert [(node.id, node.key) for node in all_nodes(inner.plan)] == [("a", "each.a")]


def test_the_definition_of_an_item_is_read_by_whoever_reads_the_workflow() -> None:
    nested = {**each(compute("a", "item ~ inputs.k")), "id": "inner", "items": "item"}
    workflow = compiled(each(nested))
    for key, item in workflow.item_workflows.items():
        catalog = Catalog(STEP_KINDS)
        found = catalog.by_definition(item.definition)
        assert found.item == item.item, key
        assert found.definition == item.definition
        assert catalog.by_definition(item.definition) is found
    assert len({item.definition.hash for item in workflow.item_workflows.values()}) == 2
