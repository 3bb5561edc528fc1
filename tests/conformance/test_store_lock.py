"""What every executor lock does, over each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.ports.lock import ExecutorLock
from app.stores.file_lock import FileLock
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from app.stores.postgresql.connection import Address
from app.stores.postgresql.lock import AdvisoryLock
from tests.postgresql_server import database_of

Pair = tuple[ExecutorLock, ExecutorLock]


def _in_memory(_: Path) -> Pair:
    slot = ExecutorSlot()
    return MemoryLock(slot), MemoryLock(slot)


def _on_one_database(folder: Path) -> Pair:
    address = Address(url=database_of(folder))
    return AdvisoryLock(address), AdvisoryLock(address)


RIVALS: dict[str, Callable[[Path], Pair]] = {
    "file": lambda data_dir: (FileLock(data_dir), FileLock(data_dir)),
    "memory": _in_memory,
    "postgresql": _on_one_database,
}


@pytest.fixture(params=sorted(RIVALS))
async def rivals(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    pair = RIVALS[request.param](tmp_path)
    yield pair
    for lock in pair:
        await lock.release()


async def test_a_held_lock_is_denied_to_a_rival_at_once(rivals: Pair) -> None:
    holder, other = rivals
    assert await holder.acquire()
    assert not await other.acquire()
    assert (holder.held, other.held) == (True, False)


async def test_releasing_what_is_not_held_disturbs_nobody(rivals: Pair) -> None:
    holder, other = rivals
    await other.release()
    assert await holder.acquire()
    await other.release()
    assert not await other.acquire()


async def test_a_holder_may_acquire_again_and_release_once(rivals: Pair) -> None:
    holder, other = rivals
    assert await holder.acquire()
    assert await holder.acquire()
    await holder.release()
    assert not holder.held
    assert await other.acquire()
