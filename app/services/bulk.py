"""Control of many runs by filter: cancel them, or try them again.

A call looks at a bounded number of runs, newest first, and says where to go on. What refuses one run is
told beside the others, as is a defect that met one; what would refuse the next ones as well (a store that
takes no writes, a queue that is full) ends the call early. What does not belong here: how one run is
cancelled or tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

import structlog

from app.engines.engine import LimitReached
from app.ports.errors import OrchestratorError
from app.ports.problems import Problem
from app.ports.runs import TERMINAL_STATUSES, RunFilter, RunRow, Store
from app.services.cursors import fingerprint, read_cursor, write_cursor
from app.services.errors import FilterRejected, ServiceError, translate
from app.services.idempotency import Answer, Idempotency, IdempotencyKey
from app.services.principal import Principal
from app.services.reruns import RerunService
from app.services.runs import Receipt, RunService

MOST_RUNS: Final = 1_000
AT_ONCE: Final = 50
"""Runs that are in hand at the same time, so that their writes share commits."""
CANCELLABLE: Final = frozenset({"pending", "running", "waiting", "paused"})
RETRYABLE: Final = TERMINAL_STATUSES - {"completed"}
_ENDS_CALL: Final = frozenset({429, 503})
"""Statuses of refusals that the next run would meet as well."""

INTERNAL_CODE: Final = "internal_error"
INTERNAL: Final = "an internal error; see the log of the service"

Control = Callable[[RunRow], Awaitable[None]]
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which runs, and how many of them at most in this call."""

    filter: RunFilter
    limit: int = MOST_RUNS
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A run that was left as it is."""

    run_id: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOutcome:
    """`matched` runs were looked at. `next_cursor` None: there are no more."""

    matched: int
    accepted: int
    refused: Sequence[Refused]
    next_cursor: str | None


BulkReceipt = Callable[[BulkOutcome], Answer]


class BulkService:
    """Control of many runs of a process."""

    def __init__(
        self, *, store: Store, runs: RunService, reruns: RerunService, idempotency: Idempotency
    ) -> None:
        self._store = store
        self._runs = runs
        self._reruns = reruns
        self._idempotency = idempotency

    async def cancel(
        self,
        principal: Principal,
        selection: Selection,
        *,
        reason: str | None,
        receipt: BulkReceipt,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """End matching runs early; the answer, and whether it was given before.

        Raises `FilterRejected`, `InvalidCursor`, and what refuses every run before the first is accepted.
        """

        async def cancel(row: RunRow) -> None:
            await self._runs.cancel(
                principal, row.id, reason=reason, receipt=lambda _: Answer(status_code=202, body=b"")
            )

        async def act() -> Answer:
            narrowed = _narrowed(selection, CANCELLABLE, "cancelled")
            return receipt(await self._each(principal, "cancel", narrowed, cancel))

        return await self._idempotency.once(principal.tenant, key, act)

    async def retry(
        self,
        principal: Principal,
        selection: Selection,
        *,
        run_receipt: Receipt,
        receipt: BulkReceipt,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """Try matching runs again, each as a new run; the answer, and whether it was given before.

        Under a key every run is tried again once, however often the call is cut short and repeated.
        Raises as `cancel`.
        """

        async def retry(row: RunRow) -> None:
            await self._reruns.retry(principal, row.id, run_receipt, _key_of_run(key, row.id))

        async def act() -> Answer:
            narrowed = _narrowed(selection, RETRYABLE, "retried")
            return receipt(await self._each(principal, "retry", narrowed, retry))

        return await self._idempotency.once(principal.tenant, key, act)

    async def _each(
        self, principal: Principal, operation: str, selection: Selection, control: Control
    ) -> BulkOutcome:
        mark = _mark(principal, operation, selection.filter)
        before = None
        if selection.cursor is not None:
            created_at, run_id = read_cursor(selection.cursor, mark, (float, str))
            before = (created_at, run_id)
        rows = await self._store.runs.list(
            principal.tenant, selection.filter, limit=selection.limit + 1, before=before
        )
        shown, more = rows[: selection.limit], len(rows) > selection.limit
        refused: list[Refused] = []
        accepted = 0
        for start in range(0, len(shown), AT_ONCE):
            part = shown[start : start + AT_ONCE]
            outcomes = await asyncio.gather(*(_tried(control, row) for row in part))
            found = [one for one in outcomes if one is not None]
            refused += [one.refused for one in found]
            accepted += len(part) - len(found)
            ending = next((one.ends_call for one in found if one.ends_call is not None), None)
            if ending is not None:
                if not accepted:
                    raise ending
                more, shown = more or start + len(part) < len(shown), shown[: start + len(part)]
                break
        cursor = write_cursor(mark, (float(shown[-1].created_at), shown[-1].id)) if more else None
        return BulkOutcome(matched=len(shown), accepted=accepted, refused=refused, next_cursor=cursor)


@dataclass(frozen=True, slots=True)
class _Refusal:
    refused: Refused
    ends_call: ServiceError | None


async def _tried(control: Control, row: RunRow) -> _Refusal | None:
    """Why a run is left as it is; None if it is not."""
    try:
        await control(row)
    except OrchestratorError as error:
        refusal = translate(error)
        if refusal is None:
            log.exception("run.not_controlled", run_id=row.id)
            return _crashed(row)
        # the limit of one workflow says nothing of the others
        general = refusal.status in _ENDS_CALL and not isinstance(error, LimitReached)
        told = Refused(run_id=row.id, code=refusal.code, detail=str(refusal))
        return _Refusal(told, refusal if general else None)
    except Exception:
        # What was done to the others is done, and their caller has to hear of it.
        log.exception("run.not_controlled", run_id=row.id)
        return _crashed(row)
    return None


def _crashed(row: RunRow) -> _Refusal:
    return _Refusal(Refused(run_id=row.id, code=INTERNAL_CODE, detail=INTERNAL), None)


def _narrowed(selection: Selection, possible: frozenset[str], done: str) -> Selection:
    """The selection without runs for which it is impossible. Raises `FilterRejected` for one of all runs."""
    wanted = selection.filter
    if wanted == RunFilter():
        raise _rejected(
            "/filter",
            f"an empty filter means every run: say which are to be {done}",
            "set status, workflow, labels, created_after or created_before",
        )
    statuses = wanted.statuses & possible if wanted.statuses else possible
    if not statuses:
        named = " and ".join(repr(status) for status in sorted(wanted.statuses))
        listed = ", ".join(sorted(possible))
        raise _rejected("/filter/status", f"runs that are {named} cannot be {done}", f"choose among {listed}")
    return replace(selection, filter=replace(wanted, statuses=statuses))


def _rejected(pointer: str, detail: str, hint: str) -> FilterRejected:
    return FilterRejected(f"{detail}; {hint}", problems=[Problem(pointer=pointer, detail=detail, hint=hint)])


def _mark(principal: Principal, operation: str, wanted: RunFilter) -> str:
    return fingerprint(
        operation,
        principal.tenant,
        sorted(wanted.statuses),
        wanted.workflow,
        dict(wanted.labels),
        wanted.created_after,
        wanted.created_before,
    )


def _key_of_run(key: IdempotencyKey | None, run_id: str) -> IdempotencyKey | None:
    """The key under which one run of the call is tried again; callers cannot send one of this form."""
    if key is None:
        return None
    digest = blake2b(f"{key.key}\0{run_id}".encode(), digest_size=16).hexdigest()
    return IdempotencyKey(key=f"\x1f{digest}", fingerprint=key.fingerprint)
