"""The SQL text that ships is the text of the tables and queries, and reads by index."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import get_args

import pytest

from app.ports.runs import TERMINAL_STATUSES, RunStatus
from app.stores.sql import tables, views
from app.stores.sql.compile import TARGET, render
from app.stores.sql.text import SIZES, load_sql

SQL = load_sql()
SCANS_ALLOWED = {
    "schema_version_get": "one row",
    "runs_by_status": "finished runs are in no queue; nobody asks in service",
    "count_by_status": "finished runs are in no queue; nobody asks in service",
    "probe": "one row",
    "active_by_key": "of an index that has only runs with a key that have not ended",
    "pruned_journals_get": "runs that are being deleted: one, as a rule",
}


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SQL["schema"])
        yield connection


def test_the_shipped_text_is_current() -> None:
    assert TARGET.read_text(encoding="utf-8") == render(), "run `python -m app.stores.sql.compile`"


def test_every_status_is_either_unfinished_or_terminal() -> None:
    assert set(tables.UNFINISHED) == views.UNFINISHED
    assert set(get_args(RunStatus)) == views.UNFINISHED | TERMINAL_STATUSES
    assert views.UNFINISHED.isdisjoint(TERMINAL_STATUSES)


@pytest.mark.parametrize("name", sorted(set(SQL.named) - {"schema"} - set(SCANS_ALLOWED)))
def test_no_statement_scans_a_table(connection: sqlite3.Connection, name: str) -> None:
    text = SQL[name]
    parameters = dict.fromkeys(re.findall(r":(\w+)", text))
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters)]
    stored = {table.name for table in tables.metadata.sorted_tables}
    assert not [step for step in plan if step.startswith("SCAN") and step.split()[1] in stored]
    assert not [step for step in plan if "TEMP B-TREE" in step]


def test_a_listing_by_workflow_does_not_pass_the_others(connection: sqlite3.Connection) -> None:
    text = SQL["runs_list_workflow"]
    plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", dict.fromkeys(re.findall(r":(\w+)", text)))
    assert "runs_of_workflow" in plan.fetchone()[3]


@pytest.mark.parametrize("name", sorted(SQL.bulk))
def test_bulk_statements_fit_the_default_limits_of_sqlite(connection: sqlite3.Connection, name: str) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
    bulk = SQL.bulk[name]
    for size in SIZES:
        connection.execute(bulk.texts[size], [None] * (size * bulk.width))
    assert connection.execute("SELECT count(*) FROM runs").fetchone() == (0,)


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 1023, 1024, 1025, 3000])
def test_bulk_parameters_are_split_without_loss(rows: int) -> None:
    parameters = list(range(rows * 5))
    split = list(SQL.bulk["insert_journal"].statements(list(parameters)))
    together = [part[start : start + 5] for _, part in split for start in range(0, len(part), 5)]
    assert [value for row in together if row[0] is not None for value in row] == parameters
    for text, part in split:
        assert text.count("?") == len(part)


@pytest.mark.parametrize("name", sorted(SQL.bulk))
def test_rows_that_fill_up_write_nothing(connection: sqlite3.Connection, name: str) -> None:
    bulk = SQL.bulk[name]
    [(text, parameters)] = bulk.statements([None] * (bulk.width * 3))
    assert len(parameters) == bulk.width * 4
    connection.execute(text, parameters)
    assert connection.execute("SELECT total_changes()").fetchone() == (0,)
