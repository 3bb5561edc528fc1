"""A run out of its journal, ready to go on: the normal path, entered again."""

from __future__ import annotations

from dataclasses import dataclass

from app.core import events as e
from app.core.scheduler import in_flight
from app.core.transitions import InvalidTransition
from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.engines.approvals import ApprovalBook
from app.engines.codec import decode, encode
from app.engines.history import History, fold
from app.engines.identity import RunIdentity
from app.ports.errors import DefinitionInvalid, StoreError
from app.ports.runs import JournalRow, StatusChange, Store
from app.ports.turns import computed

SMALL_DOCUMENT = 16_384
"""Bytes of a definition that is compiled on the spot; a larger one goes to a thread."""


class UnreadableRun(StoreError):
    """The journal or the definition of a run cannot be understood by this version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as the journal has it."""

    workflow: CompiledWorkflow
    history: History

    @property
    def identity(self) -> RunIdentity:
        """Whose run it is, by its journal."""
        history = self.history
        called = history.submitted.get("caller") or {}
        return RunIdentity(
            run_id=history.state.run_id,
            tenant=history.tenant,
            workflow=self.workflow.name,
            labels=history.submitted.get("labels") or {},
            priority=history.submitted.get("priority") or 0,
            caller=called.get("run_id"),
            depth=called.get("depth", 0),
            awaited_by=tuple(called.get("awaited_by", ())),
            concurrency_key=history.submitted.get("concurrency_key"),
        )


class RunLoader:
    """Folds stored runs; definitions are compiled once and cached."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog

    async def load(self, run_id: str) -> StoredRun | None:
        """The run, or None if there is none. Raises `UnreadableRun`, `StoreUnavailable`."""
        rows = await self._store.journal.read(run_id)
        if not rows:
            return None
        try:
            workflow = await self._workflow(rows[0])
            return StoredRun(workflow=workflow, history=fold(run_id, workflow.plan, rows))
        except (DefinitionInvalid, InvalidTransition, ValueError, TypeError, KeyError) as error:
            raise UnreadableRun(
                f"run {run_id!r} cannot be read by this version ({type(error).__name__}): {error}"
            ) from error

    async def _workflow(self, first: JournalRow) -> CompiledWorkflow:
        event, data = decode(first)
        if not isinstance(event, e.RunSubmitted) or data is None:
            raise UnreadableRun(f"the journal of run {first.run_id!r} does not begin with its submission")
        definition = await self._store.runs.definition(data["definition"])
        if definition is None:
            raise UnreadableRun(f"the definition of run {first.run_id!r} is not stored")
        if len(definition.document) <= SMALL_DOCUMENT:
            return self._catalog.by_definition(definition)
        return await computed(self._catalog.by_definition, definition)

    async def give_up(self, run_id: str, end: e.RunFailed) -> StoredRun | None:
        """End a stored run as failed, whatever was in flight; None if it has ended.

        Raises as `load`, and `Fenced`.
        """
        stored = await self.load(run_id)
        if stored is None or stored.history.state.terminal:
            return None
        history = stored.history
        approvals = ApprovalBook(stored.identity, history)
        events: list[e.Event] = [
            e.AttemptLost(path=path, attempt=attempt, at=end.at) for path, attempt in in_flight(history.state)
        ]
        rows = []
        for event in [*events, end]:
            history.apply(event)
            rows.append(encode(run_id, history.seq, event))
        change = StatusChange(
            status=history.status,
            finished_at=end.at,
            wakes=stored.identity.caller,
            approvals=approvals.changes(history.state),
        )
        await self._store.journal.append(rows, change)
        return stored
