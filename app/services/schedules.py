"""Use cases around schedules: create, change, pause, resume, trigger, read, list, delete.

Every one takes the principal first and reads in that principal's tenant only. A schedule is checked whole
before it is kept: its times, that its workflow exists, that its inputs fit. What fires it is the ticker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from app.ports.clock import Clock
from app.ports.errors import AlreadyExists, StoreError
from app.ports.problems import Problem
from app.ports.runs import RunRow, Store
from app.ports.schedules import ScheduleRow, ScheduleSpec
from app.ports.turns import computed
from app.services.cursors import fingerprint, read_cursor, write_cursor
from app.services.definitions import Definitions
from app.services.errors import (
    ScheduleBusy,
    ScheduleNameTaken,
    ScheduleNotFound,
    VersionMismatch,
)
from app.services.idempotency import Answer, Idempotency, IdempotencyKey, Record
from app.services.principal import Principal
from app.services.run_labels import check_labels
from app.services.runs import Receipt as RunReceipt
from app.services.runs import RunService
from app.services.schedule_changes import ScheduleRequest, new_schedule, paused, rejected, replaced, resumed
from app.services.schedule_decisions import request_of, triggered
from app.services.schedule_times import TimingInvalid, timing_of
from app.services.schedule_views import SchedulePage, ScheduleView, entity_tag, schedule_view
from app.services.workflows import not_registered

MOST_TRIES: Final = 5
"""Of a change that meets the ticker's."""
Change = Callable[[ScheduleRow, float], ScheduleRow]
"""What becomes of a stored schedule, at a time; the same row for no change."""

log = structlog.get_logger(__name__)


Receipt = Callable[[ScheduleView], Answer]
"""Writes the answer to a change."""


