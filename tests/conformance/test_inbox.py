"""What every store does with the inbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.ports.errors import AlreadyExists, StoreUnavailable
from app.ports.inbox import ControlRow
from app.ports.runs import Store
from tests.conformance.test_store import STORES

ONE = ControlRow(id="c1", run_id="r1", type="CancelRequested", payload=b'{"reason":"\xc3\xa4"}', at=100.0)


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = STORES[request.param](tmp_path)
    await opened.open()
    yield opened
    await opened.close()


async def test_a_closed_store_takes_no_control(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.inbox.put(ONE)
    with pytest.raises(StoreUnavailable):
        await store.inbox.get("c1")


async def test_an_id_is_taken_once(store: Store) -> None:
    await store.inbox.put(ONE)
    with pytest.raises(AlreadyExists):
        await store.inbox.put(replace(ONE, run_id="r2"))
    assert await store.inbox.get("c1") == ONE
    assert await store.inbox.get("c2") is None


async def test_the_first_outcome_stays(store: Store) -> None:
    await store.inbox.settle("c1", "stored")
    await store.inbox.put(ONE)
    await store.inbox.settle("c1", "stored")
    await store.inbox.settle("c1", "refused")
    assert await store.inbox.get("c1") == replace(ONE, outcome="stored")


async def test_what_is_unsettled_of_some_runs_comes_oldest_first(store: Store) -> None:
    rows = [
        replace(ONE, id=f"c{number}", run_id=f"r{number % 3}", at=100.0 - number % 4) for number in range(8)
    ]
    for row in rows:
        await store.inbox.put(row)
    await store.inbox.settle("c4", "refused")
    wanted = [row for row in rows if row.run_id in {"r0", "r1"} and row.id != "c4"]
    assert [*await store.inbox.unsettled({"r0", "r1", "r9"})] == sorted(
        wanted, key=lambda row: (row.at, row.id)
    )
    assert [*await store.inbox.unsettled(())] == []


async def test_runs_with_an_old_control_that_nobody_settled_are_neglected(store: Store) -> None:
    for number in range(4):
        await store.inbox.put(replace(ONE, id=f"c{number}", run_id=f"r{number}", at=100.0 + number))
        await store.inbox.put(replace(ONE, id=f"d{number}", run_id=f"r{number}", at=100.0 + number))
    await store.inbox.settle("c0", "stored")
    await store.inbox.settle("d0", "stored")
    assert [*await store.inbox.neglected(103.0, limit=10)] == ["r1", "r2"]
    assert [*await store.inbox.neglected(103.0, limit=2)] == ["r1"]


async def test_old_controls_are_deleted_settled_or_not(store: Store) -> None:
    for number in range(4):
        await store.inbox.put(replace(ONE, id=f"c{number}", at=100.0 + number))
    await store.inbox.settle("c0", "stored")
    assert await store.inbox.prune(102.0) == 2
    assert [row.id for row in await store.inbox.unsettled({"r1"})] == ["c2", "c3"]
