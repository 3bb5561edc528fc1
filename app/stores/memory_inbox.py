"""The inbox of the in-memory store."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace

from app.ports.errors import AlreadyExists
from app.ports.inbox import ControlOutcome, ControlRow
from app.stores.memory_data import MemoryData


class MemoryInbox:
    """`app.ports.inbox.Inbox`."""

    def __init__(self, data: MemoryData) -> None:
        self._data = data

    async def put(self, control: ControlRow) -> None:
        self._data.require_open()
        if control.id in self._data.inbox:
            raise AlreadyExists(f"control {control.id!r} exists already: give a new one a new id")
        self._data.inbox[control.id] = control
        await asyncio.sleep(0)

    async def get(self, control_id: str) -> ControlRow | None:
        self._data.require_open()
        return self._data.inbox.get(control_id)

    async def unsettled(self, run_ids: Collection[str]) -> Sequence[ControlRow]:
        self._data.require_open()
        found = (row for row in self._data.inbox.values() if row.run_id in run_ids and row.outcome is None)
        return sorted(found, key=lambda row: (row.at, row.id))

    async def neglected(self, before: float, *, limit: int) -> Sequence[str]:
        self._data.require_open()
        rows = sorted(self._data.inbox.values(), key=lambda row: row.at)
        old = [row.run_id for row in rows if row.outcome is None and row.at < before]
        return [*dict.fromkeys(old[:limit])]

    async def settle(self, control_id: str, outcome: ControlOutcome) -> None:
        self._data.require_open()
        found = self._data.inbox.get(control_id)
        if found is not None and found.outcome is None:
            self._data.inbox[control_id] = replace(found, outcome=outcome)
        await asyncio.sleep(0)

    async def prune(self, older_than: float) -> int:
        self._data.require_open()
        old = [row.id for row in self._data.inbox.values() if row.at < older_than]
        for control_id in old:
            del self._data.inbox[control_id]
        await asyncio.sleep(0)
        return len(old)