class ScheduleService:
    """Schedules of all tenants. `changed` is called when the ticker should look anew."""

    def __init__(
        self,
        *,
        store: Store,
        definitions: Definitions,
        runs: RunService,
        clock: Clock,
        idempotency: Idempotency,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._runs = runs
        self._clock = clock
        self._idempotency = idempotency
        self._changed = changed

    # --- write ----------------------------------------------------------------------------------------

    async def create(
        self,
        principal: Principal,
        request: ScheduleRequest,
        receipt: Receipt,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """Keep a new schedule; the answer, and whether it was given before.

        Raises `ScheduleRejected`, `InputsInvalid`, `ScheduleNameTaken`, `IdempotencyKeyReused`,
        `IdempotencyKeyInUse`, `StoreUnavailable`.
        """

        async def write(record: Record) -> Answer:
            await self._check(principal, request.spec)
            row = new_schedule(principal.tenant, request, self._now())
            answer = receipt(schedule_view(row))
            await self._store.schedules.create(row, record(answer))
            return answer

        async def taken(error: AlreadyExists) -> Answer:
            raise _name_taken(request.name) from None

        answer, replayed = await self._idempotency.with_write(principal.tenant, key, write, taken=taken)
        if not replayed:
            self._changed()
        return answer, replayed

    async def replace(
        self, principal: Principal, schedule_id: str, request: ScheduleRequest, *, if_match: str | None
    ) -> ScheduleView:
        """Set everything that a user sets anew; what was fired stays known, what is queued stays queued.

        Raises `ScheduleNotFound`, `ScheduleRejected`, `InputsInvalid`, `ScheduleNameTaken`,
        `VersionMismatch`, `ScheduleBusy`, `StoreUnavailable`.
        """
        await self._row(principal, schedule_id)
        await self._check(principal, request.spec)

        def change(row: ScheduleRow, now: float) -> ScheduleRow:
            _check_match(row, if_match)
            return replaced(row, request, now)

        return schedule_view(await self._change(principal, schedule_id, change))

    async def pause(
        self, principal: Principal, schedule_id: str, receipt: Receipt, key: IdempotencyKey | None = None
    ) -> tuple[Answer, bool]:
        """Fire no more and start nothing that is queued; the answer, and whether it was given before.

        Raises `ScheduleNotFound`, `ScheduleBusy`, `StoreUnavailable`.
        """
        return await self._control(principal, schedule_id, paused, receipt, key)

    async def resume(
        self, principal: Principal, schedule_id: str, receipt: Receipt, key: IdempotencyKey | None = None
    ) -> tuple[Answer, bool]:
        """Go on with the first fire time from now; what the pause left out is not made up. As `pause`."""
        return await self._control(principal, schedule_id, resumed, receipt, key)

    async def _control(
        self,
        principal: Principal,
        schedule_id: str,
        change: Change,
        receipt: Receipt,
        key: IdempotencyKey | None,
    ) -> tuple[Answer, bool]:
        async def act() -> Answer:
            return receipt(schedule_view(await self._change(principal, schedule_id, change)))

        # Doing it once more changes nothing, so the answer needs no transaction with the change.
        return await self._idempotency.once(principal.tenant, key, act)

    async def _change(self, principal: Principal, schedule_id: str, change: Change) -> ScheduleRow:
        """Store a change on top of whatever the ticker stored meanwhile."""
        for _ in range(MOST_TRIES):
            row = await self._row(principal, schedule_id)
            now = self._now()
            changed = change(row, now)
            if changed == row:
                return row
            changed = replace(
                changed, revision=row.revision + 1, generation=row.generation + 1, updated_at=now
            )
            try:
                stored = await self._store.schedules.update(changed)
            except AlreadyExists:
                raise _name_taken(changed.name) from None
            if stored:
                self._changed()
                return changed
        raise ScheduleBusy(f"schedule {schedule_id!r} was changed by others meanwhile; send it again")

    async def delete(self, principal: Principal, schedule_id: str, *, if_match: str | None) -> None:
        """Forget a schedule; its runs stay. Raises `ScheduleNotFound`, `VersionMismatch`."""
        row = await self._row(principal, schedule_id)
        _check_match(row, if_match)
        revision = None if if_match is None or if_match.strip() == "*" else row.revision
        if not await self._store.schedules.delete(principal.tenant, schedule_id, revision=revision):
            await self._row(principal, schedule_id)
            raise _mismatch(schedule_id)

    async def trigger(
        self,
        principal: Principal,
        schedule_id: str,
        receipt: RunReceipt,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """Start a run now, whatever else runs; the answer, and whether it was given before.

        Raises `ScheduleNotFound` and what `RunService.submit` does.
        """
        row = await self._row(principal, schedule_id)
        accepted = await self._runs.submit(principal, request_of(row, self._now()), receipt, key)
        if accepted.made is not None:
            await self._record_trigger(row, accepted.made[0])
        return accepted.answer, accepted.replayed

    async def _record_trigger(self, row: ScheduleRow, run: RunRow) -> None:
        """The run is durable: a refusal would say that it is not."""
        try:
            for _ in range(MOST_TRIES):
                found = await self._store.schedules.get(row.tenant, row.id)
                if found is None or any(
                    await self._store.schedules.advance([triggered(found, run.id, run.created_at)])
                ):
                    return
        except StoreError:
            log.warning("schedule.trigger_not_recorded", schedule_id=row.id, run_id=run.id)

    # --- read -----------------------------------------------------------------------------------------

    async def get(self, principal: Principal, schedule_id: str) -> ScheduleView:
        """The schedule with its next fire times. Raises `ScheduleNotFound`."""
        return schedule_view(await self._row(principal, schedule_id))

    async def list(self, principal: Principal, *, limit: int, cursor: str | None) -> SchedulePage:
        """A page, by name. Raises `InvalidCursor`."""
        mark = fingerprint("schedules", principal.tenant)
        after = read_cursor(cursor, mark, (str,))[0] if cursor is not None else None
        rows = await self._store.schedules.list(principal.tenant, limit=limit + 1, after=after)
        shown = rows[:limit]
        next_cursor = write_cursor(mark, (shown[-1].name,)) if len(rows) > limit else None
        return SchedulePage(items=[schedule_view(row, times=1) for row in shown], next_cursor=next_cursor)

    async def _row(self, principal: Principal, schedule_id: str) -> ScheduleRow:
        row = await self._store.schedules.get(principal.tenant, schedule_id)
        if row is None:
            raise ScheduleNotFound(schedule_id)
        return row

    def _now(self) -> float:
        """As callers see it: microseconds."""
        return round(self._clock.now(), 6)

    async def _check(self, principal: Principal, spec: ScheduleSpec) -> None:
        """Raise unless its times make sense, its workflow exists, its inputs fit and its labels are free."""
        check_labels(spec.labels)
        problems: list[Problem] = []
        try:
            await computed(timing_of, spec, anchor=0.0)  # it may read files
        except TimingInvalid as error:
            problems += error.problems
        workflow = await self._store.workflows.get(principal.tenant, spec.workflow, spec.version)
        if workflow is None:
            problems.append(await self._unknown(principal, spec))
        if problems or workflow is None:
            raise rejected(problems)
        (await self._definitions.workflow(workflow.definition_hash)).validate_inputs(spec.inputs)

    async def _unknown(self, principal: Principal, spec: ScheduleSpec) -> Problem:
        workflows = self._store.workflows
        refusal = await not_registered(workflows, principal.tenant, spec.workflow, spec.version)
        detail, _, hint = str(refusal).partition("; ")
        known = spec.version is not None and await workflows.get(principal.tenant, spec.workflow) is not None
        return Problem(pointer="/version" if known else "/workflow", detail=detail, hint=hint)


def _check_match(row: ScheduleRow, if_match: str | None) -> None:
    if if_match is None or if_match.strip() == "*":
        return
    if entity_tag(row) not in [part.strip() for part in if_match.split(",")]:
        raise _mismatch(row.id)


def _mismatch(schedule_id: str) -> VersionMismatch:
    return VersionMismatch(f"schedule {schedule_id!r} has changed; read it again and send its ETag")


def _name_taken(name: str) -> ScheduleNameTaken:
    return ScheduleNameTaken(f"another schedule has the name {name!r}; choose another name")
