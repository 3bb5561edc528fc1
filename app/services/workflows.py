"""Use cases around registered workflows: register, read, list, delete, validate.

Versions are immutable: registering the same content again is no change, another content under the same
version is refused. Every read takes the principal's tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.dsl.loader import Format
from app.dsl.spelling import Speller
from app.ports.clock import Clock
from app.ports.errors import AlreadyExists
from app.ports.problems import Problem
from app.ports.runs import Store, WorkflowRow, WorkflowStore
from app.ports.turns import computed
from app.services.configured import Configured
from app.services.cursors import fingerprint, read_cursor, write_cursor
from app.services.definitions import SMALL_TEXT, Definitions, compile_aside
from app.services.errors import VersionMismatch, VersionTaken, WorkflowInUse, WorkflowNotFound
from app.services.idempotency import Answer, Idempotency, IdempotencyKey, Record
from app.services.principal import Principal
from app.services.views import WorkflowSummary, WorkflowView, workflow_summary, workflow_view


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowPage:
    """A page of versions."""

    items: list[WorkflowSummary]
    next_cursor: str | None


MOST_NAMES: Final = 200
"""Names that are looked through for one that was probably meant."""

Receipt = Callable[[Sequence[Problem], WorkflowView, bool], Answer]
"""Writes the answer to a registration, with its warnings; True: the version is new."""


def entity_tag(definition_hash: str) -> str:
    """The strong ETag (RFC 9110) of a version: equal tag, equal definition."""
    return f'"{definition_hash[:32]}"'


async def not_registered(
    workflows: WorkflowStore, tenant: str, name: str, version: str | None = None
) -> WorkflowNotFound:
    """The refusal of a name or version that does not exist, with what was probably meant."""
    spelling = Speller(MOST_NAMES)
    if version is not None:
        rows = await workflows.versions(tenant, name, limit=MOST_NAMES)
        if rows:
            hint = spelling.hint(version, [row.version for row in rows])
            return WorkflowNotFound(name, version, hint=hint or f"the newest is {rows[0].version!r}")
    rows = await workflows.list(tenant, limit=MOST_NAMES)
    near = spelling.nearest(name, [row.name for row in rows])
    return WorkflowNotFound(name, hint=near and f"did you mean {near!r}?")


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
        configured: Configured,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._definitions = definitions
        self._clock = clock
        self._idempotency = idempotency
        self._configured = configured

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

        async def write(record: Record) -> Answer:
            workflow, warnings = await self.validate(source, format)
            give = partial(receipt, warnings)
            if await self._existing(principal, workflow) is not None:
                raise AlreadyExists(f"version {workflow.version!r} of {workflow.name!r} is registered")
            return await self._store_version(principal, workflow, give, record, keyed=key is not None)

        async def taken(error: AlreadyExists) -> Answer:
            workflow, warnings = await self.validate(source, format)
            existing = await self._existing(principal, workflow)
            if existing is None or existing.definition_hash != workflow.definition.hash:
                raise VersionTaken(
                    f"version {workflow.version!r} of {workflow.name!r} exists with another content; "
                    "versions are immutable, register this one under another version"
                ) from error
            answer = receipt(warnings, workflow_view(existing, workflow), False)
            if key:
                await self._idempotency.save(principal.tenant, key, answer)
            return answer

        return await self._idempotency.with_write(principal.tenant, key, write, taken=taken)

    async def _existing(self, principal: Principal, workflow: CompiledWorkflow) -> WorkflowRow | None:
        return await self._store.workflows.get(principal.tenant, workflow.name, workflow.version)

    async def _store_version(
        self,
        principal: Principal,
        workflow: CompiledWorkflow,
        give: Callable[[WorkflowView, bool], Answer],
        record: Record,
        *,
        keyed: bool,
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
        answer = give(workflow_view(row, workflow), True)
        stored = await self._store.workflows.register(row, workflow.definition, record(answer))
        return answer if keyed or stored == row else give(workflow_view(stored, workflow), True)

    async def delete(self, principal: Principal, name: str, *, if_match: str | None) -> None:
        """Forget every version. Raises `WorkflowNotFound`, `WorkflowInUse`, `VersionMismatch`."""
        newest = await self._store.workflows.get(principal.tenant, name)
        if newest is None:
            raise await not_registered(self._store.workflows, principal.tenant, name)
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

    async def validate(self, source: bytes, format: Format) -> tuple[CompiledWorkflow, Sequence[Problem]]:
        """Compile a document and store nothing; the workflow, names that are not configured, and what else
        its author may not have meant.

        Raises `DefinitionInvalid` with every problem.
        """
        workflow = await compile_aside(self._catalog, source, format=format)
        find = partial(
            self._configured.missing, workflow.document, source, format=format, further=workflow.warnings
        )
        return workflow, find() if len(source) <= SMALL_TEXT else await computed(find)

    async def get(self, principal: Principal, name: str, version: str | None = None) -> WorkflowView:
        """That version, or the newest. Raises `WorkflowNotFound`."""
        row = await self._store.workflows.get(principal.tenant, name, version)
        if row is None:
            raise await not_registered(self._store.workflows, principal.tenant, name, version)
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
            raise await not_registered(self._store.workflows, principal.tenant, name)
        shown = rows[:limit]
        next_cursor = write_cursor(mark, (shown[-1].revision,)) if len(rows) > limit else None
        return WorkflowPage(items=[workflow_summary(row) for row in shown], next_cursor=next_cursor)


def _matches(condition: str, tag: str) -> bool:
    return condition.strip() == "*" or tag in [part.strip() for part in condition.split(",")]
