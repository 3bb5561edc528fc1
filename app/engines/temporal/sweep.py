"""What one process looks after for all: runs that Temporal has not heard of, and those it may have lost.

The store is the outbox. A run that stays `pending` is offered again, one whose time has passed is woken, one
that is under way is placed once more in case its Temporal workflow is gone; all of it is harmless where
Temporal knows better. Runs with a concurrency key are begun here and nowhere else, one process for all, and
the begin is in the journal before the run is placed: so a limit holds whoever leads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import structlog

from app.core import events as e
from app.core.transitions import InvalidTransition
from app.dsl.compiled import ConcurrencyRule
from app.engines.codec import encode
from app.engines.concurrency import Key, key_of
from app.engines.recovery import RunLoader, StoredRun, UnreadableRun
from app.engines.temporal.outbox import Outbox
from app.engines.temporal.queues import TaskQueues
from app.engines.uptake import QUEUED, RECOVERABLE, Displace
from app.ports.clock import Clock
from app.ports.errors import Fenced
from app.ports.runs import RunRow, StatusChange, Store

log = structlog.get_logger(__name__)

PAGE: Final = 500
SETTLE_SECONDS: Final = 3.0
"""Whoever accepted a run places it at once; one that is pending for longer may have been forgotten."""
AGAIN_SECONDS: Final = 60.0
"""After that long a run that was offered is offered again."""
OVERDUE_SECONDS: Final = 10.0
REVIVE_SECONDS: Final = 300.0
UNTOLD_SECONDS: Final = 300.0
"""Before the last look: so much may lie between the end of a called run, by its worker's clock, and the
parking of a caller that was not told of it."""
KEEP_CONTROLS_SECONDS: Final = 86_400.0
MOST: Final = 100_000


class Sweep:
    """`pass_over` is called again and again while this process leads. Raises `StoreError`."""

    def __init__(
        self,
        *,
        store: Store,
        loader: RunLoader,
        outbox: Outbox,
        queues: TaskQueues,
        clock: Clock,
        displace: Displace,
    ) -> None:
        self._store = store
        self._loader = loader
        self._outbox = outbox
        self._queues = queues
        self._clock = clock
        self._offered: dict[str, float] = {}
        """When a run was offered last."""
        self._displace = displace
        self._displaced: frozenset[str] = frozenset()
        """Runs in the queue that `displace` was told of."""
        self._rules: dict[str, ConcurrencyRule | None] = {}
        """By definition."""
        self._overdue_at = 0.0
        self._revive_at = 0.0
        self._told_at = -math.inf
        """When the callers of runs that had ended were woken last."""

    def begin_anew(self) -> None:
        """This process leads from here on: what another one did is not known."""
        self._offered.clear()
        self._displaced = frozenset()
        self._overdue_at = self._revive_at = 0.0
        self._told_at = -math.inf

    async def pass_over(self) -> None:
        """One look at everything that is due to be looked at."""
        now = self._clock.now()
        self._offered = {run_id: at for run_id, at in self._offered.items() if 0 <= now - at < AGAIN_SECONDS}
        await self._place_pending(now)
        if not 0 <= self._overdue_at - now <= OVERDUE_SECONDS:
            self._overdue_at = now + OVERDUE_SECONDS
            await self._wake_overdue(now)
        if not 0 <= self._revive_at - now <= REVIVE_SECONDS:
            self._revive_at = now + REVIVE_SECONDS
            await self._revive(now)

    # --- runs that nobody began -----------------------------------------------------------------------

    async def _place_pending(self, now: float) -> None:
        seen = set(self._offered)
        limited: list[RunRow] = []
        while rows := await self._store.runs.unfinished(limit=PAGE, statuses=QUEUED, exclude=frozenset(seen)):
            for row in rows:
                seen.add(row.id)
                if row.concurrency_key is not None:
                    limited.append(row)
                elif abs(now - row.created_at) >= SETTLE_SECONDS:
                    self._offer(row, now)
            if len(rows) < PAGE:
                break
        if limited:
            await self._begin_limited(limited, now)

    def _offer(self, row: RunRow, now: float, *, wake: bool = False) -> None:
        self._offered[row.id] = now
        self._outbox.offer(row.id, queue=self._queues.of(row.tenant, row.labels), wake=wake)

    async def _begin_limited(self, rows: Sequence[RunRow], now: float) -> None:
        """Begin runs with a concurrency key for which there is a place, in the order of the queue."""
        active = await self._store.runs.active_by_concurrency_key()
        taken: dict[Key, int] = {key: len(run_ids) for key, run_ids in active.items()}
        self._displaced &= {row.id for row in rows}
        for row in rows:
            key = key_of(row)
            if key is None:
                continue
            rule = self._rules.get(row.definition_hash)
            if rule is not None and taken.get(key, 0) >= rule.limit:
                self._find_place(row, rule, now)
                continue
            try:
                stored = await self._loader.load(row.id)
            except UnreadableRun:
                log.exception("run.unreadable", run_id=row.id)
                continue
            if stored is None:
                continue
            rule = self._rules[row.definition_hash] = stored.workflow.concurrency
            has_room = rule is None or taken.get(key, 0) < rule.limit
            if has_room and await self._begin(stored, now):
                taken[key] = taken.get(key, 0) + 1
                self._offer(row, now, wake=True)

    def _find_place(self, row: RunRow, rule: ConcurrencyRule, now: float) -> None:
        """Whoever accepted a run has the oldest of its key ended for it, unless it died meanwhile."""
        settled = abs(now - row.created_at) >= SETTLE_SECONDS
        if rule.on_limit == "cancel_oldest" and settled and row.id not in self._displaced:
            self._displaced |= {row.id}
            self._displace(row, rule)

    async def _begin(self, stored: StoredRun, now: float) -> bool:
        """Whether the begin of a run is in the journal now; False if it cannot begin."""
        history = stored.history
        started = e.RunStarted(at=now, timeout=history.timeout)
        try:
            history.apply(started)
            row = encode(history.state.run_id, history.seq, started)
            change = StatusChange(status=history.status, started_at=history.started_at)
            await self._store.journal.append([row], change)
        except (InvalidTransition, Fenced):
            return False  # it was paused or cancelled meanwhile
        return True

    # --- runs that Temporal may have lost -------------------------------------------------------------

    async def _wake_overdue(self, now: float) -> None:
        """Runs whose timer should have fired, whose called run has ended, or that have a control."""
        # Those that were woken are not to be woken for ever: they may wait for something else by now.
        await self._store.runs.wake_callers(ended_after=min(self._told_at, now) - UNTOLD_SECONDS)
        self._told_at = now
        for row in await self._store.runs.due(now - OVERDUE_SECONDS, limit=PAGE):
            if row.id not in self._offered:
                self._offer(row, now, wake=True)
        for run_id in await self._store.inbox.neglected(now - OVERDUE_SECONDS, limit=PAGE):
            stored = await self._loader.load(run_id)
            if stored is not None and run_id not in self._offered and not stored.history.state.terminal:
                identity = stored.identity
                queue = self._queues.of(identity.tenant, identity.labels)
                self._offered[run_id] = now
                self._outbox.offer(run_id, queue=queue, wake=True)

    async def _revive(self, now: float) -> None:
        """Place what is under way once more: a Temporal workflow that is gone is started again."""
        for row in await self._store.runs.unfinished(limit=MOST, statuses=RECOVERABLE):
            if row.id not in self._offered:
                self._offer(row, now)
        await self._store.inbox.prune(now - KEEP_CONTROLS_SECONDS)
