"""A backup that is taken under load, and what a service makes of it: as if the first one had died there."""

from __future__ import annotations

import asyncio
import os
import random
import re
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from tests.cli.program import call
from tests.postgresql_server import ADDRESS_FILE, database_of, find_programs, shared_server
from tests.recovery.chain import LABEL, outputs_of
from tests.recovery.ledger import Crowd, Ledger
from tests.recovery.services import Services, client_of
from tests.recovery.stored import StoredRun, integrity, stored_runs, succeeded_steps
from tests.recovery.test_random_kills import end_every_run
from tests.service_process import ROOT, ServiceProcess
from tests.simulator.process import Simulator

LATENCY_MS = 600
"""A chain takes three of it: some are under way even if nothing was submitted for a second."""
BEFORE_SECONDS = 3.0
"""Load before a backup is begun, for runs that have ended, are under way and have just been accepted."""


def documented(program: str) -> str:
    """The command line that the documentation has for it."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"`({program} -[^`]+)`", text)
    return str(command)


def keeping(number: int) -> dict[str, object]:
    """A run that stores a vector after an answer."""
    steps = [
        {"id": "ask", "type": "llm", "provider": "sim", "model": "echo", "prompt": f"{number}"},
        {
            "id": "keep",
            "type": "vector_upsert",
            "depends_on": ["ask"],
            "database": "embedded",
            "index": "kb",
            "vectors": [{"id": f"v{number}", "vector": [1, number]}],
        },
    ]
    return {"workflow": {"name": "keeping", "steps": steps}, "labels": {"vector": f"v{number}"}}


async def keep_vectors(service: ServiceProcess, stop: asyncio.Event) -> None:
    """Submit such runs, one after the other."""
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30) as http:
        number = 0
        while not stop.is_set():
            number += 1
            (await http.post("/v1/runs?wait=10", json=keeping(number))).raise_for_status()


async def loaded(service: ServiceProcess, back_up: Callable[[], None]) -> frozenset[str]:
    """Take a backup in the middle of a load; the runs that were acknowledged before it began."""
    ledger, stop = Ledger(), asyncio.Event()
    crowd = Crowd(service.url, ledger, random.Random(1))
    crowd.up.set()
    async with asyncio.TaskGroup() as group, crowd.submitting():
        group.create_task(keep_vectors(service, stop))
        await asyncio.sleep(BEFORE_SECONDS)
        acknowledged = frozenset(ledger.acknowledged)
        await asyncio.to_thread(back_up)
        await asyncio.sleep(0.5)
        stop.set()
    assert ledger.contradictions == []
    assert len(acknowledged) >= 20
    assert len(ledger.acknowledged) > len(acknowledged), "nothing was submitted during the backup"
    return acknowledged


def goes_on(services: Services, copy: Path, service: ServiceProcess, acknowledged: frozenset[str]) -> None:
    """The restored service ends every run of the backup and calls no step again that had its outcome."""
    known = stored_runs(copy)
    assert acknowledged - known.keys() == set(), "acknowledged before the backup, and not in it"
    under_way = [run for run in known.values() if run.status != "completed"]
    assert under_way, "nothing was under way in the backup"
    done, calls = succeeded_steps(copy), services.simulator.stats().by_key
    service.start()
    service.wait_ready()
    end_every_run(service)
    ended = stored_runs(service.data_dir)
    assert ended.keys() == known.keys()
    assert [it.run_id for it in ended.values() if it.flaws() or it.status != "completed"] == []
    assert wrong_outputs(ended) == []
    after = services.simulator.stats().by_key
    assert [key for key in done if after.get(key) != calls.get(key)] == []
    assert integrity(service.data_dir) == "ok"


def wrong_outputs(runs: Mapping[str, StoredRun]) -> list[str]:
    """Chains that did not bring what they should."""
    chains = [run for run in runs.values() if LABEL in run.labels]
    return [run.run_id for run in chains if run.outputs != outputs_of(run.labels[LABEL])]


async def test_a_backup_under_load_restores_every_run_and_every_vector_that_it_knows(
    services: Services, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.control(latency_ms=LATENCY_MS)
    service, copy = await asyncio.to_thread(services.ready), tmp_path / "backup"

    def back_up() -> None:
        ended = call("backup", copy, "--data-dir", services.data_dir, cwd=tmp_path)
        assert ended.code == 0, ended.err

    acknowledged = await loaded(service, back_up)
    occupied = call("restore", copy, "--data-dir", services.data_dir, "--force", cwd=tmp_path)
    assert occupied.code == 3
    assert "a process executes runs on data_dir" in occupied.err
    service.kill()

    known = stored_runs(copy)
    with closing(sqlite3.connect(copy / "vectors.db")) as database:
        vectors = {name for (name,) in database.execute("SELECT id FROM vector_record")}
    kept = {
        it.labels["vector"] for it in known.values() if "vector" in it.labels and it.status == "completed"
    }
    assert kept, "no run that keeps a vector had ended"
    assert kept <= vectors
    restored = tmp_path / "restored"
    ended = call("restore", copy, "--data-dir", restored, cwd=tmp_path)
    assert ended.code == 0, ended.err
    with ExitStack() as stack:
        second = Services(tmp_path, simulator, stack).start(data_dir=restored)
        second.kill()
        await asyncio.to_thread(goes_on, services, copy, second, acknowledged)


async def test_a_dump_of_postgresql_under_load_restores_every_run_that_it_knows(
    simulator: Simulator, tmp_path: Path
) -> None:
    programs = find_programs()
    assert programs is not None
    simulator.control(latency_ms=LATENCY_MS)
    urls = {name: database_of(tmp_path / name) for name in ("data", "restored")}

    def run(program: str, url: str) -> None:
        environment = {"PATH": f"{programs}:{os.environ['PATH']}", "ORCHESTRATOR_STORE__URL": url}
        command = ["bash", "-c", documented(program)]
        subprocess.run(command, check=True, cwd=tmp_path, env=environment, timeout=60)

    def back_up() -> None:
        run("pg_dump", urls["data"])

    with ExitStack() as stack:
        first = Services(tmp_path, simulator, stack, {"ORCHESTRATOR_STORE__URL": urls["data"]})
        service = await asyncio.to_thread(first.ready)
        acknowledged = await loaded(service, back_up)
        service.kill()
        run("pg_restore", urls["restored"])
        copy = tmp_path / "copy"
        copy.mkdir()
        (copy / ADDRESS_FILE).write_text(database_copy(urls["restored"]))
        second = Services(tmp_path, simulator, stack, {"ORCHESTRATOR_STORE__URL": urls["restored"]})
        restored = second.start(data_dir=tmp_path / "restored")
        restored.kill()
        await asyncio.to_thread(goes_on, second, copy, restored, acknowledged)


def database_copy(url: str) -> str:
    """A database that holds the same and stays as it is."""
    name = url.rpartition("/")[2]
    shared_server().execute(f'CREATE DATABASE "{name}_copy" TEMPLATE "{name}"')
    return f"{url}_copy"


@pytest.mark.parametrize("force", [False, True])
def test_a_standby_keeps_its_data_directory(force: bool, services: Services, tmp_path: Path) -> None:
    executor = services.ready()
    standby = services.ready()
    ended = call("backup", tmp_path / "backup", "--data-dir", services.data_dir, cwd=tmp_path)
    assert ended.code == 0
    with client_of(standby) as client:
        client.ended(client.accepted("after the backup"))
        options = ["--force"] if force else []
        executor.kill()
        ended = call("restore", tmp_path / "backup", "--data-dir", services.data_dir, *options, cwd=tmp_path)
        assert ended.code == 3
        assert len(client.runs()) == 1
