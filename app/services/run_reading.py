"""Use cases around what a reader asks of a run: why a step is where it is, its graph, how it differs.

The answers are made by pure functions of folded runs; here is who may ask, what is read for it, and that
the event loop goes on meanwhile. Another tenant's run is `RunNotFound`, as one that never was.
"""

from __future__ import annotations

from dataclasses import replace

from app.engines.recovery import StoredRun
from app.ports.runs import RunRow, Store
from app.ports.turns import computed
from app.services.definitions import SMALL_STEPS, Definitions
from app.services.diffs import RunDiff, diff_runs
from app.services.explanations import Explanation, explain
from app.services.graph_views import Graph
from app.services.graphs import run_graph, workflow_graph
from app.services.principal import Principal
from app.services.reasons import Seen
from app.services.run_reader import aside
from app.services.runs import RunService
from app.services.workflows import not_registered


class RunReadingService:
    """Reading of the runs of a store."""

    def __init__(self, *, store: Store, runs: RunService, definitions: Definitions) -> None:
        self._store = store
        self._runs = runs
        self._definitions = definitions

    async def why(self, principal: Principal, run_id: str, path: str) -> Explanation:
        """Why a step is where it is. Raises `RunNotFound`, `StepNotFound`."""
        row, stored = await self._runs.load(principal, run_id)
        answer = await aside(stored.history, _explained, row, stored, path)
        child = answer.see.get("child")
        if child is None:
            return answer
        called = await self._store.runs.get(principal.tenant, child.id)
        status = None if called is None else called.status
        return replace(answer, details={**answer.details, "run_status": status})

    async def graph(
        self, principal: Principal, run_id: str, *, parts: int
    ) -> tuple[RunRow, StoredRun, Graph]:
        """The graph of a run with the state of its steps. Raises `RunNotFound`."""
        row, stored = await self._runs.load(principal, run_id)
        graph = await aside(stored.history, run_graph, stored.workflow, stored.history, parts=parts)
        return row, stored, graph

    async def workflow_graph(self, principal: Principal, name: str, version: str) -> tuple[Graph, str]:
        """The graph of a registered version, and the hash of its definition. Raises `WorkflowNotFound`."""
        row = await self._store.workflows.get(principal.tenant, name, version)
        if row is None:
            raise await not_registered(self._store.workflows, principal.tenant, name, version)
        workflow = await self._definitions.workflow(row.definition_hash)
        if len(workflow.steps) <= SMALL_STEPS:
            return workflow_graph(workflow), row.definition_hash
        return await computed(workflow_graph, workflow), row.definition_hash

    async def diff(self, principal: Principal, run_id: str, other_id: str) -> RunDiff:
        """How two runs differ. Raises `RunNotFound`."""
        a = await self._runs.load(principal, run_id)
        b = a if other_id == run_id else await self._runs.load(principal, other_id)
        return await computed(diff_runs, a, b)


def _explained(row: RunRow, stored: StoredRun, path: str) -> Explanation:
    return explain(Seen(row, stored.workflow, stored.history), path)
