"""The concurrency limits of workflows: how many runs of one key are under way, and which wait for a place.

A run counts from its begin to its end, also while it is parked. Counts live in the executor's memory and
are read from the store when it becomes executor; a process that stands by asks the store each time. What
becomes of a run too many is the engine's business.
"""

from __future__ import annotations

from collections import Counter, deque

from app.dsl.compiled import ConcurrencyRule
from app.engines.identity import RunIdentity
from app.ports.runs import RunRow, RunStore

Key = tuple[str, str, str]
"""Tenant, workflow, and the value of the rule's key."""


def key_of(run: RunRow | RunIdentity) -> Key | None:
    """What a run shares its limit with; None for one without a limit."""
    return None if run.concurrency_key is None else (run.tenant, run.workflow, run.concurrency_key)


class ConcurrencyBook:
    """Counts by key. Of each run it may be told twice what it was told once."""

    def __init__(self, runs: RunStore) -> None:
        self.kept = False
        """This process executes and has counted what it found: whatever begins and ends is told here."""
        self._runs = runs
        self._active: Counter[Key] = Counter()
        self._begun: set[str] = set()
        """Runs that were counted one by one; the store counted those that were under way before."""
        self._waiting: dict[Key, deque[str]] = {}
        self._blocked: set[str] = set()
        self._called: set[str] = set()
        """Runs that waited and were told to begin."""

    @property
    def blocked(self) -> frozenset[str]:
        """Runs that wait for a place of their key; the queue has them, and nothing else keeps them."""
        return frozenset(self._blocked)

    def __len__(self) -> int:
        return len(self._blocked)

    async def look(self) -> None:
        """Take over what the store knows, unless this process knows it better."""
        counts = await self._runs.active_by_concurrency_key()
        if not self.kept:
            self._active = Counter(dict(counts))

    async def keep(self) -> None:
        """This process is the executor: nobody else begins or ends a run from here on."""
        await self.look()
        self.kept = True

    def full(self, key: Key | None, rule: ConcurrencyRule | None) -> bool:
        """Whether no run of this key may begin now."""
        return key is not None and rule is not None and self._active[key] >= rule.limit

    def active(self, key: Key | None) -> int:
        """How many runs of this key are under way."""
        return 0 if key is None else self._active[key]

    def began(self, key: Key | None, run_id: str) -> bool:
        """A run of this key begins; whether that is news."""
        if key is None or run_id in self._begun:
            return False
        self._begun.add(run_id)
        self._active[key] += 1
        self._called.discard(run_id)
        self._stop_waiting(key, run_id)
        return True

    def ended(self, key: Key | None, run_id: str, *, begun: bool) -> None:
        """One ended, or did not begin after all: another one may begin in its place."""
        if key is None:
            return
        if begun or run_id in self._begun:
            self._begun.discard(run_id)
            self._active[key] -= 1
            if self._active[key] <= 0:
                del self._active[key]
            self._call_next(key)
        elif run_id in self._called:
            self._called.discard(run_id)
            self._call_next(key)
        else:
            self._stop_waiting(key, run_id)

    def wait(self, key: Key, run_id: str) -> None:
        """A run waits for a place of its key, first come, first served."""
        if run_id in self._blocked:
            return
        waiting = self._waiting.setdefault(key, deque())
        if run_id in self._called:
            self._called.discard(run_id)
            waiting.appendleft(run_id)
        else:
            waiting.append(run_id)
        self._blocked.add(run_id)

    def _call_next(self, key: Key) -> None:
        waiting = self._waiting.get(key)
        if waiting:
            run_id = waiting[0]
            self._stop_waiting(key, run_id)
            self._called.add(run_id)

    def _stop_waiting(self, key: Key, run_id: str) -> None:
        if run_id in self._blocked:
            self._blocked.discard(run_id)
            waiting = self._waiting[key]
            waiting.remove(run_id)
            if not waiting:
                del self._waiting[key]
