"""What the scheduler knows of a workflow: the graph and the policies, nothing of what steps do.

A `Plan` is immutable and belongs to one definition. Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RunOn = Literal["success", "failure", "always"]
Backoff = Literal["exponential", "linear", "constant"]
Jitter = Literal["full", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed attempt is tried again. `max_attempts` counts all tries; lost ones are not counted."""

    max_attempts: int = 1
    backoff: Backoff = "exponential"
    initial_delay: float = 1.0
    max_delay: float = 30.0
    jitter: Jitter = "full"
    max_duration: float | None = None
    """No try starts later than this after the first one."""
    retry_on: frozenset[str] = frozenset()
    """Error classes worth another try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One step of the graph."""

    id: str
    depends_on: tuple[str, ...] = ()
    run_on: RunOn = "success"
    conditional: bool = False
    """A condition is evaluated once the dependencies allow the step to run."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float | None = None
    """Bounds one attempt."""
    continues: bool = False
    """`on_error: continue`: a failure turns into a completed step with a given value."""
    repeatable: bool = True
    """False: after a crash in mid-attempt nobody knows whether it took effect, and it must not run twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An acyclic graph of nodes, in document order."""

    nodes: tuple[Node, ...]
    max_concurrency: int = 64
    """Attempts of one run that may be in flight together."""
    timeout: float | None = None
    """Bounds the run from its start."""
    by_id: Mapping[str, Node] = field(init=False)
    dependents: Mapping[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        by_id = {node.id: node for node in self.nodes}
        dependents: dict[str, list[str]] = {node.id: [] for node in self.nodes}
        for node in self.nodes:
            for dependency in node.depends_on:
                dependents[dependency].append(node.id)
        object.__setattr__(self, "by_id", by_id)
        object.__setattr__(self, "dependents", {key: tuple(value) for key, value in dependents.items()})
