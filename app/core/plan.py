"""What the scheduler knows of a workflow: the graph and the policies, nothing of what steps do.

A `Plan` is immutable and belongs to one definition. Steps stand in blocks: the workflow's own, and those
of its control steps (the cases of a branch, the body of a map or a loop). Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

RunOn = Literal["success", "failure", "always"]
Backoff = Literal["exponential", "linear", "constant"]
Jitter = Literal["full", "none"]
OnItemError = Literal["fail", "continue", "drop"]
OnTimeout = Literal["fail", "approve", "reject"]


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
class Block:
    """Steps that live in one scope: an acyclic graph of nodes, in document order."""

    nodes: tuple[Node, ...]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One case runs, chosen by a value; `default` where none has that name."""

    cases: Mapping[str, Block]
    default: Block | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """A block within a step."""

    body: Block
    max_concurrency: int | None = None
    """Steps of the block that may be under way together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """A block a list item."""

    body: Block
    max_concurrency: int = 16
    """Items that may be under way together."""
    on_item_error: OnItemError = "fail"
    """`fail`: no further item is begun, and the step fails once those under way have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A block again and again, until a condition holds or the iterations are used up."""

    body: Block
    max_iterations: int
    conditional: bool = True
    """A condition is evaluated after each iteration but the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """Another workflow, as a run of its own."""

    wait: bool = True
    """False: the step is completed once that run is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing until a given time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Nothing until somebody answers, or for so long."""

    on_timeout: OnTimeout = "fail"


Control = Branch | Parallel | Map | Loop | Child | Wait | Approval
"""Steps that the scheduler carries out itself; they have no attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One step of the graph."""

    id: str
    """Its name within its block."""
    key: str = ""
    """Its name within the plan, which all its instances share: `id` at the top, else `<owner's key>.<id>`."""
    depends_on: tuple[str, ...] = ()
    run_on: RunOn = "success"
    conditional: bool = False
    """A condition is evaluated once the dependencies allow the step to run."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float | None = None
    """Bounds one attempt, or the whole of a control step."""
    continues: bool = False
    """`on_error: continue`: a failure turns into a completed step with a given value."""
    repeatable: bool = True
    """False: after a crash in mid-attempt nobody knows whether it took effect, and it must not run twice."""
    control: Control | None = None
    """None: the step runs in attempts."""

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The whole of a workflow."""

    main: Block
    max_concurrency: int = 64
    """Attempts of one run that may be in flight together."""
    timeout: float | None = None
    """Bounds the run from its start; `on_failure` and `finally` come after it."""
    on_failure: Block | None = None
    """Runs after `main` where that failed or took too long."""
    finally_: Block | None = None
    """Runs last, however the run ends."""


def blocks_of(control: Control | None) -> tuple[Block, ...]:
    """The blocks within a step, in document order."""
    match control:
        case Branch(cases=cases, default=default):
            return (*cases.values(), *(() if default is None else (default,)))
        case Parallel(body=body) | Map(body=body) | Loop(body=body):
            return (body,)
        case _:
            return ()


def all_nodes(plan: Plan) -> Iterator[Node]:
    """Every node of a plan, each before those within it."""
    pending = [block for block in (plan.finally_, plan.on_failure, plan.main) if block is not None]
    while pending:
        block = pending.pop()
        for node in block.nodes:
            yield node
            pending.extend(reversed(blocks_of(node.control)))
