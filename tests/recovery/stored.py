"""What a process that was killed left in its data directory.

Read from a copy, because the last reader of a database folds its write-ahead log in: what the next process
finds is to be what the dead one left. While another process is alive it is the other way round: a commit
that was written and not yet announced in the shared index does not count for it, but would in a copy. So
then the database itself is read. A service on PostgreSQL has `postgresql.url` in its folder instead.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.ports.runs import TERMINAL_STATUSES
from app.services.run_events import TERMINAL_ROWS
from app.stores.sql.schema import DATABASE_FILE
from tests.postgresql_server import ADDRESS_FILE, execute


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the journal."""

    seq: int
    type: str
    payload: Mapping[str, Any]

    @property
    def path(self) -> str:
        """The step it is about; empty for the run itself."""
        return str(self.payload.get("path") or "")


@dataclass(slots=True)
class StoredRun:
    """A run with its journal."""

    run_id: str
    status: str
    labels: Mapping[str, str]
    events: list[Event] = field(default_factory=list)

    def of(self, kind: str) -> list[str]:
        """The steps of its events of a type, in order."""
        return [event.path for event in self.events if event.type == kind]

    @property
    def outputs(self) -> Any:
        """What it brought; None unless it completed."""
        last = self.events[-1]
        return last.payload["data"]["outputs"] if last.type == "RunCompleted" else None

    def flaws(self) -> list[str]:
        """What is wrong with the journal of an ended run; nothing, one hopes."""
        flaws = []
        if [event.seq for event in self.events] != list(range(1, len(self.events) + 1)):
            flaws.append("the seq has gaps")
        terminal = [event.type for event in self.events if event.type in TERMINAL_ROWS]
        if len(terminal) != 1 or self.events[-1].type not in TERMINAL_ROWS:
            flaws.append(f"the terminal events are {terminal}, the last is {self.events[-1].type}")
        done: set[str] = set()
        for event in self.events:
            if event.path in done:
                flaws.append(f"{event.type} of {event.path} after its outcome")
            if event.type == "StepSucceeded":
                done.add(event.path)
        return flaws


def stored_runs(data_dir: Path) -> dict[str, StoredRun]:
    """Every run by its id."""
    with _asking(data_dir) as ask:
        runs = {
            run_id: StoredRun(run_id, status, json.loads(labels))
            for run_id, status, labels in ask("SELECT id, status, labels FROM runs")
        }
        for run_id, seq, kind, payload in ask(
            "SELECT run_id, seq, type, payload FROM journal ORDER BY run_id, seq"
        ):
            runs[run_id].events.append(Event(seq, kind, json.loads(payload)))
    return runs


def stored_journals(data_dir: Path) -> dict[str, tuple[Mapping[str, Any], Sequence[Any]]]:
    """Of every run its document, and its journal: seq, type, payload and time of each row."""
    with _asking(data_dir, live=True) as ask:
        documents = {
            run_id: json.loads(document)
            for run_id, document in ask(
                "SELECT runs.id, document FROM runs JOIN definitions ON hash = definition_hash"
            )
        }
        rows = ask("SELECT run_id, seq, type, payload, at FROM journal ORDER BY run_id, seq")
    return {
        run_id: (document, [tuple(row)[1:] for row in rows if row[0] == run_id])
        for run_id, document in documents.items()
    }


def succeeded_steps(data_dir: Path, *, live: bool = False) -> set[str]:
    """`run:step` of every outcome in the journal: the idempotency keys that must not be called again."""
    with _asking(data_dir, live=live) as ask:
        rows = ask("SELECT run_id, payload FROM journal WHERE type = 'StepSucceeded'")
        return {f"{run_id}:{json.loads(payload)['path']}" for run_id, payload in rows}


def unended_runs(data_dir: Path) -> int:
    """How many runs are in hand while processes live."""
    with _asking(data_dir, live=True) as ask:
        ended = ", ".join(f"'{status}'" for status in sorted(TERMINAL_STATUSES))
        return int(ask(f"SELECT count(*) FROM runs WHERE status NOT IN ({ended})")[0][0])  # noqa: S608  constants only


def integrity(data_dir: Path) -> str:
    """What SQLite finds when it checks everything: `ok`. PostgreSQL is asked for runs without events."""
    with _asking(data_dir) as ask:
        if (data_dir / ADDRESS_FILE).exists():
            lost = ask("SELECT id FROM runs WHERE id NOT IN (SELECT run_id FROM journal WHERE seq = 1)")
            return f"without events: {lost}" if lost else "ok"
        return str(ask("PRAGMA integrity_check")[0][0])


@contextmanager
def _asking(data_dir: Path, *, live: bool = False) -> Iterator[Callable[[str], Sequence[Any]]]:
    if (data_dir / ADDRESS_FILE).exists():
        url = (data_dir / ADDRESS_FILE).read_text(encoding="utf-8")
        yield lambda query: execute(url, query)
        return
    with _original(data_dir) if live else _copy(data_dir) as database:
        yield lambda query: database.execute(query).fetchall()


@contextmanager
def _copy(data_dir: Path) -> Iterator[sqlite3.Connection]:
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", "-wal"):
            original = data_dir / f"{DATABASE_FILE}{suffix}"
            if original.exists():
                shutil.copy(original, folder)
        with closing(sqlite3.connect(Path(folder) / DATABASE_FILE)) as database:
            yield database


@contextmanager
def _original(data_dir: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{(data_dir / DATABASE_FILE).as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        yield database
