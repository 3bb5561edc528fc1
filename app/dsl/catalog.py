"""Compiled workflows by content, so that a definition is compiled once however many runs it has."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from threading import Lock
from typing import Any, Generic, TypeVar

import orjson

from app.dsl.blocks import item_run_key
from app.dsl.compiled import CompiledWorkflow
from app.dsl.compiler import compile_workflow
from app.dsl.distribution import items_of
from app.dsl.limits import LoadLimits
from app.dsl.loader import Format, LoadedDocument, load_document
from app.dsl.policies import PlanDefaults
from app.ports.buffers import trimmed
from app.ports.errors import DefinitionInvalid
from app.ports.problems import Problem
from app.ports.runs import Definition
from app.steps.kind import StepKind

T = TypeVar("T")


class Catalog:
    """Keeps the `capacity` workflows used last. Safe to share among threads.

    What was refused is not kept: a document with problems is read again each time.
    """

    def __init__(
        self,
        kinds: Mapping[str, StepKind],
        defaults: PlanDefaults | None = None,
        *,
        capacity: int = 256,
        limits: LoadLimits | None = None,
    ) -> None:
        self._kinds = kinds
        self._defaults = defaults or PlanDefaults()
        self._limits = limits or LoadLimits()
        self._workflows: _Recent[CompiledWorkflow] = _Recent(capacity)
        self._spellings: _Recent[str] = _Recent(4 * capacity)
        """Digest of a submitted text or value → hash of the definition it stands for."""

    def compile(
        self, source: bytes | str | LoadedDocument | Mapping[str, Any], *, format: Format = "auto"
    ) -> CompiledWorkflow:
        """The workflow of a text, a loaded document, or a value that was parsed from JSON.

        Raises `DefinitionInvalid` with every problem.
        """
        digest = _digest(source, format)
        if digest is not None and (known := self._known(digest)) is not None:
            return known
        if isinstance(source, Mapping):
            self._check_size(source)
        elif isinstance(source, (bytes, str)):
            source = load_document(source, limits=self._limits, format=format)
        workflow = self._compile(source)
        if digest is not None:
            self._spellings.put(digest, workflow.definition.hash)
        return workflow

    def _check_size(self, document: Mapping[str, Any]) -> None:
        """A value that was parsed elsewhere is held to the size that a text is held to."""
        size = len(orjson.dumps(document))
        if size > self._limits.max_bytes:
            detail = f"the document takes {size:,} bytes, more than the {self._limits.max_bytes:,} allowed"
            hint = "move data out of the definition, into the run's inputs"
            raise DefinitionInvalid([Problem(pointer="", detail=detail, hint=hint)])

    def by_definition(self, definition: Definition) -> CompiledWorkflow:
        """The workflow of a stored definition. Raises `DefinitionInvalid` for one no longer understood."""
        known = self._workflows.get(definition.hash)
        if known is not None:
            return known
        document = orjson.loads(definition.document)
        part = items_of(document)
        return self._compile(document) if part is None else self._items(definition, *part)

    def _items(self, definition: Definition, document: Mapping[str, Any], step: str) -> CompiledWorkflow:
        """What a stored workflow does with an item of a distributed map."""
        body = trimmed(orjson.dumps(document))
        of = self.by_definition(Definition(hash=sha256(body).hexdigest(), document=body))
        workflow = of.item_workflows.get(item_run_key(step))
        if workflow is None:
            raise DefinitionInvalid([Problem(pointer="", detail=f"there is no distributed map {step!r}")])
        return self._workflows.put(definition.hash, workflow)

    def _known(self, digest: str) -> CompiledWorkflow | None:
        meant = self._spellings.get(digest)
        return self._workflows.get(meant) if meant is not None else None

    def _compile(self, document: LoadedDocument | Any) -> CompiledWorkflow:
        workflow = compile_workflow(document, kinds=self._kinds, defaults=self._defaults)
        return self._workflows.put(workflow.definition.hash, workflow)


class _Recent(Generic[T]):
    """A mapping that forgets what was not used for longest."""

    __slots__ = ("_capacity", "_entries", "_lock")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, T] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> T | None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: str, value: T) -> T:
        """Keep the value, unless there is one already: that one is returned."""
        with self._lock:
            value = self._entries.setdefault(key, value)
            self._entries.move_to_end(key)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
            return value


def _digest(source: bytes | str | LoadedDocument | Mapping[str, Any], format: Format) -> str | None:
    """What tells sources apart; None for one that is not worth it or cannot be written."""
    if isinstance(source, LoadedDocument):
        return None
    if isinstance(source, bytes):
        return f"{format}:{sha256(source).hexdigest()}"
    if isinstance(source, str):
        return f"{format}:{sha256(source.encode('utf-8', 'surrogatepass')).hexdigest()}"
    try:
        return f"value:{sha256(orjson.dumps(source)).hexdigest()}"
    except TypeError:
        return None
