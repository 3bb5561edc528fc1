"""Brings a database of an earlier schema version up to this release's, in place.

Versions only ever add tables, and columns that may be empty; indexes come and go. So an upgrade is what the
schema of this release has and the file lacks, whatever version the file is of, and an earlier release that
still has it open goes on, if more slowly. A change of any other sort needs a step of its own here.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

import structlog

from app.stores.sql.text import Sql

log = structlog.get_logger(__name__)


def upgrade(connection: sqlite3.Connection, sql: Sql, *, found: int, wanted: int) -> None:
    """Add what is missing, within the transaction that the connection is in."""
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(sql["schema"])
        known = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
        for name, text in _definitions(model, "table"):
            if name in known:
                _add_columns(connection, model, name)
            else:
                connection.execute(text)
        # Indexes come last: they may be on columns that were just added.
        indexes = dict(_definitions(model, "index"))
        for name in indexes.keys() - known:
            connection.execute(indexes[name])
        # One that no statement uses any more would still cost every write.
        for name in dict(_definitions(connection, "index")).keys() - indexes:
            connection.execute(f'DROP INDEX "{name}"')
    connection.execute(sql["schema_version_raise"], {"version": wanted})
    log.info("store_upgraded", from_version=found, to_version=wanted)


def _definitions(model: sqlite3.Connection, kind: str) -> list[tuple[str, str]]:
    """Names and texts; indexes that SQLite makes by itself have no text."""
    query = "SELECT name, sql FROM sqlite_schema WHERE type = ? AND sql IS NOT NULL ORDER BY rowid"
    return model.execute(query, (kind,)).fetchall()


def _add_columns(connection: sqlite3.Connection, model: sqlite3.Connection, table: str) -> None:
    present = {name for name, _ in _columns(connection, table)}
    for name, type_name in _columns(model, table):
        if name not in present:
            connection.execute(f'ALTER TABLE "{table}" ADD COLUMN "{name}" {type_name}')


def _columns(connection: sqlite3.Connection, table: str) -> list[tuple[str, str]]:
    return connection.execute("SELECT name, type FROM pragma_table_info(?)", (table,)).fetchall()
