"""A store that fails, or takes its time, on order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from app.ports.errors import StoreUnavailable
from app.ports.runs import JournalRow, StatusChange
from app.stores.memory import MemoryStore

OnCreate = Callable[[], Awaitable[None]]
OnAppend = Callable[[Sequence[JournalRow], StatusChange | None], Awaitable[None]]
OnRead = Callable[[str], Awaitable[None]]


async def _create_freely() -> None:
    pass


async def _append_freely(rows: Sequence[JournalRow], change: StatusChange | None) -> None:
    pass


async def _read_freely(run_id: str) -> None:
    pass


class FaultyStore(MemoryStore):
    """`full`: it takes no writes. `on_create` comes before a run is stored, `on_append` before an append,
    `on_read` after a whole journal was read and before its reader hears of it; they may wait, and raise."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.refused = 0
        """Writes, for lack of space."""
        self.on_create: OnCreate = _create_freely
        self.on_append: OnAppend = _append_freely
        self.on_read: OnRead = _read_freely
        append, create, read = self.journal.append, self.runs.create, self.journal.read

        async def append_or_fail(rows: Sequence[JournalRow], change: StatusChange | None = None) -> None:
            self._check_space()
            await self.on_append(rows, change)
            await append(rows, change)

        async def create_or_fail(*given: Any, **more: Any) -> None:
            self._check_space()
            await self.on_create()
            await create(*given, **more)

        async def read_slowly(run_id: str, **options: Any) -> Sequence[JournalRow]:
            rows = await read(run_id, **options)
            if not options:
                await self.on_read(run_id)
            return rows

        self.journal.append = append_or_fail  # type: ignore[method-assign]  # a store that fails on order
        self.runs.create = create_or_fail  # type: ignore[method-assign]  # as above
        self.journal.read = read_slowly  # type: ignore[method-assign]  # as above

    def _check_space(self) -> None:
        if self.full:
            self.refused += 1
            raise StoreUnavailable("the disk is full")


async def opened() -> FaultyStore:
    """One that is open."""
    store = FaultyStore()
    await store.open()
    return store
