"""Files of earlier schema versions: refused by a service, brought up to date and back by `migrate`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.ports.errors import StoreError
from app.ports.index_contracts import IndexContract
from app.ports.runs import RunFilter, StatusChange
from app.stores.file_lock import FileLock
from app.stores.migrations.history import History, Migrated, WouldLose
from app.stores.migrations.sqlite import migrate, standing
from app.stores.sql.exclusive import alone
from app.stores.sql.schema import DATABASE_FILE, FIRST_VERSION, SCHEMA_VERSION
from app.stores.sql.sqlite import SqliteStore
from tests.stores.earlier import leave_behind, rows_of, schema_of, shape_of_schema, sqlite_shape, version_of
from tests.stores.samples import DEFINITION, NOON, a_run, a_workflow, events

EARLIER = range(FIRST_VERSION, SCHEMA_VERSION)


@pytest.fixture(params=EARLIER)
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def earlier(tmp_path: Path, version: int) -> Path:
    return leave_behind(tmp_path, version)


@pytest.fixture
def history() -> History:
    return History("sqlite")


async def test_an_earlier_schema_is_refused_with_the_command_to_run(earlier: Path, version: int) -> None:
    before = sqlite_shape(earlier)
    with pytest.raises(StoreError, match=rf"schema version {version}, .*`llm-orchestrator migrate`"):
        await SqliteStore(earlier.parent).open()
    assert (sqlite_shape(earlier), version_of(earlier)) == (before, version)


async def test_what_is_not_ours_or_newer_or_of_no_version_is_left_alone(
    tmp_path: Path, history: History
) -> None:
    path = leave_behind(tmp_path, SCHEMA_VERSION)
    for change, said in (
        ("UPDATE schema_version SET version = 99", "run the newer release"),
        ("DELETE FROM schema_version", "no schema version that there ever was"),
        ("DROP TABLE schema_version", "another program"),
    ):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(change)
        before = sqlite_shape(path)
        with pytest.raises(StoreError, match=said):
            standing(tmp_path, history)
        with pytest.raises(StoreError, match=said):
            await migrate(tmp_path, history)
        assert sqlite_shape(path) == before


async def test_nothing_is_migrated_while_a_process_executes(earlier: Path, history: History) -> None:
    lock = FileLock(earlier.parent)
    assert await lock.acquire()
    with pytest.raises(StoreError, match="a process executes runs on data_dir"):
        await migrate(earlier.parent, history)
    await lock.release()
    assert version_of(earlier) in EARLIER


async def test_nothing_is_migrated_while_a_process_has_the_file_open(
    earlier: Path, version: int, history: History
) -> None:
    with closing(sqlite3.connect(earlier)) as other:
        other.execute("SELECT count(*) FROM runs").fetchone()
        with pytest.raises(StoreError, match="also those that stand by"):
            await migrate(earlier.parent, history)
    assert version_of(earlier) == version


async def test_nobody_can_open_a_file_while_it_is_migrated(earlier: Path) -> None:
    with (
        alone(earlier),
        closing(sqlite3.connect(earlier, timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("SELECT count(*) FROM runs")


async def test_a_revision_that_fails_leaves_the_file_as_it_was(earlier: Path, history: History) -> None:
    # In the way of the last revision: the ones before are done, each as a whole.
    with closing(sqlite3.connect(earlier)) as connection, connection:
        connection.execute("CREATE VIEW index_contracts AS SELECT 1")
    with pytest.raises(StoreError, match=r"index_contracts already exists.*migrate --check"):
        await migrate(earlier.parent, history)
    with closing(sqlite3.connect(earlier)) as connection, connection:
        connection.execute("DROP VIEW index_contracts")
    assert version_of(earlier) == SCHEMA_VERSION - 1
    assert sqlite_shape(earlier) == shape_of_schema(SCHEMA_VERSION - 1)


async def test_the_way_down_is_gone_only_where_that_is_agreed_to(tmp_path: Path, history: History) -> None:
    path = leave_behind(tmp_path, SCHEMA_VERSION)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO inbox VALUES ('a', 'r1', 'cancel', x'7b7d', 1.0, NULL)")
        connection.execute("UPDATE runs SET wake_at = 1.0 WHERE id = 'r1'")
    with pytest.raises(WouldLose) as caught:
        await migrate(tmp_path, history, to=1)
    assert {"inbox: 1 rows", "runs.wake_at: 1 values", "schedules: 0 rows"} <= set(caught.value.losses)
    assert sqlite_shape(path) == shape_of_schema(SCHEMA_VERSION)


@pytest.mark.parametrize("to", [-1, SCHEMA_VERSION + 1])
async def test_a_version_that_there_is_not_is_refused(to: int, tmp_path: Path, history: History) -> None:
    path = leave_behind(tmp_path, SCHEMA_VERSION)
    with pytest.raises(StoreError, match=rf"there is no schema version {to}"):
        await migrate(tmp_path, history, to=to, agreed=True)
    assert version_of(path) == SCHEMA_VERSION


async def test_an_empty_folder_gets_the_tables_of_this_release_only(tmp_path: Path, history: History) -> None:
    with pytest.raises(StoreError, match="the database is empty"):
        await migrate(tmp_path / "new", history, to=FIRST_VERSION)
    assert await migrate(tmp_path / "new", history) == Migrated(before=None, after=SCHEMA_VERSION)
    assert sqlite_shape(tmp_path / "new" / DATABASE_FILE) == shape_of_schema(SCHEMA_VERSION)


def test_the_history_ends_with_this_release_and_begins_with_the_first_version(history: History) -> None:
    assert [it.version for it in history.revisions] == [*EARLIER, SCHEMA_VERSION]


async def test_every_version_leads_to_what_a_new_file_is_made_of(
    earlier: Path, version: int, history: History
) -> None:
    known = rows_of(earlier, known_to=version)
    for to in range(version, SCHEMA_VERSION + 1):
        await migrate(earlier.parent, history, to=to)
        assert sqlite_shape(earlier) == shape_of_schema(to)
        assert version_of(earlier) == to
    assert rows_of(earlier, known_to=version) == known
    with closing(sqlite3.connect(earlier)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    done = await migrate(earlier.parent, history)
    assert done == Migrated(before=SCHEMA_VERSION, after=SCHEMA_VERSION)


@pytest.mark.parametrize("to", EARLIER)
async def test_down_and_up_again_keeps_what_both_versions_know(
    to: int, tmp_path: Path, history: History
) -> None:
    path = leave_behind(tmp_path, SCHEMA_VERSION)
    known = rows_of(path, known_to=to)
    assert all(known[table] for table in ("runs", "journal", "run_labels", "workflows", "idempotency"))
    assert await migrate(tmp_path, history, to=to, agreed=True) == Migrated(before=SCHEMA_VERSION, after=to)
    assert sqlite_shape(path) == shape_of_schema(to)
    assert rows_of(path, known_to=to) == known
    await migrate(tmp_path, history)
    assert sqlite_shape(path) == shape_of_schema(SCHEMA_VERSION)
    assert rows_of(path, known_to=to) == known


async def test_below_the_first_version_is_an_empty_database(tmp_path: Path, history: History) -> None:
    path = leave_behind(tmp_path, SCHEMA_VERSION)
    await migrate(tmp_path, history, to=0, agreed=True)
    assert sqlite_shape(path) == []
    assert standing(tmp_path, history).found is None
    store = SqliteStore(tmp_path)
    await store.open()
    await store.close()
    assert sqlite_shape(path) == shape_of_schema(SCHEMA_VERSION)


@pytest.mark.parametrize("of", [*EARLIER, SCHEMA_VERSION])
def test_a_revision_says_what_it_adds(of: int, history: History) -> None:
    def names(version: int) -> set[str]:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(schema_of(version) if version else "")
            tables = "sqlite_schema AS t, pragma_table_info(t.name) AS c WHERE t.type = 'table'"
            query = f"SELECT t.name FROM {tables} UNION SELECT t.name || '.' || c.name FROM {tables}"  # noqa: S608  as it stands
            return {name for (name,) in connection.execute(query)}

    (revision,) = [it for it in history.revisions if it.version == of]
    new = names(of) - names(of - 1)
    # The columns of a new table go without saying.
    assert set(revision.added) == {
        name for name in new if "." not in name or name.partition(".")[0] not in new
    } - {"schema_version"}


async def test_runs_of_an_earlier_release_go_on(earlier: Path, history: History) -> None:
    await migrate(earlier.parent, history)
    store = SqliteStore(earlier.parent)
    await store.open()
    labels = {"team": "a"}
    run = a_run(status="running", started_at=NOON, labels=labels)
    assert await store.runs.get("t1", "r1") == run
    assert [row.id for row in await store.runs.list("t1", RunFilter(labels=labels), limit=9)] == ["r2", "r1"]
    assert await store.workflows.get("t1", "w") == a_workflow(revision=1)
    await store.journal.append(events(3, 3), StatusChange(status="waiting", wake_at=NOON))
    assert [row.id for row in await store.runs.due(NOON, limit=9)] == ["r1"]
    child = a_run("r3", parent_run_id="r1", concurrency_key="k")
    await store.runs.create(child, events(1, 1, "r3"), DEFINITION)
    assert await store.runs.children("t1", "r1") == [child]
    assert await store.runs.prune(NOON, limit=9) == 1
    assert await store.journal.read("r1") == events(1, 3)
    contract = IndexContract(database="d", index="i", model="m", dimensions=3, metric="cosine")
    assert await store.index_contracts.remember(contract) == contract
    await store.close()
