"""What the writer remembers of the database, so that an append needs no query before it.

A remembered seq may lag behind (another process appended since), never run ahead: acting on it is safe
because the primary key refuses a taken seq, and only the database's own answer refuses a caller.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

CAPACITY: Final = 16_384
"""Runs, and definitions, to remember. What is forgotten costs one query when it is needed again."""


class Facts:
    """Bounded memories of the last seq of a run and of stored definitions; the oldest goes first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._last: OrderedDict[str, int] = OrderedDict()
        self._definitions: OrderedDict[str, None] = OrderedDict()

    def last_seq(self, run_id: str) -> int | None:
        """The run's last stored seq, 0 for none; None when it is not remembered."""
        return self._last.get(run_id)

    def has_definition(self, hash: str) -> bool:
        """Whether the definition is surely stored."""
        return hash in self._definitions

    def learn(self, last: Mapping[str, int], definitions: Iterable[str], finished: Iterable[str]) -> None:
        """Take in what a commit made true; finished runs are forgotten, nobody appends to them."""
        for run_id, seq in last.items():
            self._last[run_id] = seq
            self._last.move_to_end(run_id)
        for run_id in finished:
            self._last.pop(run_id, None)
        self._definitions.update(dict.fromkeys(definitions))
        while len(self._last) > self._capacity:
            self._last.popitem(last=False)
        while len(self._definitions) > self._capacity:
            self._definitions.popitem(last=False)

    def forget(self) -> None:
        """Doubt everything: something did not go as remembered."""
        self._last.clear()
        self._definitions.clear()
