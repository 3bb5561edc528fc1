"""The PostgreSQL store when its server goes away, hangs, or is cut off in the middle of a commit."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.ports.errors import AlreadyExists, Fenced, StoreError, StoreUnavailable
from app.ports.runs import RunFilter
from app.stores.postgresql.connection import Address
from app.stores.postgresql.store import PostgresStore
from tests.postgresql_server import database_of, postgres_server, shared_server
from tests.stores.cutting_proxy import CuttingProxy
from tests.stores.samples import DEFINITION, NOON, a_run, a_workflow, an_answer, an_event, events


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy.before(database_of(tmp_path)) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: CuttingProxy) -> AsyncIterator[PostgresStore]:
    opened = PostgresStore(Address(url=proxy.url), now=lambda: NOON, readers=1)
    await opened.open()
    yield opened
    await opened.close()


async def test_without_a_server_writes_are_refused_and_go_on_when_it_is_back() -> None:
    with postgres_server() as server:
        store = PostgresStore(Address(url=server.create_database()), readers=1)
        await store.open()
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        await asyncio.to_thread(server.stop)
        with pytest.raises(StoreUnavailable, match="database"):
            await store.journal.append(events(2, 2))
        with pytest.raises(StoreUnavailable, match="database"):
            await store.idempotency.save(an_answer())
        with pytest.raises(StoreUnavailable, match="database"):
            await store.check()
        with pytest.raises(StoreUnavailable, match="database"):
            await store.journal.read("r1")
        await asyncio.to_thread(server.start)
        await store.journal.append(events(2, 2))
        assert await store.journal.read("r1") == events(1, 2)
        await store.close()


@pytest.mark.parametrize("arrives", [True, False], ids=["committed", "lost"])
async def test_a_batch_whose_commit_is_cut_off_is_stored_once_and_acknowledged(
    store: PostgresStore, proxy: CuttingProxy, *, arrives: bool
) -> None:
    await store.runs.create(a_run(), events(1, 1), DEFINITION)
    proxy.cut_next(b"COMMIT", arrives=arrives)
    await asyncio.gather(
        store.journal.append(events(2, 3)),
        store.runs.create(a_run("r2"), events(1, 2, "r2"), DEFINITION, an_answer()),
        store.cache.save("t1", "k", b"value", expires_at=NOON + 1),
    )
    assert proxy.cuts == 1
    assert await store.journal.read("r1") == events(1, 3)
    assert await store.journal.read("r2") == events(1, 2, "r2")
    assert await store.cache.find("t1", "k", NOON) == b"value"
    await store.journal.append(events(4, 4))
    with pytest.raises(Fenced):
        await store.journal.append(events(4, 4))


async def test_a_commit_that_was_cut_off_is_not_claimed_by_another_writer_s_events(
    store: PostgresStore, proxy: CuttingProxy, tmp_path: Path
) -> None:
    await store.runs.create(a_run(), events(1, 1), DEFINITION)
    rival = PostgresStore(Address(url=database_of(tmp_path)), readers=1)
    await rival.open()
    proxy.cut_next(b"COMMIT", arrives=False)
    proxy.hold()
    cut = asyncio.create_task(store.journal.append([an_event(2, payload=b'{"by":"ours"}')]))
    await proxy.was_cut()
    await rival.journal.append([an_event(2, payload=b'{"by":"theirs"}')])
    proxy.let_in()
    with pytest.raises(Fenced):
        await cut
    assert [row.payload for row in await rival.journal.read("r1", after=1)] == [b'{"by":"theirs"}']
    await rival.close()


def _wait_until_unsure(store: PostgresStore) -> None:
    while not store._session.unsure:
        time.sleep(0.01)


async def test_nothing_is_added_to_the_wait_while_a_commit_is_looked_for(
    store: PostgresStore, proxy: CuttingProxy
) -> None:
    await store.check()
    proxy.cut_next(b"COMMIT", arrives=True)
    proxy.hold()
    cut = asyncio.create_task(store.runs.create(a_run(), events(1, 1), DEFINITION))
    await proxy.was_cut()
    await asyncio.to_thread(_wait_until_unsure, store)
    with pytest.raises(StoreUnavailable, match="middle of a commit"):
        await store.runs.create(a_run("r2"), events(1, 1, "r2"), DEFINITION)
    proxy.let_in()
    await cut
    assert await store.journal.read("r1") == events(1, 1)


async def test_closing_does_not_wait_for_ever_for_a_commit_that_was_cut_off(
    store: PostgresStore, proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.stores.postgresql.store.LAST_LOOK_SECONDS", 0.1)
    await store.check()
    proxy.cut_next(b"COMMIT", arrives=True)
    proxy.hold()
    cut = asyncio.create_task(store.runs.create(a_run(), events(1, 1), DEFINITION))
    await proxy.was_cut()
    async with asyncio.timeout(20):
        await store.close()
    with pytest.raises(StoreUnavailable, match="ended before it knew"):
        await cut


@pytest.mark.parametrize("arrives", [True, False], ids=["committed", "lost"])
async def test_a_rare_write_whose_commit_is_cut_off_is_told_by_its_transaction(
    store: PostgresStore, proxy: CuttingProxy, *, arrives: bool
) -> None:
    proxy.cut_next(b"COMMIT", arrives=arrives)
    stored: contextlib.AbstractContextManager[object] = (
        contextlib.nullcontext() if arrives else pytest.raises(StoreUnavailable, match="before it stored")
    )
    with stored:
        await store.workflows.register(a_workflow(), DEFINITION)
    assert len(await store.workflows.versions("t1", "w", limit=5)) == int(arrives)


async def test_a_read_goes_on_over_a_new_connection_when_its_own_was_cut(
    store: PostgresStore, proxy: CuttingProxy
) -> None:
    await store.runs.create(a_run(), events(1, 1), DEFINITION)
    proxy.cut_all()
    assert await store.journal.read("r1") == events(1, 1)


async def test_a_statement_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    address = Address(url=database_of(tmp_path), statement_timeout_seconds=0.1)
    store = PostgresStore(address, readers=1)
    await store.open()
    with pytest.raises(StoreUnavailable, match="statement_timeout_seconds"):
        await store._readers.rows("SELECT pg_sleep(5)", {})
    assert await store.journal.read("r1") == []
    await store.close()


async def test_what_postgresql_cannot_hold_harms_nothing_that_goes_out_with_it(store: PostgresStore) -> None:
    results = await asyncio.gather(
        store.runs.create(a_run("ok"), events(1, 1, "ok"), DEFINITION),
        store.runs.create(a_run("nul", workflow="\0"), events(1, 1, "nul"), DEFINITION),
        store.runs.create(a_run("large", priority=2**70), events(1, 1, "large"), DEFINITION),
        store.runs.create(a_run("fine"), events(1, 1, "fine"), DEFINITION),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), StoreError, StoreError, type(None)]
    assert not any(str(2**70) in str(result) or "\0" in str(result) for result in results)
    assert {run.id for run in await store.runs.list("t1", RunFilter(), limit=9)} == {"ok", "fine"}


async def test_a_write_is_decided_upon_anew_when_another_process_was_faster(
    store: PostgresStore, tmp_path: Path
) -> None:
    rival = PostgresStore(Address(url=database_of(tmp_path)), readers=1)
    await rival.open()
    await rival.runs.create(a_run(), events(1, 1), DEFINITION, an_answer())
    results = await asyncio.gather(
        store.runs.create(a_run(), events(1, 1), DEFINITION),
        store.runs.create(a_run("r2"), events(1, 1, "r2"), DEFINITION, an_answer()),
        store.runs.create(a_run("r3"), events(1, 1, "r3"), DEFINITION, an_answer("k2")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [AlreadyExists, AlreadyExists, type(None)]
    both = await asyncio.gather(
        *(it.workflows.register(a_workflow(), DEFINITION) for it in (store, rival)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in both) == ["AlreadyExists", "WorkflowRow"]
    await rival.close()


async def test_readers_cannot_write(store: PostgresStore) -> None:
    with pytest.raises(StoreError):
        await store._readers.rows("DELETE FROM journal", {})


async def test_every_commit_is_durable(store: PostgresStore) -> None:
    shown = await store._writer.run(lambda it: it.execute("SHOW synchronous_commit").fetchone()[0])
    assert shown == "on"
    assert shared_server().execute("SELECT 1")[0][0] == 1


async def test_a_store_may_be_closed_twice(store: PostgresStore) -> None:
    await store.close()
    await store.close()
