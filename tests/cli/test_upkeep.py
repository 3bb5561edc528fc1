"""`backup`, `restore` and `migrate` at a shell: what they refuse, and the codes they end with."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.program import call
from tests.service_process import free_port, running_service


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """What a service left behind."""
    with running_service(tmp_path / "data"):
        pass
    return tmp_path / "data"


@pytest.mark.parametrize(
    "arguments",
    [["backup", "copy"], ["restore", "copy"], ["migrate", "--from", "sqlite"]],
    ids=lambda arguments: arguments[0],
)
def test_settings_that_cannot_be_used_end_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    ended = call(*arguments, cwd=tmp_path, ORCHESTRATOR_SERVER__PORT="99999")
    assert ended.code == 2
    assert ended.error_lines[0].startswith("llm-orchestrator: settings: server.port")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["backup", "copy", "--data-dir", "missing"], "there is no 'orchestrator.db' in data_dir"),
        (["restore", "missing", "--data-dir", "new"], "'missing' is no backup"),
    ],
    ids=["backup", "restore"],
)
def test_what_is_not_there_is_refused(arguments: list[str], said: str, tmp_path: Path) -> None:
    ended = call(*arguments, cwd=tmp_path)
    assert ended.code == 3
    (line,) = ended.error_lines
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_a_backup_is_not_written_over(data_dir: Path, tmp_path: Path) -> None:
    codes = [call("backup", "copy", "--data-dir", data_dir, cwd=tmp_path).code for _ in range(2)]
    assert codes == [0, 3]


def test_with_a_postgresql_store_vectors_alone_are_backed_up_and_the_rest_is_named(
    data_dir: Path, tmp_path: Path
) -> None:
    variables = {"ORCHESTRATOR_STORE__URL": "postgresql://user:password@127.0.0.1/database"}
    ended = call("backup", "copy", "--data-dir", data_dir, cwd=tmp_path, **variables)
    assert ended.code == 0
    assert "pg_dump" in ended.err
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["backup.json", "vectors.db"]
    restored = call("restore", "copy", "--data-dir", "new", cwd=tmp_path, **variables)
    assert restored.out == "new/vectors.db: restored\n"


def test_there_is_nothing_to_copy_to_without_a_url(tmp_path: Path) -> None:
    ended = call("migrate", "--from", "sqlite", cwd=tmp_path)
    assert ended.code == 2
    assert "store.url is not set" in ended.error_lines[0]


def test_a_database_that_is_away_is_told_and_the_source_can_be_used_afterwards(
    data_dir: Path, tmp_path: Path
) -> None:
    url = f"postgresql://user:password@127.0.0.1:{free_port()}/database"
    ended = call(
        *("migrate", "--from", "sqlite", "--data-dir", data_dir), cwd=tmp_path, ORCHESTRATOR_STORE__URL=url
    )
    assert ended.code == 3
    assert "cannot be reached" in ended.err
    assert "password" not in ended.err
    with closing(sqlite3.connect(data_dir / "orchestrator.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)


@pytest.mark.parametrize(
    "arguments", [["--from", "postgresql"], ["--from", "sqlite", "--to", "sqlite"], ["--to", "mysql"]]
)
def test_other_directions_are_wrong_usage(arguments: list[str], tmp_path: Path) -> None:
    ended = call("migrate", *arguments, cwd=tmp_path)
    assert ended.code == 2
    assert "Invalid value" in ended.err
