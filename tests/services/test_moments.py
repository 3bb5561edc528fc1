"""At every moment of a run every step has a reason and a place in the graph, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, get_args

import pytest

from app.api.v1.run_reading_rendering import render_diff, render_explanation, render_graph
from app.api.v1.schemas.run_reading import RunDiff, RunGraph, StepExplanation
from app.engines.recovery import StoredRun
from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import RunRow
from app.services.definitions import Definitions
from app.services.diffs import diff_runs
from app.services.explanations import explain
from app.services.graphs import run_graph
from app.services.reasons import REASONS, Reason, Seen
from app.services.run_reader import RunReader
from tests.engines.harness import Bench, bench, llm, workflow
from tests.services.reading import statuses, transform, until

EVERYTHING: dict[str, Any] = workflow(
    transform("a", "1", condition="inputs.on"),
    transform("off", "1", condition="not inputs.on"),
    transform("after", "1", depends_on="off"),
    {
        "id": "each",
        "type": "map",
        "items": "inputs.numbers",
        "as": "n",
        "max_concurrency": 2,
        "on_item_error": "continue",
        "steps": [
            llm("say", "{{ n }}"),
            {
                "id": "route",
                "type": "branch",
                "condition": "n % 2",
                "branches": {"0": [transform("even", "n")], "1": [transform("odd", "n")]},
            },
        ],
        "depends_on": "a",
    },
    {
        "id": "again",
        "type": "loop",
        "max_iterations": 3,
        "until": "loop.index == 1",
        "steps": [
            {"id": "fan", "type": "parallel", "max_concurrency": 1, "tasks": [llm("x"), llm("y")]},
        ],
    },
    {"id": "ok", "type": "approval", "message": "?", "timeout_seconds": 0.05, "on_timeout": "approve"},
    {"id": "rest", "type": "wait", "seconds": 0.05},
    llm("value", on_error={"action": "continue", "value": "-"}),
    llm("bad", depends_on="each"),
    transform("never", "1", depends_on="bad"),
    transform("rescue", "1", depends_on="bad", run_on="failure"),
    {"id": "slow", "type": "map", "items": "[1]", "timeout_seconds": 0.1, "steps": [llm("stuck")]},
    max_concurrency=3,
    on_failure=[transform("alarm", "1")],
    **{"finally": [transform("tidy", "1")]},
)
INPUTS = {"on": True, "numbers": [1, 2, 3, 4]}


async def troubled(request: ChatRequest, context: CallContext) -> str:
    """Retries, failures of items and of steps, and a step that never ends."""
    if context.path.endswith("stuck"):
        await asyncio.Event().wait()
    if context.path.endswith("say") and context.attempt == 1:
        raise TemporaryError("rate_limit", "slow down")
    if context.path in {"each[1].say", "value", "bad"}:
        raise PermanentError("invalid_request", "no")
    return "fine"


async def moments(it: Bench, run_id: str) -> list[tuple[RunRow, StoredRun]]:
    """The run as it was after each of its events."""
    row = await it.store.runs.get("default", run_id)
    assert row is not None
    reader = RunReader(it.store.journal, Definitions(it.store.runs, it.catalog))
    found = []
    for seq in range(1, len(await it.store.journal.read(run_id)) + 1):
        stored = await reader.read(run_id, upto=seq)
        assert stored is not None
        assert stored.history.seq == seq
        found.append((row, stored))
    return found


def reasons_at(row: RunRow, stored: StoredRun) -> Counter[str]:
    """The reasons of all steps of the graph, which must be drawn as their explanations say."""
    graph = run_graph(stored.workflow, stored.history)
    head = {
        "run_id": row.id,
        "workflow": row.workflow,
        "version": row.version,
        "status": stored.history.status,
        "seq": stored.history.seq,
    }
    RunGraph.model_validate_json(render_graph(head, graph))
    ids = {node.id for node in graph.nodes}
    assert len(ids) == len(graph.nodes)
    assert {end for edge in graph.edges for end in (edge.source, edge.target)} <= ids
    assert set(stored.history.state.steps) <= ids
    seen = Seen(row, stored.workflow, stored.history)
    found: Counter[str] = Counter()
    for node in graph.nodes:
        if node.path is None or node.type in {"item", "iteration"}:
            continue
        why = explain(seen, node.path)
        StepExplanation.model_validate_json(render_explanation(why))
        if node.id == node.path:
            assert (node.path, why.status, why.type) == (node.path, node.status, node.type)
        assert node.path not in {cause.path for cause in why.caused_by}
        found[why.reason] += 1
    return found


@pytest.mark.parametrize("end", ["by itself", "cancelled", "timed out"])
async def test_every_step_is_explained_at_every_moment(end: str) -> None:
    async with bench(script=troubled) as it:
        timeout = 0.08 if end == "timed out" else None
        run_id = await it.submit(EVERYTHING, INPUTS, timeout_seconds=timeout)
        if end == "cancelled":
            await until(it, run_id, statuses(**{"slow[0].stuck": "running"}))
            await it.engine.cancel(run_id, reason="withdrawn")
        await it.finish(run_id)
        passed = await moments(it, run_id)
    found: Counter[str] = Counter()
    for row, stored in passed:
        found += reasons_at(row, stored)
    assert set(found) <= set(REASONS)
    if end == "by itself":
        met = {
            "run_pending",
            "dependencies",
            "evaluating_condition",
            "turn_in_block",
            "run_slots",
            "entering",
            "running",
            "retrying",
            "deciding",
            "steps_within",
            "checking_loop",
            "waiting_until",
            "approval",
            "collecting",
            "stopping",
            "completed",
            "recovered",
            "failed",
            "condition",
            "upstream_skipped",
            "upstream_failed",
            "block_timed_out",
            "block_not_begun",
            "other_case_taken",
            "stage_not_reached",
        }
        assert met <= set(found)
    first, last = passed[0], passed[-1]
    RunDiff.model_validate_json(render_diff(diff_runs(first, last)))


def test_the_reasons_are_those_of_the_schema() -> None:
    assert get_args(Reason) == REASONS
    assert len(set(REASONS)) == len(REASONS)


async def test_a_run_that_waits_for_others_of_its_key_tells_the_limit() -> None:
    go = asyncio.Event()

    async def held(request: ChatRequest, context: CallContext) -> str:
        await go.wait()
        return "done"

    document = workflow(llm("a"), concurrency={"key": "{{ inputs.who }}", "limit": 1})
    async with bench(script=held) as it:
        await it.submit(document, {"who": "ada"})
        second = await it.submit(document, {"who": "ada"})
        ((row, stored),) = await moments(it, second)
        why = explain(Seen(row, stored.workflow, stored.history), "a")
        go.set()
    assert (why.reason, why.details["concurrency"]) == ("run_pending", {"limit": 1, "key": "ada"})
