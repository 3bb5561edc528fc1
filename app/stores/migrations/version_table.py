"""The table that says which version a database is of: the one there has always been, as Alembic reads it.

Alembic would keep a table of its own, with text in it. A database has one table of its version, with one
number: `schema_version`. Alembic finds a dialect's implementation by the class that was defined last for it,
so importing this module is what makes it so; only the environment does.
"""

from __future__ import annotations

from typing import Any, Final

from alembic.ddl.postgresql import PostgresqlImpl
from alembic.ddl.sqlite import SQLiteImpl
from sqlalchemy import BigInteger, Column, Dialect, Integer, MetaData, Table
from sqlalchemy.types import TypeDecorator

VERSION_TABLE: Final = "schema_version"


class _Number(TypeDecorator[str]):
    """A number in the database, text for Alembic."""

    impl = Integer
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return BigInteger() if dialect.name == "postgresql" else Integer()

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else str(value)


def _table() -> Table:
    # The key is Alembic's name of the column.
    version: Column[str] = Column(
        "version", _Number, key="version_num", primary_key=True, autoincrement=False
    )
    return Table(VERSION_TABLE, MetaData(), version)


class SqliteVersion(SQLiteImpl):
    """SQLite's, with our table."""

    __dialect__ = "sqlite"

    def version_table_impl(self, **_: Any) -> Table:
        """The table, whatever Alembic would call it."""
        return _table()


class PostgresqlVersion(PostgresqlImpl):
    """PostgreSQL's, with our table."""

    __dialect__ = "postgresql"

    def version_table_impl(self, **_: Any) -> Table:
        """The same."""
        return _table()
