"""Graphs: everything of the definition is there, what is there in the run has its state, size is bounded."""

from __future__ import annotations

from typing import Any

from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatRequest
from app.services.graph_views import Graph, GraphNode
from app.services.graphs import run_graph, workflow_graph
from tests.engines.harness import Bench, bench, llm, workflow
from tests.services.reading import statuses, stored, stuck, transform, until

ROUTE: dict[str, Any] = {
    "id": "route",
    "type": "branch",
    "condition": "inputs.kind",
    "branches": {"short": [transform("say", "1")], "long": [transform("say", "2"), transform("more", "3")]},
    "default": [transform("say", "4")],
}


def each(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "each", "type": "map", "items": "inputs.numbers", "as": "n", "steps": list(steps), **more}


async def graph_of(it: Bench, run_id: str, parts: int = 20) -> Graph:
    _, run = await stored(it, run_id)
    return run_graph(run.workflow, run.history, parts=parts)


def by_id(graph: Graph) -> dict[str, GraphNode]:
    found = {node.id: node for node in graph.nodes}
    assert len(found) == len(graph.nodes), "ids are unique"
    seen: set[str] = set()
    for node in graph.nodes:
        assert node.parent is None or node.parent in seen, "parents come first"
        seen.add(node.id)
    for edge in graph.edges:
        assert found[edge.source].parent == found[edge.target].parent
    return found


async def test_a_definition_is_drawn_with_every_case_body_and_stage() -> None:
    document = workflow(
        transform("a", "1", output="first"),
        {**ROUTE, "depends_on": "a", "condition": "outputs.first"},
        each(transform("x", "n"), transform("y", "steps.x.result", condition="steps.x.result > 1")),
        transform("b", "1", condition="outputs.first == 1 and outputs.a == 1", depends_on="each"),
        **{"on_failure": [transform("alarm", "1")], "finally": [transform("tidy", "1")]},
    )
    async with bench() as it:
        graph = workflow_graph(it.catalog.compile(document))
    nodes = by_id(graph)
    assert list(nodes) == [
        "a",
        "route",
        "route[short].say",
        "route[long].say",
        "route[long].more",
        "route[default].say",
        "each",
        "each[].x",
        "each[].y",
        "b",
        "on_failure.alarm",
        "finally.tidy",
    ]
    assert {node.status for node in graph.nodes} == {None}
    assert (nodes["route[default].say"].case, nodes["route[default].say"].parent) == ("default", "route")
    assert [nodes[one].stage for one in ("a", "on_failure.alarm", "finally.tidy")] == [
        "main",
        "on_failure",
        "finally",
    ]
    assert nodes["each[].y"].conditional
    assert {(edge.source, edge.target, edge.kind) for edge in graph.edges} == {
        ("a", "route", "dependency"),
        ("each[].x", "each[].y", "condition"),
        ("a", "b", "condition"),
        ("each", "b", "dependency"),
    }


async def test_the_case_that_ran_has_the_paths_of_the_run_and_the_others_are_skipped() -> None:
    async with bench() as it:
        run_id = await it.submit(workflow(ROUTE), {"kind": "long"})
        await it.finish(run_id)
        nodes = by_id(await graph_of(it, run_id))
    assert {name: node.status for name, node in nodes.items()} == {
        "route": "completed",
        "route[short].say": "skipped",
        "route.say": "completed",
        "route.more": "completed",
        "route[default].say": "skipped",
    }
    assert (nodes["route"].taken, nodes["route.say"].case) == ("long", "long")
    started, finished = nodes["route.say"].started_at, nodes["route.say"].finished_at
    assert started is not None
    assert finished is not None
    assert started <= finished
    assert nodes["route.say"].attempt == 1


async def test_items_are_counted_and_the_first_and_the_failed_are_drawn() -> None:
    async def unlucky(request: ChatRequest, context: CallContext) -> str:
        if context.path == "each[40].x":
            raise PermanentError("invalid_request", "no")
        return "fine"

    async with bench(script=unlucky) as it:
        run_id = await it.submit(
            workflow(each(llm("x"), on_item_error="continue")), {"numbers": list(range(50))}
        )
        await it.finish(run_id)
        nodes = by_id(await graph_of(it, run_id, parts=2))
        few = by_id(await graph_of(it, run_id, parts=0))
    assert list(nodes) == ["each", "each[0]", "each[0].x", "each[1]", "each[1].x", "each[40]", "each[40].x"]
    parts = nodes["each"].parts
    assert parts is not None
    assert (parts.total, parts.by_status, parts.omitted) == (50, {"completed": 49, "failed": 1}, 47)
    assert (nodes["each[40]"].type, nodes["each[40]"].index, nodes["each[40]"].status) == (
        "item",
        40,
        "failed",
    )
    assert list(few) == ["each", "each[].x"]


async def test_a_run_under_way_shows_what_is_open_and_what_is_to_come() -> None:
    loop = {"id": "again", "type": "loop", "max_iterations": 3, "until": "false", "steps": [llm("z")]}
    document = workflow(
        each(llm("x"), ROUTE, max_concurrency=1), {**loop, "depends_on": "each"}, transform("b", "1")
    )
    async with bench(script=stuck) as it:
        run_id = await it.submit(document, {"numbers": [1, 2, 3], "kind": "short"})
        await until(it, run_id, statuses(**{"each[0].x": "running", "b": "completed"}))
        nodes = by_id(await graph_of(it, run_id))
    parts = nodes["each"].parts
    assert parts is not None
    assert parts.by_status == {"pending": 2, "running": 1}
    assert nodes["each[0].x"].status == "running"
    assert nodes["each[0].route"].status == "completed"
    assert nodes["each[0].route[long].more"].status == "skipped"
    assert (nodes["again"].status, nodes["again"].parts) == ("pending", None)
    assert (nodes["again[].z"].status, nodes["again[].z"].path) == ("pending", None)


async def test_iterations_and_stages_of_an_ended_run() -> None:
    loop = {"id": "again", "type": "loop", "max_iterations": 2, "steps": [transform("z", "loop.index")]}
    handlers: dict[str, Any] = {"on_failure": [transform("alarm", "1")], "finally": [transform("tidy", "1")]}
    async with bench() as it:
        run_id = await it.submit(workflow(loop, **handlers))
        await it.finish(run_id)
        nodes = by_id(await graph_of(it, run_id))
    assert [(name, node.type, node.status) for name, node in nodes.items()] == [
        ("again", "loop", "completed"),
        ("again[0]", "iteration", "completed"),
        ("again[0].z", "transform", "completed"),
        ("again[1]", "iteration", "completed"),
        ("again[1].z", "transform", "completed"),
        ("on_failure.alarm", "transform", "skipped"),
        ("finally.tidy", "transform", "completed"),
    ]


async def test_maps_within_maps_stay_bounded() -> None:
    inner = {"id": "deep", "type": "map", "items": "inputs.numbers", "steps": [transform("y", "n")]}
    document = workflow(each(inner, max_concurrency=50))
    async with bench() as it:
        run_id = await it.submit(document, {"numbers": list(range(60))})
        await it.finish(run_id, seconds=30)
        graph = await graph_of(it, run_id, parts=100)
    assert len(graph.nodes) <= 6_000 + 200
    by_id(graph)
