"""Use cases around registered workflows: register, read, list, delete, validate.

Versions are immutable: registering the same content again is no change, another content under the same
version is refused. Every read takes the principal's tenant.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.dsl.loader import Format
from app.ports.clock import Clock
from app.ports.errors import AlreadyExists
from app.ports.runs import Store, WorkflowRow
from app.services.cursors import fingerprint, read_cursor, write_cursor
from app.services.definitions import Definitions, compile_aside
from app.services.errors import VersionMismatch, VersionTaken, WorkflowInUse, WorkflowNotFound
from app.services.idempotency import Answer, Idempotency, IdempotencyKey
from app.services.principal import Principal
from app.services.views import WorkflowSummary, WorkflowView, workflow_summary, workflow_view


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowPage:
    """A page of versions."""

    items: list[WorkflowSummary]
    next_cursor: str | None


Receipt = Callable[[WorkflowView, bool], Answer]
"""Writes the answer to a registration; True: the version is new."""


def entity_tag(definition_hash: str) -> str:
    """The strong ETag (RFC 9110) of a version: equal tag, equal definition."""
    return f'"{definition_hash[:32]}"'


class WorkflowService:
    """Registered workflows."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        clock: Clock,
        idempotency: Idempotency,
        definitions: Definitions,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._definitions = definitions
        self._clock = clock
        self._idempotency = idempotency

    # --- write ----------------------------------------------------------------------------------------

    async def register(
        self,
        principal: Principal,
        source: bytes,
        format: Format,
        receipt: Receipt,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """Store a version; the answer, and whether it was given before.

        Raises `DefinitionInvalid`, `VersionTaken`, `IdempotencyKeyReused`, `IdempotencyKeyInUse`,
        `StoreUnavailable`.
        """
        with self._idempotency.hold(principal.tenant, key) if key else nullcontext():
            if key and (earlier := await self._idempotency.earlier(principal.tenant, key)):
                return earlier, True
            workflow = await compile_aside(self._catalog, source, format=format)
            existing = await self._existing(principal, workflow)
            if existing is None:
                try:
                    return await self._store_version(principal, workflow, receipt, key), False
                except AlreadyExists:
                    if key and (earlier := await self._idempotency.earlier(principal.tenant, key)):
                        return earlier, True
                    existing = await self._existing(principal, workflow)
            if existing is None or existing.definition_hash != workflow.definition.hash:
                raise VersionTaken(
                    f"version {workflow.version!r} of {workflow.name!r} exists with another content; "
                    "versions are immutable, register this one under another version"
                )
            answer = receipt(workflow_view(existing, workflow), False)
            if key:
                await self._idempotency.save(principal.tenant, key, answer)
            return answer, False

    async def _existing(self, principal: Principal, workflow: CompiledWorkflow) -> WorkflowRow | None:
        return await self._store.workflows.get(principal.tenant, workflow.name, workflow.version)

    async def _store_version(
        self,
        principal: Principal,
        workflow: CompiledWorkflow,
        receipt: Receipt,
        key: IdempotencyKey | None,
    ) -> Answer:
        """The answer is stored with the version, so it is written before the store gives a revision."""
        newest = await self._store.workflows.get(principal.tenant, workflow.name)
        row = WorkflowRow(
            tenant=principal.tenant,
            name=workflow.name,
            version=workflow.version,
            revision=newest.revision + 1 if newest else 1,
            definition_hash=workflow.definition.hash,
            description=workflow.description,
            labels=workflow.labels,
            created_at=self._clock.now(),
        )
        answer = receipt(workflow_view(row, workflow), True)
        record = self._idempotency.record(principal.tenant, key, answer) if key else None
        stored = await self._store.workflows.register(row, workflow.definition, record)
        if key or stored == row:
            return answer
        return receipt(workflow_view(stored, workflow), True)

    async def delete(self, principal: Principal, name: str, *, if_match: str | None) -> None:
        """Forget every version. Raises `WorkflowNotFound`, `WorkflowInUse`, `VersionMismatch`."""
        newest = await self._store.workflows.get(principal.tenant, name)
        if newest is None:
            raise WorkflowNotFound(name)
        if if_match is not None and not _matches(if_match, entity_tag(newest.definition_hash)):
            raise VersionMismatch(
                f"workflow {name!r} has changed: its newest version is {newest.version!r}; "
                "read it again and send its ETag"
            )
        active = await self._store.runs.active_of_workflow(principal.tenant, name)
        if active:
            raise WorkflowInUse(
                f"{active} run(s) of workflow {name!r} are active; cancel them or wait for their end"
            )
        if not await self._store.workflows.delete(principal.tenant, name):
            raise WorkflowNotFound(name)

    # --- read -----------------------------------------------------------------------------------------

    async def validate(self, source: bytes, format: Format) -> CompiledWorkflow:
        """Compile a document and store nothing. Raises `DefinitionInvalid` with every problem."""
        return await compile_aside(self._catalog, source, format=format)

    async def get(self, principal: Principal, name: str, version: str | None = None) -> WorkflowView:
        """That version, or the newest. Raises `WorkflowNotFound`."""
        row = await self._store.workflows.get(principal.tenant, name, version)
        if row is None:
            raise WorkflowNotFound(name, version)
        return workflow_view(row, await self._definitions.workflow(row.definition_hash))

    async def list(self, principal: Principal, *, limit: int, cursor: str | None) -> WorkflowPage:
        """The newest version of each name, by name. Raises `InvalidCursor`."""
        mark = fingerprint("workflows", principal.tenant)
        after = read_cursor(cursor, mark, (str,))[0] if cursor is not None else None
        rows = await self._store.workflows.list(principal.tenant, limit=limit + 1, after=after)
        shown = rows[:limit]
        next_cursor = write_cursor(mark, (shown[-1].name,)) if len(rows) > limit else None
        return WorkflowPage(items=[workflow_summary(row) for row in shown], next_cursor=next_cursor)

    async def versions(
        self, principal: Principal, name: str, *, limit: int, cursor: str | None
    ) -> WorkflowPage:
        """All versions of a name, newest first. Raises `WorkflowNotFound`, `InvalidCursor`."""
        mark = fingerprint("versions", principal.tenant, name)
        before = read_cursor(cursor, mark, (int,))[0] if cursor is not None else None
        rows = await self._store.workflows.versions(
            principal.tenant, name, limit=limit + 1, before_revision=before
        )
        if not rows and before is None:
            raise WorkflowNotFound(name)
        shown = rows[:limit]
        next_cursor = write_cursor(mark, (shown[-1].revision,)) if len(rows) > limit else None
        return WorkflowPage(items=[workflow_summary(row) for row in shown], next_cursor=next_cursor)


def _matches(condition: str, tag: str) -> bool:
    return condition.strip() == "*" or tag in [part.strip() for part in condition.split(",")]
