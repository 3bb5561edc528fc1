"""What a killed process leaves behind: every acknowledged write, and journals without gaps."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from app.stores.sql.sqlite import SqliteStore

WRITER = """
import asyncio, sys
from pathlib import Path
from app.stores.sql.sqlite import SqliteStore
from tests.stores.samples import DEFINITION, a_run, events

async def drive(store, run_id):
    await store.runs.create(a_run(run_id), events(1, 1, run_id), DEFINITION)
    print("ack", run_id, 1, flush=True)
    for seq in range(2, 100_000, 2):
        await store.journal.append(events(seq, seq + 1, run_id))
        print("ack", run_id, seq + 1, flush=True)

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.open()
    await asyncio.gather(*(drive(store, f"{sys.argv[2]}-{n}") for n in range(20)))

asyncio.run(main())
"""
ACKNOWLEDGED_BEFORE_THE_KILL = 600


@pytest.mark.timeout(120)
def test_no_acknowledged_write_is_lost_to_kill_9(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    for life in range(4):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(life)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as writer:
            assert writer.stdout is not None
            for count, line in enumerate(writer.stdout):
                if count == ACKNOWLEDGED_BEFORE_THE_KILL + 97 * life:
                    writer.send_signal(signal.SIGKILL)
                if line.startswith("ack ") and line.endswith("\n"):
                    _, run_id, seq = line.split()
                    acknowledged[run_id] = int(seq)
        assert writer.returncode == -signal.SIGKILL
    seqs = asyncio.run(_stored_seqs(tmp_path, acknowledged))
    assert len(acknowledged) == 80
    assert not {run_id: seq for run_id, seq in acknowledged.items() if len(seqs[run_id]) < seq}
    assert not [run_id for run_id, found in seqs.items() if found != list(range(1, len(found) + 1))]


async def _stored_seqs(data_dir: Path, run_ids: Iterable[str]) -> dict[str, list[int]]:
    store = SqliteStore(data_dir)
    await store.open()
    seqs: dict[str, list[int]] = {}
    for run_id in run_ids:
        assert await store.runs.get("t1", run_id) is not None
        seqs[run_id] = [row.seq for row in await store.journal.read(run_id)]
    await store.close()
    return seqs
