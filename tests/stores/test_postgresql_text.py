"""The SQL text that ships for PostgreSQL is the text of the tables and queries, and the server takes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.stores.postgresql.compile import TARGET, render
from app.stores.postgresql.connection import Address, Connection
from app.stores.postgresql.schema import prepare
from app.stores.postgresql.text import load_sql, numbered
from app.stores.sql import text as sqlite_text
from tests.postgresql_server import database_of

SQL = load_sql()
MADE_ONCE = {"schema", "triggers"}


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    address = Address(url=database_of(Path(tmp_path_factory.mktemp("text"))))
    prepare(address, SQL)
    opened = Connection(address)
    yield opened
    opened.close()


def test_the_shipped_text_is_current() -> None:
    assert TARGET.read_text(encoding="utf-8") == render(), "run `python -m app.stores.postgresql.compile`"


def test_both_databases_have_the_same_statements() -> None:
    sqlite = sqlite_text.load_sql()
    assert set(sqlite.named) <= set(SQL.named)
    assert set(sqlite.bulk) <= set(SQL.bulk)
    for name, bulk in sqlite.bulk.items():
        assert SQL.bulk[name].width == bulk.width


@pytest.mark.parametrize("name", sorted(set(SQL.named) - MADE_ONCE))
def test_the_server_takes_every_statement(connection: Connection, name: str) -> None:
    connection._prepare(SQL[name])


@pytest.mark.parametrize("name", sorted(SQL.bulk))
def test_a_bulk_statement_takes_one_array_a_column(connection: Connection, name: str) -> None:
    bulk = SQL.bulk[name]
    assert [*bulk.statements([])] == []
    [(text, columns)] = bulk.statements([None] * (3 * bulk.width))
    assert [len(column) for column in columns] == [3] * bulk.width
    connection.begin()
    assert connection.execute(text, columns).rowcount == 0
    connection.rollback()


def test_parameters_are_numbered_by_name_and_casts_are_left_alone() -> None:
    assert numbered("SELECT :b, :a, :b::text") == ("SELECT $1, $2, $1::text", ["b", "a"])
