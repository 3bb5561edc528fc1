"""Databases as earlier releases left them, and what databases are made of."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

from app.stores.sql.schema import DATABASE_FILE, SCHEMA_VERSION
from app.stores.sql.text import load_sql
from tests.stores.samples import DEFINITION, NOON, events

Shape: TypeAlias = list[tuple[str, ...]]
Rows: TypeAlias = dict[str, list[tuple[Any, ...]]]


def schema_of(version: int) -> str:
    """The statements of a version: those of an earlier one are kept, this release's are compiled."""
    if version == SCHEMA_VERSION:
        return load_sql()["schema"]
    return Path(__file__).with_name(f"schema_{version}.sql").read_text(encoding="utf-8")


def leave_behind(data_dir: Path, version: int) -> Path:
    """A file as a release of that version left it: a finished run, one that is under way, a workflow."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / DATABASE_FILE
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(schema_of(version))
        connection.execute("INSERT INTO schema_version VALUES (?)", (version,))
        connection.execute("INSERT INTO write_probe VALUES (1, zeroblob(1))")
        connection.execute("INSERT INTO definitions VALUES ('d1', ?)", (DEFINITION.document,))
        for run_id, status, finished_at in (("r1", "running", None), ("r2", "failed", NOON - 5)):
            connection.execute(
                "INSERT INTO runs (id, tenant, workflow, version, status, definition_hash, priority, labels, "
                "created_at, started_at, finished_at) "
                "VALUES (?, 't1', 'w', '1', ?, 'd1', 0, '{\"team\":\"a\"}', ?, ?, ?)",
                (run_id, status, NOON, NOON, finished_at),
            )
            connection.execute("INSERT INTO run_labels VALUES ('t1', 'team', 'a', ?, ?)", (NOON, run_id))
            for row in events(1, 2, run_id):
                connection.execute(
                    "INSERT INTO journal VALUES (?, ?, ?, ?, ?)",
                    (row.run_id, row.seq, row.type, row.payload, row.at),
                )
        connection.execute("INSERT INTO workflows VALUES ('t1', 'w', '1', 1, 'd1', NULL, '{}', ?)", (NOON,))
        connection.execute("INSERT INTO idempotency VALUES ('t1', 'k', 'f', 202, '{}', x'7b7d', ?)", (NOON,))
    return path


def version_of(path: Path) -> int:
    """The version that a file says it is of."""
    with closing(sqlite3.connect(path)) as connection:
        [[version]] = connection.execute("SELECT version FROM schema_version").fetchall()
        return int(version)


def sqlite_shape(path: Path) -> Shape:
    """Everything that a file is made of: tables with columns, keys and storage, indexes, triggers."""
    with closing(sqlite3.connect(path)) as connection:
        return sorted(_parts(connection))


def shape_of_schema(version: int) -> Shape:
    """The same of a new file of that version."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema_of(version))
        return sorted(_parts(connection))


def _parts(connection: sqlite3.Connection) -> Shape:
    parts: Shape = []
    for kind, name, text in connection.execute("SELECT type, name, sql FROM sqlite_schema").fetchall():
        if kind != "table":
            # An index that comes with a key has no text.
            parts.append((kind, name, " ".join((text or "").split())))
            continue
        for pragma in ("table_info", "foreign_key_list", "index_list"):
            found = connection.execute(f"SELECT * FROM pragma_{pragma}(?)", (name,)).fetchall()  # noqa: S608  of ours
            # An index list goes by age, which is of no account.
            told = (
                sorted(str(row[1:]) for row in found) if pragma == "index_list" else [str(it) for it in found]
            )
            parts.append((kind, name, pragma, *told))
        query = "SELECT ncol, wr, strict FROM pragma_table_list(?)"
        parts.append((kind, name, "storage", str(connection.execute(query, (name,)).fetchall())))
    return parts


def rows_of(path: Path, *, known_to: int) -> Rows:
    """All rows, as far as a version knows their tables and columns."""
    with closing(sqlite3.connect(":memory:")) as model, closing(sqlite3.connect(path)) as connection:
        model.executescript(schema_of(known_to))
        tables = [name for (name,) in model.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        rows: Rows = {}
        for table in sorted(set(tables) - {"schema_version"}):
            info = model.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
            columns = ", ".join(f'"{name}"' for (name,) in info)
            rows[table] = sorted(connection.execute(f"SELECT {columns} FROM {table}").fetchall(), key=str)  # noqa: S608  of ours
        return rows
