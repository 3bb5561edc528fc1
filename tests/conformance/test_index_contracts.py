"""What every store does with index contracts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.ports.errors import StoreUnavailable
from app.ports.index_contracts import IndexContract
from app.ports.runs import Store
from tests.conformance.test_store import STORES

KB = IndexContract(database="main", index="kb", model="m", dimensions=384, metric="cosine")


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = STORES[request.param](tmp_path)
    await opened.open()
    yield opened
    await opened.close()


async def test_a_closed_store_remembers_nothing(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.index_contracts.remember(KB)
    with pytest.raises(StoreUnavailable):
        await store.index_contracts.get("main", "kb")
    with pytest.raises(StoreUnavailable):
        await store.index_contracts.forget("main", "kb")


async def test_an_index_of_another_database_has_no_contract(store: Store) -> None:
    await store.index_contracts.remember(KB)
    assert await store.index_contracts.get("other", "kb") is None
    assert await store.index_contracts.get("main", "KB") is None


async def test_a_second_contract_does_not_replace_the_first(store: Store) -> None:
    assert await store.index_contracts.remember(KB) == KB
    assert await store.index_contracts.remember(replace(KB, model="n", dimensions=2)) == KB
    assert await store.index_contracts.get("main", "kb") == KB


async def test_a_contract_comes_back_as_it_was_given(store: Store) -> None:
    nameless = IndexContract(database="d'ä", index='"i"', model=None, dimensions=1, metric="euclidean")
    for contract in (KB, nameless):
        await store.index_contracts.remember(contract)
        assert await store.index_contracts.get(contract.database, contract.index) == contract


async def test_what_is_forgotten_may_be_another_next_time(store: Store) -> None:
    await store.index_contracts.forget("main", "kb")
    await store.index_contracts.remember(KB)
    await store.index_contracts.forget("main", "kb")
    assert await store.index_contracts.get("main", "kb") is None
    changed = replace(KB, model=None, dimensions=2)
    assert await store.index_contracts.remember(changed) == changed


async def test_of_many_at_once_one_is_kept_and_all_are_told_which(store: Store) -> None:
    asked = [replace(KB, model=f"m{n}") for n in range(50)]
    kept = await asyncio.gather(*(store.index_contracts.remember(contract) for contract in asked))
    assert len({contract.model for contract in kept}) == 1
    assert await store.index_contracts.get("main", "kb") == kept[0]


@pytest.mark.parametrize("name", ["sqlite"])
async def test_two_processes_keep_one_contract_and_a_restart_keeps_it(name: str, tmp_path: Path) -> None:
    stores = [STORES[name](tmp_path) for _ in range(2)]
    for one in stores:
        await one.open()
    kept = await asyncio.gather(
        *(one.index_contracts.remember(replace(KB, model=f"m{n}")) for n, one in enumerate(stores))
    )
    assert kept[0] == kept[1]
    for one in stores:
        await one.close()
    again = STORES[name](tmp_path)
    await again.open()
    assert await again.index_contracts.get("main", "kb") == kept[0]
    await again.close()
