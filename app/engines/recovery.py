"""A run out of its journal, ready to go on: the normal path, entered again."""

from __future__ import annotations

from dataclasses import dataclass

from app.core import events as e
from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.engines.codec import decode
from app.engines.history import History, fold
from app.ports.errors import StoreError
from app.ports.runs import JournalRow, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as the journal has it."""

    workflow: CompiledWorkflow
    history: History


class RunLoader:
    """Folds stored runs; definitions are compiled once and cached."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog

    async def load(self, run_id: str) -> StoredRun | None:
        """The run, or None if there is none. Raises `StoreError` if its definition is gone."""
        rows = await self._store.journal.read(run_id)
        if not rows:
            return None
        workflow = await self._workflow(rows[0])
        return StoredRun(workflow=workflow, history=fold(run_id, workflow.plan, rows))

    async def _workflow(self, first: JournalRow) -> CompiledWorkflow:
        event, data = decode(first)
        if not isinstance(event, e.RunSubmitted) or data is None:
            raise StoreError(f"the journal of run {first.run_id!r} does not begin with its submission")
        definition = await self._store.runs.definition(data["definition"])
        if definition is None:
            raise StoreError(f"the definition {data['definition']!r} of run {first.run_id!r} is not stored")
        return self._catalog.by_definition(definition)
