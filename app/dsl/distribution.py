"""Maps whose items are runs of their own: what such a run does, what it is given, and how it is stored.

The steps of a distributed map are compiled where they stand, so their names, keys and problems are those of
any other step. What a run of an item executes is that one block; what its steps read from around it is known
from their templates, and is all that the run is given beside the item. Its definition is the whole document
with the key of the map, so it is read by whoever can read the workflow, and stored once for all items.

What does not belong here: values (`app.engines.rundata`), the hand-in of runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

import orjson

from app.core.plan import Block, Plan
from app.dsl.blocks import BlockStep, DistributedBody, bound_by, item_run_key
from app.dsl.compiled import CompiledStep, CompiledWorkflow, ItemNames, NamePath
from app.dsl.inputs import Inputs, plain_inputs
from app.dsl.names import NamedSteps
from app.ports.buffers import trimmed
from app.ports.runs import Definition
from app.templating.compiler import Reference

_INDEX: Final = "index"
_GROUPS: Final = ("inputs", "steps", "outputs")
"""Roots of which a run is given no more than the members that are read."""
_DOCUMENT: Final = "items_of"
_STEP: Final = "step"


def distributed(
    workflow: CompiledWorkflow,
    bodies: Mapping[str, DistributedBody],
    *,
    undistributed: Plan,
    plain: Mapping[str, DistributedBody],
) -> CompiledWorkflow:
    """The workflow with those of its items. `bodies` go by the keys of the maps; `plain` are the same with
    the steps of further distributed maps in them, as in the plan `undistributed`."""
    items: dict[str, CompiledWorkflow] = {}
    whole = replace(workflow, undistributed=undistributed, item_workflows=items)
    for key, body in bodies.items():
        names = _names(key, body, workflow.steps)
        items[item_run_key(key)] = replace(
            whole,
            plan=_plan(body.block, workflow.plan),
            undistributed=_plan(plain[key].block, workflow.plan),
            outputs=None,
            leaves=(),
            inputs=_inputs(names),
            concurrency=None,
            budget=None,
            index_uses=(),
            warnings=(),
            definition=_definition(workflow.document, key),
            item=names,
        )
    return whole


def items_of(document: Any) -> tuple[Mapping[str, Any], str] | None:
    """The workflow and the map that a stored definition is the items of; None for any other."""
    if not isinstance(document, dict) or document.keys() != {_DOCUMENT, _STEP}:
        return None
    return document[_DOCUMENT], document[_STEP]


def _definition(document: Mapping[str, Any], key: str) -> Definition:
    body = trimmed(orjson.dumps({_DOCUMENT: document, _STEP: key}))
    return Definition(hash=sha256(body).hexdigest(), document=body)


def _plan(block: Block, of: Plan) -> Plan:
    return Plan(main=block, max_concurrency=of.max_concurrency)


def _inputs(names: ItemNames) -> Inputs:
    """What the run of an item takes. The names were bound by the compiler, so any value is one."""
    roots = [names.item, _INDEX, *(path[0] for path in names.reads)]
    properties: dict[str, Any] = {root: {} for root in roots}
    for group in _GROUPS:
        if group in properties:
            properties[group] = {"type": "object"}
    properties[_INDEX] = {"type": "integer", "minimum": 0}
    return plain_inputs(
        {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    )


# --- what its steps read ------------------------------------------------------------------------------


def _names(key: str, body: DistributedBody, compiled: Mapping[str, CompiledStep]) -> ItemNames:
    item = compiled[key].item_name
    found = set(_Reading(compiled, frozenset({item, _INDEX})).of(body.steps, 0))
    whole = (path for path in found if not any(path[:end] in found for end in range(1, len(path))))
    return ItemNames(map=key, item=item, reads=tuple(sorted(whole)))


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the steps of an item, and those within them, read from outside of it."""

    compiled: Mapping[str, CompiledStep]
    bound: frozenset[str]
    """Root names that mean something of the item itself."""

    def of(self, steps: Iterable[BlockStep], depth: int) -> Iterator[NamePath]:
        """`depth`: how many blocks within the item's own these steps are."""
        for step in steps:
            for reference in _references(step, self.compiled[step.parts.draft.key]):
                yield from self.outside(reference, step.known, depth)
            inner = replace(self, bound=self.bound | bound_by(step.parts.draft).keys())
            for body in step.bodies.values():
                yield from inner.of(body, depth + 1)
                for reference in () if step.until is None else step.until.references:
                    yield from inner.outside(reference, body[0].known, depth + 1)

    def outside(self, reference: Reference, known: NamedSteps, depth: int) -> Iterator[NamePath]:
        """What a reference reads from outside of the item, if it does."""
        root, parts = reference.root, reference.parts
        match root:
            case "inputs":
                yield (root, *parts[:1])
            case "steps" if parts and _is_outside(parts[0], known, depth):
                yield (root, *parts[:2])
            case "outputs" if parts and _is_outside(_giver(parts[0], known), known, depth):
                yield (root, parts[0])
            case "steps" | "outputs":
                pass
            case _ if root in known.bound and root not in self.bound:
                yield (root,)


def _references(step: BlockStep, compiled: CompiledStep) -> Iterator[Reference]:
    parts = step.parts
    cache = None if parts.cache is None else parts.cache.key
    for value in (parts.config, parts.condition, parts.on_error, cache, compiled.embedding_model):
        if value is not None:
            yield from value.references


def _giver(name: str, known: NamedSteps) -> str:
    """The step that `outputs.<name>` reads."""
    givers = () if name in known.names else known.givers.get(name, ())
    return givers[0] if givers else name


def _is_outside(step: str, known: NamedSteps, depth: int) -> bool:
    level = known.level(step)
    return level is not None and level > depth
