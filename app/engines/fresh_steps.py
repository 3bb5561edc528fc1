"""Which steps of a plan run again when a run is repeated, whatever they brought before.

Steps go by their keys in the plan: all instances of a step within a map or a loop share one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from app.core.plan import Block, Node, Plan, all_nodes, blocks_of

_INDEX: Final = re.compile(r"\[[^\]]*\]")
"""What tells instances and cases apart: an item's number in a path, a case's name in a key."""


class AmbiguousStep(Exception):
    """Steps in several places have that id; `places` are their paths without numbers."""

    def __init__(self, places: tuple[str, ...]) -> None:
        super().__init__(f"steps in {len(places)} places have this id")
        self.places = places


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    node: Node
    block: Block
    owner: str | None
    """Key of the control step around it."""


def place_of(key: str) -> str:
    """Where instances of a step stand in a run: their path without the numbers."""
    return _INDEX.sub("", key)


def steps_named(plan: Plan, name: str) -> tuple[str, ...]:
    """The keys of the steps that a caller means: by key, by path, or by an id. Empty if there is none.

    A path means every instance, whatever numbers it has; it may be that of several steps, in different
    cases of a branch. Raises `AmbiguousStep` for an id that steps in several places have.
    """
    nodes = tuple(all_nodes(plan))
    if any(node.key == name for node in nodes):
        return (name,)
    place = place_of(name)
    if there := tuple(node.key for node in nodes if place_of(node.key) == place):
        return there
    keys = tuple(node.key for node in nodes if node.id == name)
    places = tuple(dict.fromkeys(place_of(key) for key in keys))
    if len(places) > 1:
        raise AmbiguousStep(places)
    return keys


def handlers(plan: Plan) -> frozenset[str]:
    """Steps that are about the run they belong to: how it went, and what has to be put in order after it.

    What they did for an earlier run says nothing of this one: an alarm was for that failure.
    """
    blocks = [block for block in (plan.on_failure, plan.finally_) if block is not None]
    found = {key for block in blocks for node in block.nodes for key in _keys(node)}
    for node in all_nodes(plan):
        if node.run_on != "success":
            found.update(_keys(node))
    return frozenset(found)


def downstream(plan: Plan, start: str) -> frozenset[str]:
    """A step (by key) and all that comes after it: what waits for it, and for what it is within."""
    places = dict(_places(plan))
    found: set[str] = set()
    place = places[start]
    after = {place.node.id} | _after(place.block, place.node.id)
    while True:
        found.update(key for node in place.block.nodes if node.id in after for key in _keys(node))
        if place.owner is None:
            return frozenset(found)
        place = places[place.owner]
        after = _after(place.block, place.node.id)


def _after(block: Block, start: str) -> set[str]:
    """Steps of a block that wait for one of them, directly or not."""
    found: set[str] = set()
    pending = [start]
    while pending:
        for dependent in block.dependents[pending.pop()]:
            if dependent not in found:
                found.add(dependent)
                pending.append(dependent)
    return found


def _keys(node: Node) -> Iterator[str]:
    """A step and all those within it."""
    pending = [node]
    while pending:
        inner = pending.pop()
        yield inner.key
        pending.extend(one for block in blocks_of(inner.control) for one in block.nodes)


def _places(plan: Plan) -> Iterable[tuple[str, _Place]]:
    roots = (plan.main, plan.on_failure, plan.finally_)
    pending: list[tuple[Block, str | None]] = [(block, None) for block in roots if block is not None]
    while pending:
        block, owner = pending.pop()
        for node in block.nodes:
            yield node.key, _Place(node=node, block=block, owner=owner)
            pending.extend((inner, node.key) for inner in blocks_of(node.control))
