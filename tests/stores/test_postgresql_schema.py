"""What the PostgreSQL store makes, what it refuses to open, and what it says about it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.ports.errors import StoreError
from app.ports.runs import RunFilter
from app.stores.postgresql import schema
from app.stores.postgresql.connection import Address
from app.stores.postgresql.store import PostgresStore
from app.stores.sql.schema import SCHEMA_VERSION
from tests.postgresql_server import database_of, shared_server
from tests.service_process import free_port
from tests.stores.samples import DEFINITION, a_run, events


@pytest.fixture
def url(tmp_path: Path) -> str:
    return database_of(tmp_path)


async def open_once(url: str) -> None:
    store = PostgresStore(Address(url=url))
    try:
        await store.open()
    finally:
        await store.close()


def set_version(url: str, version: int) -> None:
    shared_server().execute("UPDATE schema_version SET version = $1", version, url=url)


async def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    url = f"postgresql://somebody:hunter2@127.0.0.1:{free_port()}/orchestrator"
    with pytest.raises(StoreError, match=r"store\.url") as caught:
        await open_once(url)
    assert "hunter2" not in str(caught.value)
    assert "cannot be reached" in str(caught.value)


async def test_a_database_that_is_not_there_is_told() -> None:
    with pytest.raises(StoreError, match=r"store\.url names does not exist"):
        await open_once(shared_server().url("nowhere"))


async def test_a_user_that_may_not_make_tables_is_told(url: str) -> None:
    shared_server().execute("DROP ROLE IF EXISTS reader")
    shared_server().execute("CREATE ROLE reader LOGIN")
    with pytest.raises(StoreError, match="may not do this"):
        await open_once(url.replace("postgres@", "reader@"))


async def test_another_program_s_database_is_refused(url: str) -> None:
    shared_server().execute("CREATE TABLE runs (id int)", url=url)
    with pytest.raises(StoreError, match="another program"):
        await open_once(url)


async def test_a_newer_schema_is_refused(url: str) -> None:
    await open_once(url)
    set_version(url, SCHEMA_VERSION + 1)
    with pytest.raises(StoreError, match="newer release"):
        await open_once(url)


async def test_an_older_schema_is_refused_with_the_command_to_run(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_once(url)
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    with pytest.raises(StoreError, match="llm-orchestrator migrate"):
        await open_once(url)


async def test_many_may_open_a_new_database_at_once(url: str) -> None:
    stores = [PostgresStore(Address(url=url), readers=1) for _ in range(5)]
    await asyncio.gather(*(store.open() for store in stores))
    for n, store in enumerate(stores):
        await store.runs.create(a_run(f"r{n}"), events(1, 1, f"r{n}"), DEFINITION)
    assert len(await stores[0].runs.list("t1", RunFilter(), limit=100)) == 5
    await asyncio.gather(*(store.close() for store in stores))


def test_text_is_ordered_byte_by_byte_whatever_the_database_speaks(url: str) -> None:
    asyncio.run(open_once(url))
    columns = shared_server().execute(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'",
        url=url,
    )
    assert columns == []
