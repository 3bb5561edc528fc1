"""A PostgreSQL store on its way from one schema version to another, and what keeps it from going."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from app.ports.errors import StoreError
from app.ports.runs import RunFilter
from app.stores.migrations.history import History, Migrated, WouldLose
from app.stores.migrations.postgresql import migrate, standing
from app.stores.postgresql import schema
from app.stores.postgresql.connection import Address
from app.stores.postgresql.lock import AdvisoryLock
from app.stores.postgresql.store import PostgresStore
from app.stores.sql.schema import SCHEMA_VERSION
from tests.postgresql_server import database_of, shared_server
from tests.stores.samples import DEFINITION, a_run, events

NEWER: Final = SCHEMA_VERSION + 1
LATER: Final = "tests.stores:later"
SHAPE: Final = (
    """\
SELECT table_name, column_name, ordinal_position, data_type, collation_name, is_nullable, column_default
FROM information_schema.columns WHERE table_schema = 'public'""",
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    """\
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace""",
    "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return database_of(tmp_path)


@pytest.fixture
def address(url: str) -> Address:
    return Address(url=url)


@pytest.fixture
def history() -> History:
    return History("postgresql")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> History:
    """The history of a release that has one version more."""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", NEWER)
    return History("postgresql", LATER)


@pytest.fixture
async def filled(address: Address) -> Address:
    """A store of today's version with a run in it."""
    store = PostgresStore(address)
    await store.open()
    await store.runs.create(a_run(), events(1, 1), DEFINITION)
    await store.close()
    return address


def shape(url: str) -> list[list[str]]:
    return [sorted(str(tuple(row)) for row in shared_server().execute(query, url=url)) for query in SHAPE]


def version_of(url: str) -> int:
    return int(shared_server().execute("SELECT version FROM schema_version", url=url)[0][0])


async def test_a_store_of_an_earlier_version_is_refused_with_the_command_to_run(
    filled: Address, later: History
) -> None:
    with pytest.raises(StoreError, match=r"this release needs 4: .*`llm-orchestrator migrate`"):
        await PostgresStore(filled).open()
    now = await standing(filled, later)
    assert (now.found, now.wanted, [it.version for it in now.pending]) == (SCHEMA_VERSION, NEWER, [NEWER])


async def test_what_is_not_ours_or_newer_is_left_alone(url: str, address: Address, history: History) -> None:
    shared_server().execute("CREATE TABLE runs (id int)", url=url)
    with pytest.raises(StoreError, match="another program"):
        await migrate(address, history)
    shared_server().execute("DROP TABLE runs", url=url)
    await migrate(address, history)
    shared_server().execute("UPDATE schema_version SET version = $1", NEWER, url=url)
    with pytest.raises(StoreError, match="newer release"):
        await migrate(address, history)


async def test_nothing_is_migrated_while_a_process_executes(filled: Address, later: History) -> None:
    lock = AdvisoryLock(filled)
    assert await lock.acquire()
    with pytest.raises(StoreError, match="stop every one there first"):
        await migrate(filled, later)
    await lock.release()
    assert version_of(filled.url) == SCHEMA_VERSION


async def test_nothing_is_migrated_while_a_process_serves(filled: Address, history: History) -> None:
    store = PostgresStore(filled)
    await store.open()
    with pytest.raises(StoreError, match=r"services have \d+ connections .* also workers"):
        await migrate(filled, history, to=0, agreed=True)
    assert len(await store.runs.list("t1", RunFilter(), limit=9)) == 1
    await store.close()


async def test_what_is_up_to_date_may_be_in_use(filled: Address, history: History) -> None:
    lock = AdvisoryLock(filled)
    assert await lock.acquire()
    assert await migrate(filled, history) == Migrated(before=SCHEMA_VERSION, after=SCHEMA_VERSION)
    await lock.release()


async def test_the_way_down_is_gone_only_where_that_is_agreed_to(filled: Address, history: History) -> None:
    with pytest.raises(WouldLose) as caught:
        await migrate(filled, history, to=0)
    assert {"runs: 1 rows", "journal: 1 rows"} <= set(caught.value.losses)
    assert version_of(filled.url) == SCHEMA_VERSION


async def test_a_revision_that_fails_leaves_the_database_as_it_was(filled: Address, later: History) -> None:
    shared_server().execute("CREATE TABLE in_the_way (id TEXT)", url=filled.url)
    shared_server().execute("CREATE INDEX later_ids ON in_the_way (id)", url=filled.url)
    before = shape(filled.url)
    with pytest.raises(StoreError, match=r"later_ids.* already exists"):
        await migrate(filled, later)
    assert (shape(filled.url), version_of(filled.url)) == (before, SCHEMA_VERSION)


async def test_many_that_migrate_at_once_do_it_once(filled: Address, later: History) -> None:
    # Each with a history of its own, as processes have.
    done = await asyncio.gather(*(migrate(filled, History("postgresql", LATER)) for _ in range(4)))
    assert {it.after for it in done} == {NEWER}
    assert sorted(it.before or 0 for it in done) == [SCHEMA_VERSION, NEWER, NEWER, NEWER]
    assert version_of(filled.url) == NEWER
    assert later.head == NEWER


async def test_up_and_down_again_keeps_every_row(filled: Address, later: History) -> None:
    before = shape(filled.url)
    assert await migrate(filled, later) == Migrated(before=SCHEMA_VERSION, after=NEWER)
    assert shape(filled.url) != before
    await migrate(filled, later, to=SCHEMA_VERSION, agreed=True)
    assert shape(filled.url) == before
    rows = shared_server().execute(
        "SELECT r.id, j.seq FROM runs r JOIN journal j ON run_id = id", url=filled.url
    )
    assert [tuple(row) for row in rows] == [("r1", 1)]


async def test_the_revisions_lead_to_what_a_new_database_is_made_of(
    url: str, address: Address, history: History
) -> None:
    assert (history.revisions[0].version, history.head) == (schema.FIRST_VERSION, SCHEMA_VERSION)
    assert await migrate(address, history) == Migrated(before=None, after=SCHEMA_VERSION)
    made = shape(url)
    await migrate(address, history, to=0, agreed=True)
    assert shape(url) == [[] for _ in SHAPE]
    await by_revisions(url, history)
    assert shape(url) == made
    assert version_of(url) == SCHEMA_VERSION
    assert shared_server().execute("SELECT id FROM write_probe", url=url)[0][0] == 1


async def by_revisions(url: str, history: History) -> None:
    """From nothing, which `migrate` never does: it makes the tables of today at once."""
    engine = create_async_engine(url.replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.connect() as connection:
        await connection.run_sync(lambda it: history.migrate(it, 0, history.head, agreed=False))
    await engine.dispose()
