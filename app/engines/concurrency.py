"""The concurrency limits of workflows: which runs of one key are under way, and which wait for a place.

A run counts from its begin to its end, also while it is parked. What is under way is in the executor's
memory and is read from the store when it becomes executor; a process that stands by asks the store each
time. A process that has lost the lock may still end runs that this one never had in hand: it asks for those
now and then. What becomes of a run too many is the engine's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from app.dsl.compiled import ConcurrencyRule
from app.engines.identity import RunIdentity
from app.engines.turns import Turns
from app.ports.runs import TERMINAL_STATUSES, RunRow, RunStore

Key = tuple[str, str, str]
"""Tenant, workflow, and the value of the rule's key."""
MOST_ASSUMED: Final = 500
"""Runs that a look for a standstill passes through; one that is longer is not looked for."""


def sharing(run: RunRow) -> str:
    """The runs that share a limit with this one, in words; without a key they are all of its workflow."""
    with_key = f" with the concurrency key {run.concurrency_key!r}" if run.concurrency_key else ""
    return f"workflow {run.workflow!r}{with_key}"


def key_of(run: RunRow | RunIdentity) -> Key | None:
    """What a run shares its limit with; None for one without a limit."""
    return None if run.concurrency_key is None else (run.tenant, run.workflow, run.concurrency_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A called run that waits, or is about to wait, for a place of its key."""

    key: Key
    limit: int
    awaited_by: tuple[str, ...]
    """Runs that cannot end before it has: its caller, that one's caller, and so on; one at least."""


class ConcurrencyBook:
    """Runs by key. Of each run it may be told twice what it was told once."""

    def __init__(self, runs: RunStore) -> None:
        self.kept = False
        """This process executes and knows what it found: whatever begins and ends is told here."""
        self._runs = runs
        self._active: dict[Key, dict[str, None]] = {}
        """Runs under way, in the order in which they began."""
        self._waiting: dict[Key, deque[str]] = {}
        self._blocked: set[str] = set()
        self._to_begin: set[str] = set()
        """Runs that waited and were told to begin."""
        self._refused: set[Key] = set()
        """Keys of which a run was refused for want of a place since the last check."""
        self._calls: dict[str, Call] = {}
        """Called runs that wait while others wait for them."""
        self._below: dict[str, set[str]] = {}
        """Run → those of the calls that it waits for."""
        self._turns: Turns[Key] = Turns()

    @property
    def blocked(self) -> frozenset[str]:
        """Runs that wait for a place of their key; the queue has them, and nothing else keeps them."""
        return frozenset(self._blocked)

    def __len__(self) -> int:
        return len(self._blocked)

    async def look(self) -> None:
        """Take over what the store knows, unless this process knows it better."""
        found = await self._runs.active_by_concurrency_key()
        if not self.kept:
            self._active = {key: dict.fromkeys(run_ids) for key, run_ids in found.items()}

    async def keep(self) -> None:
        """This process is the executor: nobody else begins or ends a run from here on."""
        await self.look()
        self.kept = True

    def let_go(self) -> None:
        """Others may begin and end runs from here on; whoever waits is in the queue."""
        self.kept = False
        for known in (self._waiting, self._blocked, self._to_begin, self._calls, self._below):
            known.clear()

    async def check(self, in_hand: Container[str], *, all_keys: bool = False) -> None:
        """Free the places of runs that have ended elsewhere; of those `in_hand` is told when they end.

        Only keys are looked at of which a run waits or was refused, unless it is to be `all_keys`.
        """
        keys = list(self._active) if all_keys else [*self._waiting, *self._refused]
        self._refused.clear()
        holders = [(key, run_id) for key in keys for run_id in self._active.get(key, ())]
        holders = [(key, run_id) for key, run_id in holders if run_id not in in_hand]
        if holders:
            statuses = await self._runs.statuses([run_id for _, run_id in holders])
            for key, run_id in holders:
                if statuses.get(run_id) in TERMINAL_STATUSES:
                    self.ended(key, run_id)

    def refused(self, key: Key | None) -> None:
        """A run of this key was refused for want of a place."""
        if self.kept and key is not None:
            self._refused.add(key)

    def full(self, key: Key | None, rule: ConcurrencyRule | None) -> bool:
        """Whether no run of this key may begin now."""
        return key is not None and rule is not None and self.active(key) >= rule.limit

    async def spoken_for(self, key: Key | None, *, limit: int, count: int = 1) -> bool:
        """Whether `count` more runs are too many beside those of this key that have not ended, begun or not.

        For a process that does not execute: what it accepts begins elsewhere, a moment later. One that
        executes answers no, because it takes a place with every run that it accepts.
        """
        if self.kept or key is None:
            return False
        return count > limit or bool(await self._runs.overtaken(*key, keep=limit - count, limit=1))

    def in_turn(self, rule: ConcurrencyRule, *keys: Key) -> AbstractAsyncContextManager[object]:
        """Where `spoken_for` has to ask the store: wait until nobody else is between the question and what
        follows from the answer."""
        asks = rule.on_limit == "reject" and not self.kept
        return self._turns.of(keys) if asks else nullcontext()

    def holds(self, key: Key | None, run_id: str) -> bool:
        """Whether this run has a place of its key."""
        return key is not None and run_id in self._active.get(key, ())

    def active(self, key: Key | None) -> int:
        """How many runs of this key are under way."""
        return 0 if key is None else len(self._active.get(key, ()))

    def oldest(self, key: Key) -> str | None:
        """Of the runs of this key that are under way the one that began first."""
        return next(iter(self._active.get(key, ())), None)

    def began(self, key: Key | None, run_id: str) -> bool:
        """A run of this key begins; whether that is news."""
        if key is None or self.holds(key, run_id):
            return False
        self._active.setdefault(key, {})[run_id] = None
        self._to_begin.discard(run_id)
        self._stop_waiting(key, run_id)
        return True

    def ended(self, key: Key | None, run_id: str) -> None:
        """One ended, or will not begin after all: another one may begin in its place."""
        if key is None:
            return
        active = self._active.get(key, {})
        if run_id in active:
            del active[run_id]
            if not active:
                del self._active[key]
            self._tell_next(key)
        elif run_id in self._to_begin:
            self._to_begin.discard(run_id)
            self._tell_next(key)
        self._stop_waiting(key, run_id)

    def wait(self, key: Key, run_id: str) -> None:
        """A run waits for a place of its key, first come, first served."""
        if run_id in self._blocked:
            return
        waiting = self._waiting.setdefault(key, deque())
        if run_id in self._to_begin:
            self._to_begin.discard(run_id)
            waiting.appendleft(run_id)
        else:
            waiting.append(run_id)
        self._blocked.add(run_id)

    def _tell_next(self, key: Key) -> None:
        waiting = self._waiting.get(key)
        if waiting:
            run_id = waiting[0]
            self._stop_waiting(key, run_id)
            self._to_begin.add(run_id)

    def _stop_waiting(self, key: Key, run_id: str) -> None:
        if run_id in self._blocked:
            self._blocked.discard(run_id)
            waiting = self._waiting[key]
            waiting.remove(run_id)
            if not waiting:
                del self._waiting[key]
        self.waits_no_more(run_id)

    # --- runs that wait for each other ----------------------------------------------------------------

    def waits_while_awaited(self, run_id: str, call: Call) -> bool:
        """A called run is in the queue while others wait for its end; whether that is news."""
        if run_id in self._calls:
            return False
        self._calls[run_id] = call
        for caller in call.awaited_by:
            self._below.setdefault(caller, set()).add(run_id)
        return True

    def waits_no_more(self, run_id: str) -> None:
        """A called run is not in the queue any more."""
        call = self._calls.pop(run_id, None)
        for caller in () if call is None else call.awaited_by:
            self._below[caller].discard(run_id)
            if not self._below[caller]:
                del self._below[caller]

    def would_stand_still(self, call: Call) -> bool:
        """Whether such a run would never begin: every run that holds a place waits, in the end, for it.

        A place is held for ever by a run that waits for this call, and by one that waits for another call
        whose places are all held for ever.
        """
        return self._never_begins(call, frozenset(call.awaited_by), set())

    def _never_begins(self, call: Call, assumed: frozenset[str], free: set[str]) -> bool:
        holders = self._active.get(call.key, {})
        if len(holders) < call.limit or len(assumed) > MOST_ASSUMED:
            return False
        return all(self._never_ends(run_id, assumed, free) for run_id in holders)

    def _never_ends(self, run_id: str, assumed: frozenset[str], free: set[str]) -> bool:
        """`assumed` are taken not to end, which holds if all that follows from it does; `free` will end."""
        if run_id in assumed or run_id in free:
            return run_id in assumed
        calls = [self._calls[waiting] for waiting in self._below.get(run_id, ())]
        if any(self._never_begins(one, assumed | {run_id, *one.awaited_by}, free) for one in calls):
            return True
        free.add(run_id)
        return False
