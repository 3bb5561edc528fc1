"""What earlier releases wrote, this one reads and decides as they did: every recorded journal."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from app.core import events as e
from app.steps.registry import CONTROL_KINDS, STEP_KINDS
from tests.engines.journals import FOLDER, RecordedRun, diverging, ended_as, read_recorded
from tests.engines.record_journals import LIVES, file_name

RECORDED = {path.stem: read_recorded(path) for path in sorted(FOLDER.glob("*.ndjson"))}
NOT_RECORDED = {e.ClockMoved}
"""It takes a clock that somebody sets."""


def test_a_journal_of_another_course_is_found_out() -> None:
    run = RECORDED["0.1.0-retried"]
    later = [replace(row, payload=row.payload.replace(b'"attempt": 2', b'"attempt": 3')) for row in run.rows]
    with pytest.raises(Exception, match="attempt"):
        diverging(replace(run, rows=later))
    index = next(n for n, row in enumerate(run.rows) if row.type == "RetryScheduled")
    moved = replace(run.rows[index], payload=run.rows[index].payload.replace(b'"due_at": 1', b'"due_at": 2'))
    flaws = diverging(replace(run, rows=[*run.rows[:index], moved, *run.rows[index + 1 :]]))
    assert "RetryScheduled" in flaws[0]


def test_every_life_every_kind_and_every_event_is_recorded() -> None:
    assert {name.partition("-")[2] for name in RECORDED} >= {file_name(live) for live in LIVES}
    written = {row.type for run in RECORDED.values() for row in run.rows}
    assert {kind for kind in get_args(e.Event) if kind.__name__ not in written} == NOT_RECORDED
    kinds = {kind for run in RECORDED.values() for kind in kinds_of(run.document)}
    assert kinds >= {*STEP_KINDS, *CONTROL_KINDS}


def kinds_of(document: object) -> set[str]:
    """Every `type` within a document."""
    if isinstance(document, list | tuple):
        return {kind for item in document for kind in kinds_of(item)}
    if not isinstance(document, dict):
        return set()
    own = {document["type"]} if isinstance(document.get("type"), str) else set()
    return own | {kind for item in document.values() for kind in kinds_of(item)}


@pytest.mark.parametrize("run", RECORDED.values(), ids=RECORDED)
def test_a_recorded_journal_is_read_and_decided_as_it_was(run: RecordedRun) -> None:
    assert diverging(run) == []
    assert ended_as(run) == run.said
