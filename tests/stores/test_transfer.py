"""Copying a SQLite store to PostgreSQL: every table and every kind of value, or nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.ports.errors import StoreError
from app.stores.postgresql.connection import Address
from app.stores.postgresql.lock import AdvisoryLock
from app.stores.postgresql.schema import prepare
from app.stores.postgresql.text import load_sql
from app.stores.postgresql.transfer import OF_THE_DATABASE, transfer
from app.stores.sql import tables_records
from app.stores.sql.sqlite import SqliteStore
from tests.postgresql_server import shared_server

TABLES = [it for it in tables_records.approvals.metadata.sorted_tables if it.name not in OF_THE_DATABASE]
VALUES: dict[str, list[Any]] = {
    "TEXT": ["", "plain", "Grüße, 世界 🎈\n'\"\\", "\x7f"],
    "INTEGER": [0, 1, -(2**63), 2**63 - 1],
    "DOUBLE": [0.0, 0.1, 1_790_000_000.123456, -1e-300],
    "BLOB": [b"", b"\x00\xff" * 500, b'{"a": "\\u0000"}', b"x"],
}


@pytest.fixture
async def data_dir(tmp_path: Path) -> Path:
    """A store with four rows in every table, of all sorts of values."""
    store = SqliteStore(tmp_path / "data")
    await store.open()
    await store.close()
    with closing(sqlite3.connect(tmp_path / "data" / "orchestrator.db")) as database:
        for table in TABLES:
            for number in range(4):
                row = [value(column, number) for column in table.columns]
                places = ", ".join("?" for _ in row)
                database.execute(f"INSERT INTO {table.name} VALUES ({places})", row)  # noqa: S608  of ours
        database.commit()
    return tmp_path / "data"


def value(column: Any, number: int) -> Any:
    """One of its type; keys and references are the same everywhere, and unlike in each row."""
    kind = str(column.type).replace("DOUBLE PRECISION", "DOUBLE")
    if column.nullable and number == 0:
        return None
    if column.name == "labels":
        return "{}"
    if column.primary_key or column.foreign_keys or column.name in {"hash", "run_id", "revision"}:
        return f"key {number}" if kind == "TEXT" else number
    return VALUES[kind][number]


@pytest.fixture
def address() -> Address:
    """An empty database of this release's schema."""
    made = Address(url=shared_server().create_database())
    prepare(made, load_sql())
    return made


def copied(address: Address, table: str) -> int:
    return int(shared_server().execute(f"SELECT count(*) FROM {table}", url=address.url)[0][0])  # noqa: S608  of ours


async def test_nothing_is_copied_from_a_folder_without_a_store(tmp_path: Path, address: Address) -> None:
    with pytest.raises(StoreError, match=r"there is no 'orchestrator\.db'"):
        await transfer(tmp_path, address)


async def test_nothing_is_copied_into_a_database_that_holds_something(
    data_dir: Path, address: Address
) -> None:
    shared_server().execute("INSERT INTO inbox VALUES ('a', 'b', 'c', ''::bytea, 0)", url=address.url)
    with pytest.raises(StoreError, match=r"'inbox' in the database of store\.url holds rows already"):
        await transfer(data_dir, address)
    assert copied(address, "definitions") == 0


async def test_nothing_is_copied_while_a_process_executes_on_the_target(
    data_dir: Path, address: Address
) -> None:
    lock = AdvisoryLock(address)
    assert await lock.acquire()
    with pytest.raises(StoreError, match=r"a process executes runs on store\.url"):
        await transfer(data_dir, address)
    await lock.release()


async def test_nothing_is_copied_from_another_releases_schema(data_dir: Path, address: Address) -> None:
    with closing(sqlite3.connect(data_dir / "orchestrator.db")) as database, database:
        database.execute("UPDATE schema_version SET version = 1")
    with pytest.raises(StoreError, match=r"has schema version 1.*llm-orchestrator migrate"):
        await transfer(data_dir, address)


async def test_a_row_that_cannot_be_held_there_leaves_nothing_there(data_dir: Path, address: Address) -> None:
    with closing(sqlite3.connect(data_dir / "orchestrator.db")) as database, database:
        database.execute("UPDATE webhook_endpoints SET url = 'a' || char(0) WHERE id = 'key 2'")
    with pytest.raises(StoreError, match="'webhook_endpoints' cannot be copied"):
        await transfer(data_dir, address)
    assert [table.name for table in TABLES if copied(address, table.name)] == []


async def test_rows_that_are_not_the_same_afterwards_are_not_kept(data_dir: Path, address: Address) -> None:
    shared_server().execute(
        "CREATE FUNCTION altered() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.message = 'other'; RETURN NEW; END $$",
        url=address.url,
    )
    shared_server().execute(
        "CREATE TRIGGER altered BEFORE INSERT ON approvals FOR EACH ROW EXECUTE FUNCTION altered()",
        url=address.url,
    )
    with pytest.raises(StoreError, match="'approvals' is not the same in both databases"):
        await transfer(data_dir, address)
    assert [table.name for table in TABLES if copied(address, table.name)] == []


async def test_every_table_and_every_value_is_the_same_in_both(data_dir: Path, address: Address) -> None:
    before = (data_dir / "orchestrator.db").read_bytes()
    done = await transfer(data_dir, address)
    assert {(it.table, it.rows) for it in done} == {(table.name, 4) for table in TABLES}
    assert (data_dir / "orchestrator.db").read_bytes() == before
    with closing(sqlite3.connect(data_dir / "orchestrator.db")) as database:
        for table in TABLES:
            keys = ", ".join(column.name for column in table.primary_key)
            columns = ", ".join(column.name for column in table.columns)
            query = f"SELECT {columns} FROM {table.name} ORDER BY {keys}"  # noqa: S608  of ours
            there = [tuple(row) for row in shared_server().execute(query, url=address.url)]
            assert there == database.execute(query).fetchall(), table.name
