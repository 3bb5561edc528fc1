"""Use cases around approvals: list, read, answer.

The journal of the run has the answer; the list is a projection of it. An answer is held against the form
that the question was asked with, before anything is handed to the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from app.dsl.inputs import validate_answer
from app.engines.engine import Engine, NotPossible, RunEnded
from app.ports.clock import Clock
from app.ports.errors import InputsInvalid
from app.ports.runs import ApprovalRow, Store
from app.services.asked import AskedOnce, nothing_more
from app.services.cursors import fingerprint, read_cursor, write_cursor
from app.services.errors import AnswerRejected, ApprovalAnswered, ApprovalExpired, ApprovalNotFound
from app.services.idempotency import Answer, Idempotency, IdempotencyKey
from app.services.principal import Principal

Action = Literal["approve", "reject"]
Receipt = Callable[[ApprovalRow], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPage:
    """A page of approvals, oldest first."""

    items: list[ApprovalRow]
    next_cursor: str | None


class ApprovalService:
    """Approvals of a process."""

    def __init__(
        self, *, store: Store, engine: Engine, clock: Clock, idempotency: Idempotency, asked: AskedOnce
    ) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._idempotency = idempotency
        self._asked = asked

    async def list(
        self,
        principal: Principal,
        *,
        statuses: frozenset[str],
        run_id: str | None,
        limit: int,
        cursor: str | None,
    ) -> ApprovalPage:
        """A page of approvals, those that wait longest first. Raises `InvalidCursor`."""
        mark = fingerprint("approvals", principal.tenant, sorted(statuses), run_id)
        after = None
        if cursor is not None:
            created_at, approval_id = read_cursor(cursor, mark, (float, str))
            after = (created_at, approval_id)
        rows = await self._store.approvals.list(
            principal.tenant, statuses=statuses, run_id=run_id, limit=limit + 1, after=after
        )
        shown = list(rows[:limit])
        more = len(rows) > limit
        next_cursor = write_cursor(mark, (float(shown[-1].created_at), shown[-1].id)) if more else None
        return ApprovalPage(items=shown, next_cursor=next_cursor)

    async def get(self, principal: Principal, approval_id: str) -> ApprovalRow:
        """One approval. Raises `ApprovalNotFound`."""
        row = await self._store.approvals.get(principal.tenant, approval_id)
        if row is None:
            raise ApprovalNotFound(approval_id)
        return row

    async def answer(
        self,
        principal: Principal,
        approval_id: str,
        *,
        action: Action,
        data: Any,
        receipt: Receipt,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """Answer an approval; the response, and whether it was given before.

        Raises `ApprovalNotFound`, `ApprovalAnswered`, `ApprovalExpired`, `AnswerRejected`,
        `CancelPending`, `HandedOver`.
        """

        async def act() -> Answer:
            row = await self.get(principal, approval_id)
            hand_in = partial(self._hand_in, principal, row, action, data)
            await self._asked.once(principal.tenant, key, row.run_id, hand_in, nothing_more)
            # The row is stored with the event, and has its time.
            return receipt(await self.get(principal, approval_id))

        return await self._idempotency.once(principal.tenant, key, act)

    def _check_open(self, row: ApprovalRow) -> None:
        if row.status == "answered":
            raise _answered(row)
        if row.status != "pending" or (row.expires_at is not None and row.expires_at <= self._clock.now()):
            raise ApprovalExpired(
                f"approval {row.id!r} waits for no answer any more; read run {row.run_id!r} to see why"
            )

    def _check_form(self, row: ApprovalRow, action: Action, data: Any) -> None:
        """A rejection need not fill the form in."""
        if row.form is None or (action == "reject" and data is None):
            return
        try:
            validate_answer(row.form, data)
        except InputsInvalid as error:
            problems = [replace(one, pointer="/data" + one.pointer) for one in error.problems]
            raise AnswerRejected(
                f"the answer does not fit the form of approval {row.id!r}: {problems[0].detail}",
                problems=problems,
            ) from error

    async def _hand_in(
        self, principal: Principal, row: ApprovalRow, action: Action, data: Any, request: str | None
    ) -> None:
        self._check_open(row)
        self._check_form(row, action, data)
        try:
            await self._engine.answer(
                row.run_id, row.path, action=action, data=data, by=principal.subject, request=request
            )
        except (NotPossible, RunEnded) as error:
            now = await self.get(principal, row.id)
            if now.status == "answered":
                raise _answered(now) from error
            raise ApprovalExpired(
                f"approval {row.id!r} waits for no answer any more; read run {row.run_id!r} to see why"
            ) from error


def _answered(row: ApprovalRow) -> ApprovalAnswered:
    by = "" if row.answered_by is None else f" by {row.answered_by!r}"
    return ApprovalAnswered(f"approval {row.id!r} was answered{by} already, with {row.action!r}")
