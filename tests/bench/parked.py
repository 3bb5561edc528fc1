"""Fills a store with runs that wait, as if as many had been submitted and parked.

    python -m tests.bench.parked DATA_DIR COUNT DUE SECONDS

`DUE` of them are due so many seconds after they were stored, the rest in a day. The journals are those of
one real run of the same document; going through the API for every one would take minutes and measure
something else.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
import uuid_utils

from app.core import events as e
from app.dsl.catalog import Catalog
from app.engines.codec import encode
from app.ports.runs import JournalRow, RunRow, StatusChange
from app.steps.registry import STEP_KINDS
from app.stores.sql.sqlite import SqliteStore

DAY: Final = 86_400.0
AT_ONCE: Final = 500
DOCUMENT: Final[dict[str, Any]] = {
    "name": "sleeper",
    "version": "1",
    "inputs": {"type": "object", "properties": {"until": {"type": "number"}}},
    "steps": [
        {"id": "rest", "type": "wait", "until": "{{ inputs.until }}"},
        {"id": "done", "type": "transform", "expression": "'awake'", "depends_on": ["rest"]},
    ],
    "outputs": {"said": "{{ steps.done.result }}"},
}


def journal_of(run: RunRow, due_at: float) -> list[JournalRow]:
    """What the engine writes of a run until it is parked."""
    at = run.created_at
    data = {
        "definition": run.definition_hash,
        "tenant": run.tenant,
        "inputs": {"until": due_at},
        "timeout": None,
        "traceparent": None,
    }
    events: list[tuple[e.Event, dict[str, Any] | None]] = [
        (e.RunSubmitted(at=at), data),
        (e.RunStarted(at=at), None),
        (e.WaitStarted(path="rest", due_at=due_at, at=at), None),
        (e.RunParked(wake_at=due_at, at=at), None),
    ]
    return [encode(run.id, seq, event, beside) for seq, (event, beside) in enumerate(events, start=1)]


async def fill(data_dir: Path, count: int, due: int, seconds: float) -> list[str]:
    """Store them; the ids of those that are due soon."""
    store = SqliteStore(data_dir)
    await store.open()
    workflow = Catalog(STEP_KINDS).compile(DOCUMENT)
    soon: list[str] = []

    async def one(number: int) -> None:
        now = time.time()
        due_at = now + (seconds if number < due else DAY)
        run = RunRow(
            id=str(uuid_utils.uuid7()),
            tenant="default",
            workflow=workflow.name,
            version=workflow.version,
            status="waiting",
            definition_hash=workflow.definition.hash,
            priority=0,
            labels={},
            created_at=now,
            started_at=now,
        )
        rows = journal_of(run, due_at)
        await store.runs.create(replace(run, status="running"), rows[:2], workflow.definition)
        await store.journal.append(rows[2:], StatusChange(status="waiting", wake_at=due_at))
        if number < due:
            soon.append(run.id)

    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*(one(number) for number in range(start, min(count, start + AT_ONCE))))
    await store.close()
    return soon


if __name__ == "__main__":
    ids = asyncio.run(fill(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
    sys.stdout.buffer.write(orjson.dumps(ids))
