"""`migrate` at a shell, and what every command says about a schema that is not this release's."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.stores.migrations import sqlite
from app.stores.migrations.history import History
from app.stores.postgresql.connection import Address
from app.stores.postgresql.schema import prepare
from app.stores.postgresql.text import load_sql
from app.stores.sql.schema import SCHEMA_VERSION
from tests.cli.program import SECONDS, Ended, call, environment
from tests.postgresql_server import database_of, shared_server
from tests.service_process import free_port, running_service
from tests.stores.earlier import leave_behind, rows_of, shape_of_schema, sqlite_shape, version_of

KILLED_AFTER = """\
import os, signal, sys
from sqlalchemy import Engine, event
from app.cli import main

fatal = sys.argv.pop(1)

@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *_):
    if fatal in statement:
        os.kill(os.getpid(), signal.SIGKILL)

main()
"""
"""The command line, which kills itself right after a statement that holds the first argument."""


def migrate(data_dir: Path, *arguments: str, **variables: str) -> Ended:
    return call("migrate", *arguments, "--data-dir", data_dir, cwd=data_dir.parent, **variables)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_an_earlier_schema_ends_in_one_line_that_names_the_command(data_dir: Path) -> None:
    path = leave_behind(data_dir, SCHEMA_VERSION - 1)
    ended = call(
        *("serve", "--port", "0", "--data-dir", data_dir),
        cwd=data_dir.parent,
        ORCHESTRATOR_LOG__LEVEL="error",
    )
    (line,) = ended.error_lines
    assert (ended.code, version_of(path)) == (3, SCHEMA_VERSION - 1)
    assert f"schema version {SCHEMA_VERSION - 1}, this release needs {SCHEMA_VERSION}" in line
    assert "take a backup, then run `llm-orchestrator migrate`" in line


def test_a_worker_refuses_an_earlier_schema_before_it_takes_any_run(data_dir: Path) -> None:
    leave_behind(data_dir, SCHEMA_VERSION - 1)
    ended = call(
        *("worker", "--data-dir", data_dir),
        cwd=data_dir.parent,
        ORCHESTRATOR_LOG__LEVEL="error",
        ORCHESTRATOR_ENGINE="temporal",
        ORCHESTRATOR_TEMPORAL__ADDRESS=f"127.0.0.1:{free_port()}",
    )
    assert ended.code == 3
    assert "run `llm-orchestrator migrate`" in ended.error_lines[-1]


def test_doctor_says_the_same(data_dir: Path) -> None:
    leave_behind(data_dir, SCHEMA_VERSION - 1)
    ended = call("doctor", "--data-dir", data_dir, cwd=data_dir.parent)
    (line,) = [line for line in ended.out.splitlines() if " schema: " in line]
    assert (ended.code, line.startswith("fail")) == (2, True)
    assert line.endswith("take a backup, then run `llm-orchestrator migrate`")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "latest"], "'latest' is no schema version"),
        (["--to", "postgresql"], "'postgresql' is no schema version"),
        (["--check", "--yes"], "it goes with --data-dir only"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(arguments: list[str], said: str, data_dir: Path) -> None:
    path = leave_behind(data_dir, SCHEMA_VERSION)
    ended = migrate(data_dir, *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert version_of(path) == SCHEMA_VERSION


def test_a_running_service_is_not_migrated_under_its_feet(data_dir: Path) -> None:
    with running_service(data_dir):
        assert migrate(data_dir).code == 0, "it is up to date"
        ended = migrate(data_dir, "--to", str(SCHEMA_VERSION - 1), "--yes")
        (line,) = ended.error_lines
        assert (ended.code, "a process executes runs on data_dir" in line) == (3, True)
    assert version_of(data_dir / "orchestrator.db") == SCHEMA_VERSION


def test_down_without_yes_says_what_would_be_dropped_and_where_to_keep_it(data_dir: Path) -> None:
    path = leave_behind(data_dir, SCHEMA_VERSION)
    ended = migrate(data_dir, "--to", str(SCHEMA_VERSION - 1))
    *losses, last = ended.error_lines
    assert (ended.code, version_of(path)) == (2, SCHEMA_VERSION)
    assert losses == ["would drop inbox: 0 rows", "would drop index_contracts: 0 rows"]
    assert "llm-orchestrator backup FOLDER" in last
    assert "--yes" in last


def test_check_tells_what_is_pending_and_changes_nothing(data_dir: Path) -> None:
    path = leave_behind(data_dir, 1)
    ended = migrate(data_dir, "--check")
    first, *pending, last = ended.out.splitlines()
    assert (ended.code, version_of(path)) == (1, 1)
    assert first == f"schema version 1, this release needs {SCHEMA_VERSION}; pending:"
    assert [line.split(":")[0].strip() for line in pending] == [str(n) for n in range(2, SCHEMA_VERSION + 1)]
    assert last == "take a backup first: llm-orchestrator backup FOLDER"
    assert migrate(data_dir).out == f"schema version 1 -> {SCHEMA_VERSION}\n"
    again = migrate(data_dir, "--check")
    assert (again.code, again.out) == (0, f"schema version {SCHEMA_VERSION}: up to date\n")


def test_many_that_migrate_at_once_do_it_once(data_dir: Path) -> None:
    path = leave_behind(data_dir, 1)
    with ThreadPoolExecutor(3) as threads:
        ended = list(threads.map(migrate, [data_dir] * 3))
    assert [it.code for it in ended] == [0] * 3, [it.err for it in ended]
    done = f"schema version 1 -> {SCHEMA_VERSION}\n"
    none = f"schema version {SCHEMA_VERSION}: up to date, nothing was changed\n"
    assert sorted(it.out for it in ended) == sorted([done, none, none])
    assert sqlite_shape(path) == shape_of_schema(SCHEMA_VERSION)


@pytest.mark.parametrize(
    ("found", "to", "statement", "left"),
    [
        (1, SCHEMA_VERSION, "UPDATE schema_version SET version='2'", 1),
        (1, SCHEMA_VERSION, "CREATE TABLE inbox", 2),
        (3, 1, "ALTER TABLE runs DROP COLUMN wake_at", 2),
    ],
)
def test_a_kill_in_the_middle_leaves_a_whole_version(
    found: int, to: int, statement: str, left: int, data_dir: Path
) -> None:
    path = leave_behind(data_dir, found)
    lower = min(found, to)
    known = rows_of(path, known_to=lower)
    killed(statement, "migrate", "--to", str(to), "--yes", "--data-dir", str(data_dir), cwd=data_dir)
    assert (version_of(path), sqlite_shape(path)) == (left, shape_of_schema(left))
    assert rows_of(path, known_to=lower) == known
    asyncio.run(sqlite.migrate(data_dir, History("sqlite"), to=to, agreed=True))
    assert sqlite_shape(path) == shape_of_schema(to)
    assert rows_of(path, known_to=lower) == known


def killed(statement: str, *arguments: str, cwd: Path, **variables: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER, statement, *arguments],
        cwd=cwd,
        env=environment(variables),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


@pytest.mark.servers
def test_a_kill_in_the_middle_leaves_a_whole_version_in_postgresql(tmp_path: Path) -> None:
    url = database_of(tmp_path / "database")
    variables = {"ORCHESTRATOR_STORE__URL": url}
    prepare(Address(url=url), load_sql())
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    [[before]] = shared_server().execute(tables, url=url)
    killed("DROP TABLE journal", "migrate", "--to", "0", "--yes", cwd=tmp_path, **variables)
    assert shared_server().execute("SELECT version FROM schema_version", url=url)[0][0] == SCHEMA_VERSION
    assert shared_server().execute(tables, url=url)[0][0] == before
    done = call("migrate", "--to", "0", "--yes", cwd=tmp_path, **variables)
    assert (done.code, done.out) == (0, f"schema version {SCHEMA_VERSION} -> 0\n")
    assert shared_server().execute(tables, url=url)[0][0] == 0
