"""Stored definitions, compiled. Those used last are at hand without asking the store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.dsl.loader import Format
from app.ports.errors import DefinitionInvalid, StoreError
from app.ports.runs import Definition, RunStore
from app.ports.turns import computed

CAPACITY = 256
SMALL_TEXT = 16_384
"""Bytes of a document that is compiled on the spot."""
SMALL_STEPS = 32
"""Steps of a parsed document that is; compiling takes about 0.4 ms a step."""


async def compile_aside(
    catalog: Catalog, source: bytes | Mapping[str, Any], *, format: Format = "auto"
) -> CompiledWorkflow:
    """Compile without keeping the event loop: a large document goes to a thread.

    Raises `DefinitionInvalid`.
    """
    if _is_small(source):
        return catalog.compile(source, format=format)
    return await computed(catalog.compile, source, format=format)


def _is_small(source: bytes | Mapping[str, Any]) -> bool:
    if isinstance(source, bytes):
        return len(source) <= SMALL_TEXT
    steps = source.get("steps")
    return not isinstance(steps, list) or len(steps) <= SMALL_STEPS


class UnreadableDefinition(StoreError):
    """A stored definition is gone, or this version does not understand it."""


class Definitions:
    """Definitions by hash; they are immutable, so what is at hand is never stale."""

    def __init__(self, store: RunStore, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog
        self._recent: OrderedDict[str, CompiledWorkflow] = OrderedDict()

    async def workflow(self, definition_hash: str) -> CompiledWorkflow:
        """The workflow of a stored definition.

        Raises `UnreadableDefinition` if it is gone or no longer understood: no caller can mend that.
        """
        known = self._recent.get(definition_hash)
        if known is not None:
            self._recent.move_to_end(definition_hash)
            return known
        definition = await self._store.definition(definition_hash)
        if definition is None:
            raise UnreadableDefinition(f"the definition {definition_hash!r} is not stored")
        try:
            workflow = await self._compiled(definition)
        except DefinitionInvalid as error:
            raise UnreadableDefinition(
                f"the stored definition {definition_hash!r} is not understood by this version: "
                + "; ".join(problem.detail for problem in error.problems)
            ) from error
        self._recent[definition_hash] = workflow
        if len(self._recent) > CAPACITY:
            self._recent.popitem(last=False)
        return workflow

    async def _compiled(self, definition: Definition) -> CompiledWorkflow:
        if len(definition.document) <= SMALL_TEXT:
            return self._catalog.by_definition(definition)
        return await computed(self._catalog.by_definition, definition)
