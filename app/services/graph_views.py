"""A graph to be drawn, as its readers see it. Times are epoch seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.core.state import Stage

EdgeKind = Literal["dependency", "condition"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphParts:
    """The items of a map, or the iterations of a loop. Those drawn are nodes of their own."""

    total: int
    by_status: Mapping[str, int]
    omitted: int
    """Those that are not drawn; of the ones begun the first are, and then the first that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNode:
    """A step, or an item or iteration of one. What follows `status` is None or empty without a run."""

    id: str
    """Unique in the graph; of what is there in the run its path."""
    path: str | None
    """The path that the step has in the run or would have; None where that is open."""
    step: str
    """The key of the step in the definition."""
    type: str
    """The kind of step; `item` or `iteration` for a part."""
    name: str | None
    parent: str | None
    stage: Stage
    case: str | None = None
    """The case of the branch that it belongs to."""
    index: int | None = None
    """The number of an item or iteration, from 0."""
    conditional: bool = False
    status: str | None = None
    attempt: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    retry_at: float | None = None
    skip_reason: str | None = None
    recovered: bool = False
    taken: str | None = None
    """The case that a branch took."""
    parts: GraphParts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphEdge:
    """One step waits for another. `condition`: its condition reads what that one brings."""

    source: str
    target: str
    kind: EdgeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes, each behind its parent; edges connect nodes of the same parent."""

    nodes: Sequence[GraphNode]
    edges: Sequence[GraphEdge]
