"""Stored runs as readers see them, and runs that stand still while they are read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from app.engines.history import History
from app.engines.recovery import RunLoader, StoredRun
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import RunRow
from app.services.explanations import Explanation, explain
from app.services.reasons import Seen
from tests.engines.harness import Bench


async def stored(it: Bench, run_id: str) -> tuple[RunRow, StoredRun]:
    """A run as it is stored."""
    row = await it.store.runs.get("default", run_id)
    run = await RunLoader(it.store, it.catalog).load(run_id)
    assert row is not None
    assert run is not None
    return row, run


async def why(it: Bench, run_id: str, path: str) -> Explanation:
    """Why a step of a stored run is where it is."""
    row, run = await stored(it, run_id)
    return explain(Seen(row, run.workflow, run.history), path)


async def until(it: Bench, run_id: str, holds: Callable[[History], bool]) -> History:
    """The stored run once that holds."""
    async with asyncio.timeout(5):
        while not holds(history := await it.read(run_id)):  # noqa: ASYNC110  the store tells nobody
            await asyncio.sleep(0.01)
    return history


def statuses(**wanted: str) -> Callable[[History], bool]:
    """Whether these steps have these statuses of the core."""

    def holds(history: History) -> bool:
        steps = history.state.steps
        return all(path in steps and steps[path].status == status for path, status in wanted.items())

    return holds


async def stuck(request: ChatRequest, context: CallContext) -> str:
    """An answer that never comes."""
    await asyncio.Event().wait()
    return ""


def transform(step_id: str, expression: str, **more: Any) -> dict[str, Any]:
    """A step that needs nobody."""
    return {"id": step_id, "type": "transform", "expression": expression, **more}
