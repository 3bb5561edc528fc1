"""`on_limit: cancel_oldest`: the newest runs of a concurrency key take the places of all older ones.

The rule, for a limit of N: of the runs of a key that have not ended, begun or waiting, the N that were
submitted last stay, and every other is ended. So however many come at once, none of them waits for longer
than it takes the others to end, and the one that came last is always among those that run. What does not
belong here: that a key is full (`concurrency`), how a run is ended (`control`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

import structlog

from app.dsl.compiled import ConcurrencyRule
from app.engines.concurrency import Key, key_of
from app.engines.engine import HandedOver
from app.engines.fleet import Fleet
from app.engines.patience import patiently
from app.ports.errors import OrchestratorError, StoreError, StoreUnavailable
from app.ports.runs import RunRow, RunStore

log = structlog.get_logger(__name__)

AT_ONCE: Final = 50
"""Runs that are ended together, so that their writes share commits."""
_LATER: Final = (StoreUnavailable, HandedOver)
"""Why an end is asked for again."""


class Cancel(Protocol):
    """Ends a run early."""

    def __call__(self, run_id: str, *, reason: str | None) -> Awaitable[object]:
        """Raises `OrchestratorError` for one that cannot be ended."""
        ...


class Succession:
    """For all keys of an engine; at most one task a key."""

    def __init__(self, runs: RunStore, fleet: Fleet, cancel: Cancel) -> None:
        self._runs = runs
        self._fleet = fleet
        self._cancel = cancel
        self._newest: dict[Key, RunRow] = {}
        """Keys in hand; what came last of each."""
        self._again: set[Key] = set()

    def displace(self, run: RunRow, rule: ConcurrencyRule) -> None:
        """A durable run of this key found no place. Harmless if it is told of more than once."""
        key = key_of(run)
        if key is None:
            return
        known = self._newest.get(key)
        self._newest[key] = run if known is None or _age(run) > _age(known) else known
        if known is None:
            self._fleet.spawn(self._make_room(key, rule.limit))
        else:
            self._again.add(key)

    async def _make_room(self, key: Key, keep: int) -> None:
        asked: set[str] = set()
        try:
            while True:
                self._again.discard(key)
                rows = await self._overtaken(key, keep=keep, limit=len(asked) + AT_ONCE)
                overtaken = [row for row in rows if row.id not in asked]
                if overtaken:
                    # A run that waits must not begin in the place of one that ends.
                    reason = f"run {self._newest[key].id} took its place"
                    await self._end([row.id for row in overtaken if row.started_at is None], reason)
                    await self._end([row.id for row in overtaken if row.started_at is not None], reason)
                    asked.update(row.id for row in overtaken)
                elif key not in self._again:
                    break
        except StoreError:
            log.warning("runs.not_displaced", workflow=key[1], exc_info=True)
        finally:
            del self._newest[key]
            self._again.discard(key)

    async def _overtaken(self, key: Key, *, keep: int, limit: int) -> Sequence[RunRow]:
        async def read() -> Sequence[RunRow]:
            return await self._runs.overtaken(*key, keep=keep, limit=limit)

        # Nobody else looks again: whoever waits for the places would wait for the oldest to end by itself.
        return await patiently(read, event="runs.not_displaced")

    async def _end(self, run_ids: Sequence[str], reason: str) -> None:
        async def end(run_id: str) -> None:
            with contextlib.suppress(OrchestratorError):  # it has ended meanwhile, or ends elsewhere
                await patiently(
                    lambda: self._cancel(run_id, reason=reason), event="run.not_displaced", errors=_LATER
                )

        await asyncio.gather(*(end(run_id) for run_id in run_ids))


def _age(run: RunRow) -> tuple[float, str]:
    return run.created_at, run.id
