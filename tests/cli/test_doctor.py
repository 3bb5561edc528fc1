"""`llm-orchestrator doctor`: what it finds, what it says to do, and what it never prints."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.doctor import findings, store
from app.stores.inspection import StoreState
from app.stores.sql.schema import SCHEMA_VERSION
from tests.cli.program import Ended, call
from tests.postgresql_server import shared_server
from tests.service_process import free_port, running_service
from tests.temporal_server import start_temporal

MARKED = "sk-this-is-the-secret-of-the-test"
PROVIDER = "ORCHESTRATOR_PROVIDERS__MINE__"


class Answers(BaseHTTPRequestHandler):
    """Answers every GET with the status in its path."""

    def do_GET(self) -> None:
        status = int(self.path.strip("/").split("/")[-1])
        self.server.asked.append(dict(self.headers))  # type: ignore[attr-defined]  # of this test's
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def vendor() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.asked = []  # type: ignore[attr-defined]  # as above
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def found(ended: Ended) -> Mapping[str, tuple[str, str]]:
    """Status, and what is said, by check."""
    lines = [line.split(maxsplit=1) for line in ended.out.splitlines()]
    return {check: (status, said) for status, rest in lines for check, said in [rest.split(": ", 1)]}


def doctor(folder: Path, *arguments: str, **variables: str) -> Ended:
    ended = call("doctor", *arguments, "--data-dir", folder / "data", cwd=folder, **variables)
    assert "Traceback" not in ended.err
    assert MARKED not in ended.out + ended.err
    return ended


# --- settings and machine -----------------------------------------------------------------------------


def test_settings_that_cannot_be_used_are_a_finding(tmp_path: Path) -> None:
    ended = doctor(tmp_path, ORCHESTRATOR_SERVER__PORT="99999")
    assert ended.code == 2
    assert found(ended)["configuration"][0] == "fail"
    assert "server.port" in ended.out


def test_settings_that_do_not_work_together_leave_the_rest_to_be_checked(tmp_path: Path) -> None:
    ended = doctor(tmp_path, ORCHESTRATOR_TEMPORAL__TLS_KEY="key.pem")
    assert ended.code == 2
    assert "temporal.tls_certificate and temporal.tls_key" in ended.out


def test_a_new_installation_is_well_and_nothing_is_made(tmp_path: Path) -> None:
    ended = doctor(tmp_path)
    assert ended.code == 0, ended.out
    assert {status for status, _ in found(ended).values()} == {"ok"}
    assert "was started and rendered" in found(ended)["template workers"][1]
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_is_none_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    ended = doctor(tmp_path)
    assert ended.code == 2
    assert found(ended)["data directory"][0] == "fail"


def test_an_open_address_and_databases_that_others_can_read_are_warnings(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "vectors.db").touch(0o644)
    ended = doctor(tmp_path, ORCHESTRATOR_SERVER__HOST="0.0.0.0", ORCHESTRATOR_SERVER__ALLOW_OPEN="true")  # noqa: S104  it is what is warned of
    assert ended.code == 1
    assert found(ended)["access"][0] == "warn"
    assert found(ended)["data directory"] == (
        "warn",
        f"others can read 'vectors.db'; chmod 600 it in '{tmp_path / 'data'}'",
    )


# --- the store ----------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("orchestrator.db", "vectors.db"):
        (tmp_path / "data" / name).write_text("this is no database, but long enough to be looked at" * 20)
    ended = doctor(tmp_path)
    assert ended.code == 2
    assert "not a SQLite database" in found(ended)["store"][1]
    assert found(ended)["vector database embedded"][0] == "fail"


@pytest.mark.parametrize(
    ("version", "status", "advice"),
    [
        (SCHEMA_VERSION + 1, "fail", "run that release, or restore a backup"),
        (
            SCHEMA_VERSION - 1,
            "fail",
            "stop the earlier release, take a backup, then run `llm-orchestrator migrate`",
        ),
    ],
)
def test_another_releases_schema_is_told(version: int, status: str, advice: str, tmp_path: Path) -> None:
    with running_service(tmp_path / "data"):
        pass
    with sqlite3.connect(tmp_path / "data" / "orchestrator.db") as database:
        database.execute("UPDATE schema_version SET version = ?", (version,))
    database.close()
    ended = doctor(tmp_path)
    assert found(ended)["schema"][0] == status
    assert found(ended)["schema"][1].endswith(advice)
    with sqlite3.connect(tmp_path / "data" / "orchestrator.db") as database:
        assert database.execute("SELECT version FROM schema_version").fetchone() == (version,)
    database.close()


def test_a_running_service_is_seen_and_not_disturbed(tmp_path: Path) -> None:
    with running_service(tmp_path / "data"):
        ended = doctor(tmp_path)
        assert ended.code == 0, ended.out
        assert found(ended)["executor"] == (
            "ok",
            "a process executes, another one would stand by; 0 runs have not ended",
        )
        assert found(ended)["schema"] == ("ok", f"version {SCHEMA_VERSION} is this release's")


def test_runs_that_nobody_executes_are_a_warning(tmp_path: Path) -> None:
    state = StoreState(schema_version=SCHEMA_VERSION, unfinished=3)
    finding = store._executor(state)
    assert finding.status == "warn"
    assert finding.line() == (
        "warn  executor: 3 runs have not ended and no process executes; start one: llm-orchestrator serve"
    )


@pytest.mark.parametrize(
    ("ahead", "status"), [(0.4, "ok"), (-3.0, "warn"), (3.0, "warn"), (-3600.0, "fail"), (3600.0, "fail")]
)
def test_a_clock_that_is_out_of_step_is_told(ahead: float, status: str) -> None:
    state = StoreState(schema_version=SCHEMA_VERSION, server="PostgreSQL 16", clock_ahead=ahead)
    assert store._clock(state).status == status


def test_a_database_server_that_is_away_is_a_failure(tmp_path: Path) -> None:
    url = f"postgresql://user:{MARKED}@127.0.0.1:{free_port()}/orchestrator"
    ended = doctor(tmp_path, ORCHESTRATOR_STORE__URL=url)
    assert ended.code == 2
    assert found(ended)["store"] == (
        "fail",
        "the database cannot be reached: see whether the one in store.url runs",
    )


def test_a_postgresql_store_says_its_version_clock_room_and_role(tmp_path: Path) -> None:
    variables = {"ORCHESTRATOR_STORE__URL": shared_server().create_database()}
    empty = found(doctor(tmp_path, **variables))
    assert empty["schema"] == ("ok", "the database is empty; the first start makes the tables")
    with running_service(tmp_path / "data", environment=variables):
        ended = doctor(tmp_path, **variables)
        seen = found(ended)
        assert seen["store"][1].startswith("PostgreSQL ")
        assert {seen[name][0] for name in ("store", "schema", "clock", "connections", "executor")} == {"ok"}
        assert seen["executor"][1].startswith("a process executes")
        assert seen["durability"] == (
            "warn",
            "fsync off: a crash of the server loses what it confirmed; "
            "turn it on in the server's configuration",
        )
        assert ended.code == 1
    assert found(doctor(tmp_path, **variables))["executor"][1].startswith("no process executes now")


# --- who is called ------------------------------------------------------------------------------------


def test_a_provider_that_cannot_be_reached_is_a_failure(tmp_path: Path) -> None:
    ended = doctor(
        tmp_path,
        **{f"{PROVIDER}BASE_URL": f"http://127.0.0.1:{free_port()}/v1", f"{PROVIDER}API_KEY": MARKED},
    )
    assert ended.code == 2
    assert found(ended)["provider mine"][0] == "fail"


def test_a_provider_without_the_key_that_its_vendor_wants_is_a_failure(tmp_path: Path) -> None:
    ended = doctor(tmp_path, **{f"{PROVIDER}VENDOR": "anthropic"})
    assert ended.code == 2
    assert found(ended)["provider mine"] == (
        "fail",
        "it has no key, so every call is refused; set api_key of providers.mine",
    )


@pytest.mark.parametrize(("status", "level"), [(200, "ok"), (401, "ok"), (404, "ok"), (503, "warn")])
def test_a_provider_is_asked_without_its_key(
    status: int, level: str, vendor: ThreadingHTTPServer, tmp_path: Path
) -> None:
    host = f"127.0.0.1:{vendor.server_port}"
    ended = doctor(
        tmp_path, **{f"{PROVIDER}BASE_URL": f"http://{host}/{status}", f"{PROVIDER}API_KEY": MARKED}
    )
    assert found(ended)["provider mine"][0] == level
    if level == "ok":
        assert found(ended)["provider mine"][1] == f"{host} can be reached; the key was not tried"
    (asked,) = vendor.asked  # type: ignore[attr-defined]  # as above
    assert MARKED not in json.dumps(asked)


def test_a_vector_database_that_is_away_is_a_failure(tmp_path: Path) -> None:
    ended = doctor(
        tmp_path,
        ORCHESTRATOR_DATABASES__KB__VENDOR="qdrant",
        ORCHESTRATOR_DATABASES__KB__BASE_URL=f"http://127.0.0.1:{free_port()}",
    )
    assert ended.code == 2
    assert found(ended)["vector database kb"][0] == "fail"


def test_a_temporal_cluster_that_is_away_is_a_failure(tmp_path: Path) -> None:
    pytest.importorskip("temporalio")
    address = f"127.0.0.1:{free_port()}"
    ended = doctor(tmp_path, ORCHESTRATOR_ENGINE="temporal", ORCHESTRATOR_TEMPORAL__ADDRESS=address)
    assert ended.code == 2
    assert found(ended)["temporal"][0] == "fail"


@pytest.mark.temporal
def test_a_task_queue_without_workers_and_a_namespace_that_is_missing_are_told(tmp_path: Path) -> None:
    pytest.importorskip("temporalio")
    with start_temporal(tmp_path) as server:
        variables = {"ORCHESTRATOR_ENGINE": "temporal", "ORCHESTRATOR_TEMPORAL__ADDRESS": server.address}
        idle = doctor(tmp_path, **variables)
        assert idle.code == 1
        assert found(idle)["temporal"] == ("ok", f"{server.address} has the namespace 'default'")
        assert found(idle)["workers"] == (
            "warn",
            "no worker waits on the task queue 'llm-orchestrator'; start one: llm-orchestrator worker",
        )
        missing = doctor(tmp_path, ORCHESTRATOR_TEMPORAL__NAMESPACE="other", **variables)
        assert missing.code == 2
        assert "has no namespace 'other'" in found(missing)["temporal"][1]


# --- how it is said -----------------------------------------------------------------------------------


def test_as_json_it_says_the_same(tmp_path: Path) -> None:
    lines, document = doctor(tmp_path), json.loads(doctor(tmp_path, "--json").out)
    assert document["status"] == "ok"
    assert [it["check"] for it in document["findings"]] == list(found(lines))
    assert set(document["findings"][0]) == {"check", "status", "detail", "advice"}


def test_the_worst_finding_decides_the_exit_code() -> None:
    some = [findings.ok("a", "b"), findings.fail("c", "d"), findings.warn("e", "f", "g")]
    assert findings.EXIT_CODES[findings.worst(some)] == 2
    assert findings.EXIT_CODES[findings.worst([some[0], some[2]])] == 1
    assert findings.EXIT_CODES[findings.worst([])] == 0
