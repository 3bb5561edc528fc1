"""Workflows at hand: never stale for what this process changed, briefly for what another did."""

from __future__ import annotations

import asyncio

import pytest

from app.ports.runs import Definition, WorkflowRow
from app.stores.memory import MemoryStore
from app.stores.recent import RecentWorkflows


class Watch:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def row(version: str) -> WorkflowRow:
    return WorkflowRow(
        tenant="t", name="w", version=version, revision=0, definition_hash=version, description=None
    )


def definition(version: str) -> Definition:
    return Definition(hash=version, document=b"{}")


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore()
    await store.open()
    return store


async def test_what_does_not_exist_is_found_once_it_does(store: MemoryStore) -> None:
    recent = RecentWorkflows(store.workflows, monotonic=Watch())
    assert await recent.get("t", "w") is None
    await store.workflows.register(row("1"), definition("1"))
    assert (await recent.get("t", "w")) is not None


async def test_another_tenants_workflow_is_not_at_hand(store: MemoryStore) -> None:
    recent = RecentWorkflows(store.workflows, monotonic=Watch())
    await recent.register(row("1"), definition("1"))
    assert await recent.get("t", "w") is not None
    assert await recent.get("other", "w") is None


async def test_an_own_registration_and_deletion_are_seen_at_once(store: MemoryStore) -> None:
    recent = RecentWorkflows(store.workflows, monotonic=Watch())
    await recent.register(row("1"), definition("1"))
    await recent.get("t", "w")
    await recent.register(row("2"), definition("2"))
    latest = await recent.get("t", "w")
    assert latest is not None
    assert latest.version == "2"
    await recent.delete("t", "w")
    assert await recent.get("t", "w") is None


class SlowStore(MemoryStore):
    """Look-ups wait for `go`, and are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.reads = 0
        inner = self.workflows.get

        async def get(tenant: str, name: str, version: str | None = None) -> WorkflowRow | None:
            self.reads += 1
            await self.go.wait()
            return await inner(tenant, name, version)

        self.workflows.get = get  # type: ignore[method-assign]  # the delay is all that this store adds


async def test_one_of_many_callers_asks_anew_and_never_later_than_the_time_that_is_promised() -> None:
    watch, store = Watch(), SlowStore()
    await store.open()
    recent = RecentWorkflows(store.workflows, monotonic=watch, ttl=1.0)
    await recent.register(row("1"), definition("1"))
    store.go.set()
    first = await recent.get("t", "w")
    store.go.clear()
    watch.now += 0.6
    asking = asyncio.create_task(recent.get("t", "w"))
    await asyncio.sleep(0)
    assert [await recent.get("t", "w") for _ in range(3)] == [first] * 3
    assert store.reads == 2
    watch.now += 0.5
    late = asyncio.create_task(recent.get("t", "w"))
    await asyncio.sleep(0)
    assert store.reads == 3
    store.go.set()
    assert await asking == await late == first


async def test_another_processs_registration_is_seen_when_the_time_is_over(store: MemoryStore) -> None:
    watch = Watch()
    recent = RecentWorkflows(store.workflows, monotonic=watch, ttl=1.0)
    await recent.register(row("1"), definition("1"))
    await recent.get("t", "w")
    await store.workflows.register(row("2"), definition("2"))
    assert (await recent.get("t", "w")) == await store.workflows.get("t", "w", "1")
    watch.now += 1.1
    assert (await recent.get("t", "w")) == await store.workflows.get("t", "w", "2")
