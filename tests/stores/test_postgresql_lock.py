"""How the executor lock of a database is lost, and how processes hear of work that others stored."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.ports.errors import StoreUnavailable
from app.ports.inbox import ControlRow
from app.stores.postgresql.connection import Address
from app.stores.postgresql.lock import AdvisoryLock
from app.stores.postgresql.news import News
from app.stores.postgresql.store import PostgresStore
from tests.postgresql_server import database_of, shared_server
from tests.service_process import free_port
from tests.stores.cutting_proxy import CuttingProxy
from tests.stores.samples import DEFINITION, NOON, a_run, an_event, events

HOLDER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM \
pg_database WHERE datname = current_database())"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return database_of(tmp_path)


@pytest.fixture
async def rivals(url: str) -> AsyncIterator[tuple[AdvisoryLock, AdvisoryLock]]:
    pair = (AdvisoryLock(Address(url=url), beat_seconds=0.1), AdvisoryLock(Address(url=url)))
    yield pair
    for lock in pair:
        await lock.release()


async def lost(lock: AdvisoryLock) -> None:
    async with asyncio.timeout(10):
        while lock.held:  # noqa: ASYNC110  the port has no event for it
            await asyncio.sleep(0.01)


async def test_without_a_server_the_lock_is_told_to_be_out_of_reach() -> None:
    lock = AdvisoryLock(Address(url=f"postgresql://postgres@127.0.0.1:{free_port()}/any"))
    with pytest.raises(StoreUnavailable, match=r"store\.url"):
        await lock.acquire()
    assert not lock.held


async def test_a_broken_connection_loses_the_lock_and_a_rival_gets_it(
    rivals: tuple[AdvisoryLock, AdvisoryLock], url: str
) -> None:
    holder, rival = rivals
    assert await holder.acquire()
    shared_server().execute(f"SELECT pg_terminate_backend(({HOLDER}))", url=url)
    await lost(holder)
    assert await rival.acquire()
    assert not await holder.acquire()
    await rival.release()
    assert await holder.acquire()


async def test_a_server_that_gives_no_sign_of_life_loses_the_lock(
    rivals: tuple[AdvisoryLock, AdvisoryLock], url: str
) -> None:
    holder, _ = rivals
    assert await holder.acquire()
    [[process]] = shared_server().execute(HOLDER, url=url)
    os.kill(process, signal.SIGSTOP)
    try:
        await lost(holder)
    finally:
        os.kill(process, signal.SIGCONT)


async def test_a_process_that_stands_still_loses_the_lock(url: str) -> None:
    frozen = AdvisoryLock(Address(url=url), beat_seconds=60.0, silent_seconds=0.5)
    rival = AdvisoryLock(Address(url=url), beat_seconds=0.1, silent_seconds=0.5)
    try:
        assert await frozen.acquire()
        await lost(frozen)
        assert await rival.acquire()
        await asyncio.sleep(1.0)
        assert rival.held
    finally:
        await frozen.release()
        await rival.release()


class Ears:
    """Counts what was heard."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()

    async def hear(self) -> None:
        async with asyncio.timeout(10):
            await self.heard.wait()
        self.heard.clear()


async def test_others_hear_of_runs_that_wait_and_of_controls_and_of_nothing_else(url: str) -> None:
    ears, address = Ears(), Address(url=url)
    listener = PostgresStore(address, readers=1, news=News(address, ears.heard.set))
    await listener.open()
    await ears.hear()  # once at the start
    async with CuttingProxy.before(url) as proxy:
        other = PostgresStore(Address(url=proxy.url), readers=1)
        await other.open()
        await other.runs.create(a_run("begun", status="running"), events(1, 1, "begun"), DEFINITION)
        await other.journal.append(events(2, 2, "begun"))
        assert not ears.heard.is_set()
        await other.runs.create(a_run("queued"), events(1, 1, "queued"), DEFINITION)
        await ears.hear()
        await other.runs.create_many([a_run("batch")], [an_event(1, "batch")], DEFINITION)
        await ears.hear()
        control = ControlRow(id="c1", run_id="begun", type="CancelRequested", payload=b"{}", at=NOON)
        await other.inbox.put(control)
        await ears.hear()
        await other.close()
    await listener.close()


async def test_a_listener_that_was_cut_off_listens_again_and_looks_at_once(url: str) -> None:
    ears = Ears()
    async with CuttingProxy.before(url) as proxy:
        address = Address(url=proxy.url)
        listener = PostgresStore(address, readers=1, news=News(address, ears.heard.set))
        await listener.open()
        await ears.hear()
        proxy.cut_all()
        await ears.hear()
        await listener.runs.create(a_run(), events(1, 1), DEFINITION)
        await ears.hear()
        await listener.close()
