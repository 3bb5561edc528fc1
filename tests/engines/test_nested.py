"""Control steps from the document to the outputs, through the whole engine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines.harness import bench, llm, workflow


def transform(step_id: str, expression: str, **more: Any) -> dict[str, Any]:
    return {"id": step_id, "type": "transform", "expression": expression, **more}


async def outputs_of(document: dict[str, Any], inputs: dict[str, Any] | None = None) -> Any:
    async with bench() as it:
        history = await it.finish(await it.submit(document, inputs or {}))
        assert history.status == "completed", history.failure
        return history.outputs


async def failure_of(
    document: dict[str, Any], inputs: dict[str, Any] | None = None
) -> tuple[str, str | None]:
    async with bench() as it:
        history = await it.finish(await it.submit(document, inputs or {}))
        assert history.status == "failed"
        assert history.failure is not None
        return history.failure.error_class, history.failed_path


BRANCH = workflow(
    {
        "id": "route",
        "type": "branch",
        "condition": "inputs.kind",
        "branches": {
            "short": [transform("say", "'brief'")],
            "long": [transform("first", "'a'"), transform("say", "steps.first.result ~ 'b'")],
        },
        "default": [transform("other", "'?'")],
    },
    outputs={"taken": "{{ steps.route.taken }}", "said": "{{ steps.route.say | default(none) }}"},
)


@pytest.mark.parametrize(
    ("kind", "taken", "said"),
    [("short", "short", "brief"), ("long", "long", "ab"), ("else", "default", None), (3, "default", None)],
)
async def test_a_branch_runs_the_case_of_its_selector(kind: Any, taken: str, said: str | None) -> None:
    assert await outputs_of(BRANCH, {"kind": kind}) == {"taken": taken, "said": said}


async def test_a_selector_that_is_no_name_of_a_case_fails_the_step() -> None:
    assert await failure_of(BRANCH, {"kind": ["short"]}) == ("invalid_config", "route")


async def test_a_parallel_step_brings_first_outputs_by_task() -> None:
    document = workflow(
        {"id": "fan", "type": "parallel", "tasks": [transform("a", "1"), transform("b", "2")]},
        outputs={"sum": "{{ steps.fan.a + steps.fan.b }}", "all": "{{ outputs.fan }}"},
    )
    assert await outputs_of(document) == {"sum": 3, "all": {"a": 1, "b": 2}}


def mapping(**more: Any) -> dict[str, Any]:
    return workflow(
        {
            "id": "each",
            "type": "map",
            "items": "inputs.numbers",
            "as": "n",
            "max_concurrency": 2,
            "steps": [transform("half", "100 // n"), transform("text", "steps.half.result ~ '@' ~ index")],
            **more,
        },
        outputs={"results": "{{ steps.each.results }}", "errors": "{{ steps.each.errors | length }}"},
    )


async def test_a_map_keeps_the_order_of_its_items() -> None:
    brought = await outputs_of(mapping(), {"numbers": [1, 2, 5, 4]})
    assert brought == {"results": ["100@0", "50@1", "20@2", "25@3"], "errors": 0}


async def test_a_map_over_nothing_is_completed() -> None:
    assert await outputs_of(mapping(), {"numbers": []}) == {"results": [], "errors": 0}


async def test_an_item_that_fails_fails_the_map_with_the_path_of_its_step() -> None:
    assert await failure_of(mapping(), {"numbers": [1, 0]}) == ("template", "each[1].half")


@pytest.mark.parametrize(("policy", "results"), [("continue", ["100@0", None]), ("drop", ["100@0"])])
async def test_failed_items_are_null_or_left_out(policy: str, results: list[Any]) -> None:
    brought = await outputs_of(mapping(on_item_error=policy), {"numbers": [1, 0]})
    assert brought == {"results": results, "errors": 1}


async def test_a_list_that_is_none_fails_the_map() -> None:
    assert await failure_of(mapping(), {"numbers": {"a": 1}}) == ("invalid_config", "each")


async def test_a_loop_goes_on_until_its_condition_holds() -> None:
    document = workflow(
        {
            "id": "again",
            "type": "loop",
            "max_iterations": 9,
            "until": "steps.count.result >= 3",
            "steps": [transform("count", "loop.last.count | default(0) + 1")],
        },
        outputs={"last": "{{ steps.again.last.count }}", "turns": "{{ steps.again.iterations }}"},
    )
    assert await outputs_of(document) == {"last": 3, "turns": 3}


async def test_steps_nest_in_each_other_and_see_what_is_around_them() -> None:
    document = workflow(
        transform("base", "10"),
        {
            "id": "rows",
            "type": "map",
            "items": "{{ [[1, 2], [3]] }}",
            "as": "row",
            "steps": [
                {
                    "id": "cells",
                    "type": "map",
                    "items": "row",
                    "steps": [
                        {
                            "id": "route",
                            "type": "branch",
                            "condition": "{{ 'odd' if item % 2 else 'even' }}",
                            "branches": {
                                "odd": [transform("value", "steps.base.result * item")],
                                "even": [transform("value", "item")],
                            },
                        },
                        transform("out", "steps.route.value"),
                    ],
                }
            ],
        },
        outputs={"rows": "{{ steps.rows.results }}"},
    )
    assert await outputs_of(document) == {"rows": [[10, 2], [30]]}


async def test_on_failure_and_finally_see_how_the_run_went() -> None:
    document = workflow(
        transform("bad", "1 // 0"),
        on_failure=[transform("note", "run.error.path ~ ' ' ~ run.status")],
        **{"finally": [transform("clean", "run.status")]},
    )
    async with bench() as it:
        history = await it.finish(await it.submit(document, {}))
    assert history.status == "failed"
    assert history.steps["on_failure.note"].outputs == {"result": "bad failed"}
    assert history.steps["finally.clean"].outputs == {"result": "failed"}


async def test_a_failed_block_can_be_overcome() -> None:
    document = workflow(
        {
            "id": "fan",
            "type": "parallel",
            "tasks": [transform("a", "1 // 0")],
            "on_error": {"action": "continue", "value": {"a": 7}},
        },
        transform("after", "outputs.fan"),
        outputs={"after": "{{ steps.after.result }}"},
    )
    assert (await outputs_of(document))["after"] is not None


async def test_a_model_can_be_asked_in_a_block() -> None:
    document = workflow(
        {"id": "fan", "type": "parallel", "tasks": [llm("a"), llm("b")]},
        outputs={"a": "{{ steps.fan.a }}"},
    )
    assert (await outputs_of(document))["a"]


async def test_an_item_that_ends_with_a_branch_comes_to_what_its_case_did() -> None:
    document = workflow(
        {
            "id": "each",
            "type": "map",
            "items": "{{ [1, 2, 3] }}",
            "steps": [
                {
                    "id": "route",
                    "type": "branch",
                    "condition": "{{ item }}",
                    "branches": {"1": [transform("say", "'one'")], "2": [transform("tell", "'two'")]},
                }
            ],
        },
        outputs={"results": "{{ steps.each.results }}"},
    )
    assert await outputs_of(document) == {"results": ["one", "two", None]}
