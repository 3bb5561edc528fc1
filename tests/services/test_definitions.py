"""Stored definitions: read once, compiled without keeping the event loop, and never a caller's fault."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import pytest

from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.ports.runs import Definition, RunStore
from app.services.definitions import SMALL_TEXT, Definitions, UnreadableDefinition
from app.steps.registry import STEP_KINDS
from app.stores.memory import MemoryStore
from tests.engines.harness import llm, workflow
from tests.stores.samples import a_workflow


class WatchedCatalog(Catalog):
    """Remembers on which threads it compiled."""

    def __init__(self) -> None:
        super().__init__(STEP_KINDS)
        self.threads: list[int] = []

    def by_definition(self, definition: Definition) -> CompiledWorkflow:
        self.threads.append(threading.get_ident())
        return super().by_definition(definition)


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    opened = MemoryStore()
    await opened.open()
    yield opened
    await opened.close()


async def stored(store: MemoryStore, definition: Definition) -> RunStore:
    await store.workflows.register(a_workflow(definition_hash=definition.hash), definition)
    return store.runs


def compiled(prompt: str) -> Definition:
    return Catalog(STEP_KINDS).compile(workflow(llm("a", prompt))).definition


async def test_a_definition_that_is_gone_says_which(store: MemoryStore) -> None:
    with pytest.raises(UnreadableDefinition, match="'0000' is not stored"):
        await Definitions(store.runs, Catalog(STEP_KINDS)).workflow("0000")


async def test_a_definition_of_an_unknown_kind_is_unreadable_and_says_why(store: MemoryStore) -> None:
    old = Definition(hash="0000", document=b'{"name": "w", "steps": [{"id": "a", "type": "gone"}]}')
    runs = await stored(store, old)
    with pytest.raises(UnreadableDefinition, match="gone"):
        await Definitions(runs, Catalog(STEP_KINDS)).workflow("0000")


@pytest.mark.parametrize(("prompt", "aside"), [("hello", False), ("x" * SMALL_TEXT, True)])
async def test_a_large_definition_is_compiled_aside_and_each_only_once(
    store: MemoryStore, prompt: str, *, aside: bool
) -> None:
    definition = compiled(prompt)
    catalog = WatchedCatalog()
    definitions = Definitions(await stored(store, definition), catalog)
    first = await definitions.workflow(definition.hash)
    assert await definitions.workflow(definition.hash) is first
    (thread,) = catalog.threads
    assert (thread != threading.get_ident()) == aside
