"""Many runs at once, over each store: all of them are there, or none is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.ports.errors import AlreadyExists
from app.ports.runs import JournalRow, RunFilter, RunRow, StatusChange, Store
from tests.conformance.test_store import STORES
from tests.stores.samples import DEFINITION, NOON, a_run, an_answer, an_event, events

MANY = 2_500
"""More than a statement holds."""


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = STORES[request.param](tmp_path)
    await opened.open()
    yield opened
    await opened.close()


def several(count: int, prefix: str = "m") -> tuple[list[RunRow], list[JournalRow]]:
    names = [f"{prefix}{number:05}" for number in range(count)]
    runs = [replace(a_run(name), labels={"batch": prefix, "row": name}) for name in names]
    return runs, [an_event(1, name) for name in names]


async def listed(store: Store, batch: str = "m") -> set[str]:
    rows = await store.runs.list("t1", RunFilter(labels={"batch": batch}), limit=10_000)
    return {row.id for row in rows}


async def test_an_id_that_is_taken_refuses_all(store: Store) -> None:
    runs, first = several(5)
    await store.runs.create(a_run(runs[3].id), events(1, 1, runs[3].id), DEFINITION)
    with pytest.raises(AlreadyExists, match=runs[3].id):
        await store.runs.create_many(runs, first, DEFINITION, an_answer())
    assert await listed(store) == set()
    assert await store.journal.read(runs[0].id) == []
    assert await store.idempotency.find("t1", an_answer().key) is None


async def test_a_key_that_is_taken_refuses_all(store: Store) -> None:
    await store.idempotency.save(an_answer())
    with pytest.raises(AlreadyExists, match=an_answer().key):
        await store.runs.create_many(*several(5), DEFINITION, an_answer())
    assert await listed(store) == set()


async def test_what_does_not_belong_together_is_refused(store: Store) -> None:
    runs, first = several(3)
    for these, those in [
        ([], []),
        (runs, first[:2]),
        ([runs[0], runs[0]], [first[0], first[0]]),
        (runs, [first[1], first[0], first[2]]),
        (runs, [replace(first[0], seq=2), *first[1:]]),
        ([runs[0], replace(runs[1], tenant="t2")], first[:2]),
    ]:
        with pytest.raises(ValueError, match="run"):
            await store.runs.create_many(these, those, DEFINITION)
    assert await listed(store) == set()


async def test_all_are_there_with_their_events_and_the_answer(store: Store) -> None:
    runs, first = several(MANY)
    await store.runs.create_many(runs, first, DEFINITION, an_answer())
    assert await listed(store) == {run.id for run in runs}
    assert await store.runs.count(frozenset({"pending"})) == MANY
    for position in (0, 1_500, MANY - 1):
        assert await store.runs.get("t1", runs[position].id) == runs[position]
        assert await store.journal.read(runs[position].id) == [first[position]]
    assert await store.runs.definition(DEFINITION.hash) == DEFINITION
    assert await store.idempotency.find("t1", an_answer().key) == an_answer()


async def test_they_go_on_as_any_other_run_does(store: Store) -> None:
    runs, first = several(3)
    await store.runs.create_many(runs, first, DEFINITION)
    change = StatusChange(status="running", started_at=NOON)
    await store.journal.append([an_event(2, runs[1].id)], change)
    row = await store.runs.get("t1", runs[1].id)
    assert row is not None
    assert row.status == "running"
    await store.runs.create_many(*several(3, "n"), DEFINITION)
    assert len(await listed(store, "n")) == 3
