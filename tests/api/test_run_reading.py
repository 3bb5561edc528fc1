"""What a reader asks of a run over HTTP: as it was, why, graphs, differences, and large runs by parts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.api.v1.schemas.run_reading import RunDiff, RunGraph, StepExplanation, WorkflowGraph
from app.api.v1.schemas.runs import Run
from app.services.step_selection import MOST_NESTED
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow
from tests.services.reading import statuses, stuck, transform, until

UNKNOWN = "0197d6a0-7c1e-7000-8000-00000000dead"
DOCUMENT = workflow(llm("a"), llm("b", "{{ steps.a.text }}"))


def each(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "each", "type": "map", "items": "inputs.numbers", "as": "n", "steps": list(steps), **more}


# --- as it was ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["0", "-1", "x", "1.5", "1000000000000000"])
async def test_a_moment_that_is_no_number_of_an_event_is_refused(service: Api, at: str) -> None:
    run = await service.run(DOCUMENT)
    problem(await service.client.get(f"/v1/runs/{run['id']}?at={at}"), 422, "invalid_request")


async def test_a_moment_past_the_end_is_not_found(service: Api) -> None:
    run = await service.run(DOCUMENT)
    last = len(await service.bench.types(run["id"]))
    answer = await service.client.get(f"/v1/runs/{run['id']}?at={last + 1}")
    assert f"its latest one is {last}" in problem(answer, 404, "event_not_found").detail
    problem(await service.client.get(f"/v1/runs/{UNKNOWN}?at=1"), 404, "run_not_found")


async def test_a_run_is_shown_as_it_was_after_every_one_of_its_events(service: Api) -> None:
    run = await service.run(DOCUMENT)
    url, types = f"/v1/runs/{run['id']}", await service.bench.types(run["id"])
    seen = []
    for seq, kind in enumerate(types, start=1):
        answer = await service.client.get(f"{url}?at={seq}&include=outputs,attempts")
        then = Run.model_validate_json(answer.content)
        seen.append((kind, then.status, *(step.status for step in then.steps)))
        assert then.outputs == (run["outputs"] if kind == "RunCompleted" else None)
        assert (then.steps[0].outputs is not None) == (then.steps[0].status == "completed")
        tag = answer.headers["etag"]
        same = await service.client.get(
            f"{url}?at={seq}&include=outputs,attempts", headers={"if-none-match": tag}
        )
        assert (same.status_code, same.headers["etag"]) == (304, tag)
        other = await service.client.get(f"{url}?at={max(1, seq - 1)}", headers={"if-none-match": tag})
        assert other.status_code == 200
    assert seen == [
        ("RunSubmitted", "pending", "pending", "pending"),
        ("RunStarted", "running", "pending", "pending"),
        ("AttemptStarted", "running", "running", "pending"),
        ("StepSucceeded", "running", "completed", "pending"),
        ("AttemptStarted", "running", "completed", "running"),
        ("StepSucceeded", "running", "completed", "completed"),
        ("RunCompleted", "completed", "completed", "completed"),
    ]
    assert (await service.client.get(f"{url}?at={len(types)}")).json() == (
        await service.client.get(url)
    ).json()


# --- parts of a run -----------------------------------------------------------------------------------


async def test_steps_under_a_place_that_cannot_be_are_not_found(service: Api) -> None:
    run = await service.run(workflow(each(transform("x", "n"))), inputs={"numbers": [1, 2]})
    url = f"/v1/runs/{run['id']}"
    for under in ("eahc", "each[2]", "each[0].y", "each[x]"):
        problem(await service.client.get(url, params={"under": under}), 404, "step_not_found")
    for query in ({"under": ""}, {"depth": "0"}, {"depth": "x"}, {"under": "x" * 3000}):
        problem(await service.client.get(url, params=query), 422, "invalid_request")


async def test_the_steps_of_a_place_and_of_some_levels_are_listed(service: Api) -> None:
    inner = {"id": "fan", "type": "parallel", "tasks": [transform("p", "n"), transform("q", "n")]}
    document = workflow(each(transform("x", "n"), inner), transform("end", "1"))
    run = await service.run(document, inputs={"numbers": list(range(12))})
    url = f"/v1/runs/{run['id']}"

    async def paths(**query: Any) -> list[str]:
        shown = Run.model_validate_json((await service.client.get(url, params=query)).content)
        assert shown.steps_omitted == 0
        return [step.path for step in shown.steps]

    assert len(await paths()) == 2 + 12 * 4
    assert await paths(depth=1) == ["each", "end"]
    assert len(await paths(depth=2)) == 2 + 12 * 2
    assert sorted(await paths(under="each[1]")) == [
        f"each[1].{name}" for name in ("fan", "fan.p", "fan.q", "x")
    ]
    assert sorted(await paths(under="each[1]", depth=1)) == ["each[1].fan", "each[1].x"]
    assert sorted(await paths(under="each[11].fan")) == ["each[11].fan.p", "each[11].fan.q"]
    assert len(await paths(under="each")) == 12 * 4
    assert len(await paths(under="each", depth=1)) == 12 * 2
    assert await paths(under="end") == []


async def test_each_choice_of_steps_has_its_own_tag(service: Api) -> None:
    run = await service.run(workflow(each(transform("x", "n"))), inputs={"numbers": [1, 2]})
    url = f"/v1/runs/{run['id']}"
    queries: list[dict[str, Any]] = [{}, {"under": "each"}, {"under": "each[0]"}, {"depth": 1}]
    tags = [(await service.client.get(url, params=query)).headers["etag"] for query in queries]
    assert len(set(tags)) == len(tags)
    for query, tag in zip(queries, tags, strict=True):
        again = await service.client.get(url, params=query, headers={"if-none-match": tag})
        assert again.status_code == 304


@pytest.mark.timeout(120)
async def test_a_run_of_thousands_of_steps_is_answered_in_part_and_keeps_nobody_waiting() -> None:
    document = workflow(each(transform("x", "n"), transform("y", "steps.x.result"), max_concurrency=100))
    async with api() as service:
        run_id = await service.bench.submit(document, {"numbers": list(range(3000))})
        await service.bench.finish(run_id, seconds=100)
        url = f"/v1/runs/{run_id}"
        answer, turns = await _watched(service, url)
        shown = Run.model_validate_json(answer)
        assert (len(shown.steps), shown.steps_omitted) == (1 + MOST_NESTED, 6000 - MOST_NESTED)
        assert shown.steps[0].path == "each"
        assert turns > 100  # it takes some ten where all of it is done at once
        part = (await service.client.get(url, params={"under": "each[2999]", "include": "outputs"})).json()
        assert [step["outputs"]["result"] for step in part["steps"]] == [2999, 2999]
        graph = RunGraph.model_validate_json((await service.client.get(f"{url}/graph")).content)
        assert len(graph.nodes) == 1 + 20 * 3
        why = (await service.client.get(f"{url}/steps/each[2999].y/why")).json()
        assert why["reason"] == "completed"
        waited = (await service.client.get(url, params={"at": 1500})).json()
        assert waited["status"] == "running"


async def _watched(service: Api, url: str) -> tuple[bytes, int]:
    """The answer, and how often others had their turn meanwhile."""
    reading = asyncio.ensure_future(service.client.get(url))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    return reading.result().content, turns


# --- why ----------------------------------------------------------------------------------------------


async def test_an_unknown_step_or_run_is_not_found(service: Api) -> None:
    run = await service.run(DOCUMENT)
    answer = await service.client.get(f"/v1/runs/{run['id']}/steps/aa/why")
    assert "did you mean 'a'?" in problem(answer, 404, "step_not_found").detail
    problem(await service.client.get(f"/v1/runs/{UNKNOWN}/steps/a/why"), 404, "run_not_found")
    problem(await service.client.get(f"/v1/runs/{run['id']}/steps//why"), 422, "invalid_request")
    for odd in ("a%2Fb", "each%5B0%5D.x", "%00", "%22"):
        problem(await service.client.get(f"/v1/runs/{run['id']}/steps/{odd}/why"), 404, "step_not_found")


async def test_a_path_with_dots_and_brackets_is_explained(service: Api) -> None:
    document = workflow(each(transform("x", "n", condition="n > 1")))
    run = await service.run(document, inputs={"numbers": [1, 2]})
    url = f"/v1/runs/{run['id']}"
    for path in ("each[0].x", "each%5B0%5D.x"):
        answer = await service.client.get(f"{url}/steps/{path}/why")
        why = StepExplanation.model_validate_json(answer.content)
        assert (why.path, why.type, why.status, why.reason) == (
            "each[0].x",
            "transform",
            "skipped",
            "condition",
        )
        assert why.see == {"run": url, "graph": f"{url}/graph", "events": f"{url}/events"}


async def test_a_step_that_is_called_why_is_explained(service: Api) -> None:
    run = await service.run(workflow(transform("why", "1")))
    answer = await service.client.get(f"/v1/runs/{run['id']}/steps/why/why")
    assert answer.json()["path"] == "why"


async def test_what_is_waited_for_can_be_followed(service: Api) -> None:
    rest = workflow({"id": "rest", "type": "wait", "seconds": 60}, name="child")
    assert (await service.client.post("/v1/workflows", json={**rest, "name": "child"})).status_code == 201
    document = workflow(
        {"id": "call", "type": "workflow", "workflow": "child"},
        {"id": "ok", "type": "approval", "message": "send it?"},
    )
    run_id = (await service.client.post("/v1/runs", json={"workflow": document})).json()["id"]
    await until(service.bench, run_id, statuses(call="waiting", ok="waiting"))
    url = f"/v1/runs/{run_id}/steps"
    ok = (await service.client.get(f"{url}/ok/why")).json()
    assert (await service.client.get(ok["see"]["approval"])).json()["message"] == "send it?"
    child = (await service.client.get(f"{url}/call/why")).json()["details"]["run_id"]
    await until(service.bench, child, statuses(rest="waiting"))
    call = (await service.client.get(f"{url}/call/why")).json()
    assert call["details"]["run_status"] in {"running", "waiting"}
    assert (await service.client.get(call["see"]["child"])).json()["workflow"] == "child"


# --- graphs -------------------------------------------------------------------------------------------


async def test_a_graph_of_what_is_not_there_is_not_found(service: Api) -> None:
    problem(await service.client.get(f"/v1/runs/{UNKNOWN}/graph"), 404, "run_not_found")
    problem(await service.client.get("/v1/workflows/no/versions/1/graph"), 404, "workflow_not_found")
    run = await service.run(DOCUMENT)
    answer = await service.client.get(f"/v1/runs/{run['id']}/graph?parts=101")
    problem(answer, 422, "invalid_request")


async def test_a_graph_shows_the_run_and_changes_its_tag_with_it() -> None:
    async with api(script=stuck) as service:
        run_id = await service.bench.submit(DOCUMENT)
        await until(service.bench, run_id, statuses(a="running"))
        answer = await service.client.get(f"/v1/runs/{run_id}/graph")
        graph = RunGraph.model_validate_json(answer.content)
        assert (graph.status, [(node.id, node.status) for node in graph.nodes]) == (
            "running",
            [("a", "running"), ("b", "pending")],
        )
        assert [(edge.source, edge.target, edge.kind) for edge in graph.edges] == [("a", "b", "dependency")]
        headers = {"if-none-match": answer.headers["etag"]}
        assert (await service.client.get(f"/v1/runs/{run_id}/graph", headers=headers)).status_code == 304
        other = await service.client.get(f"/v1/runs/{run_id}/graph?parts=3", headers=headers)
        assert other.status_code == 200
        await service.client.post(f"/v1/runs/{run_id}/cancel")
        await service.bench.finish(run_id)
        after = await service.client.get(f"/v1/runs/{run_id}/graph", headers=headers)
        assert (after.status_code, after.json()["status"]) == (200, "cancelled")


async def test_a_registered_version_is_drawn_without_state(service: Api) -> None:
    await service.client.post("/v1/workflows", json={**DOCUMENT, "version": "2"})
    answer = await service.client.get("/v1/workflows/test/versions/2/graph")
    graph = WorkflowGraph.model_validate_json(answer.content)
    assert (graph.workflow, graph.version) == ("test", "2")
    assert [(node.id, node.status) for node in graph.nodes] == [("a", None), ("b", None)]
    headers = {"if-none-match": answer.headers["etag"]}
    again = await service.client.get("/v1/workflows/test/versions/2/graph", headers=headers)
    assert again.status_code == 304


# --- differences --------------------------------------------------------------------------------------


async def test_a_run_that_is_not_there_is_not_compared(service: Api) -> None:
    run = await service.run(DOCUMENT)
    for a, b in ((run["id"], UNKNOWN), (UNKNOWN, run["id"])):
        problem(await service.client.get(f"/v1/runs/{a}/diff/{b}"), 404, "run_not_found")
    problem(await service.client.get(f"/v1/runs/{run['id']}/diff/x"), 422, "invalid_request")


async def test_two_runs_are_compared(service: Api) -> None:
    first = await service.run(workflow(transform("a", "inputs.n + 1")), inputs={"n": 1})
    second = await service.run(workflow(transform("a", "inputs.n + 2")), inputs={"n": 1})
    answer = await service.client.get(f"/v1/runs/{first['id']}/diff/{second['id']}")
    diff = RunDiff.model_validate_json(answer.content)
    assert (diff.same, diff.definition.same, diff.inputs.same, diff.outputs.same) == (
        False,
        False,
        True,
        False,
    )
    (written,) = diff.definition.steps
    assert [(one.pointer, one.a, one.b) for one in written.keys.changes] == [
        ("/expression", "inputs.n + 1", "inputs.n + 2")
    ]
    assert [(one.pointer, one.a, one.b) for one in diff.outputs.changes] == [("/a", 2, 3)]
    itself = await service.client.get(f"/v1/runs/{first['id']}/diff/{first['id']}")
    assert itself.json()["same"] is True
