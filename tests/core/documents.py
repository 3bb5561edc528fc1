"""Random plans: blocks within blocks, of every kind of step.

Drawn from one seed and a few sizes, so that Hypothesis shrinks the sizes and the rest follows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import strategies as st

from app.core.plan import (
    Approval,
    Block,
    Branch,
    Child,
    Control,
    Loop,
    Map,
    Node,
    OnItemError,
    OnTimeout,
    Parallel,
    Plan,
    RetryPolicy,
    RunOn,
    Wait,
)

CLASSES = ("rate_limit", "timeout", "invalid_request")
RUN_ON: tuple[RunOn, ...] = ("success",) * 10 + ("failure", "always")
ON_ITEM_ERROR: tuple[OnItemError, ...] = ("fail", "continue", "drop")
ON_TIMEOUT: tuple[OnTimeout, ...] = ("fail", "approve", "reject")
MAX_DEPTH = 4
MAX_NODES = 60


@dataclass
class _Author:
    """Writes a document of so many nodes at most."""

    random: random.Random
    left: int
    density: float
    nesting: float
    keys: list[str] = field(default_factory=list)

    def block(self, depth: int, owner: str = "", *, least: int = 1, most: int = 5) -> Block:
        size = max(1, min(self.left, self.random.randint(least, most)))
        self.left -= size
        nodes: list[Node] = []
        for index in range(size):
            before = [node.id for node in nodes]
            depends_on = tuple(other for other in before if self.random.random() < self.density)
            nodes.append(self._node(f"s{index}", owner, depends_on, depth))
        return Block(nodes=tuple(nodes))

    def _node(self, name: str, owner: str, depends_on: tuple[str, ...], depth: int) -> Node:
        rng = self.random
        key = f"{owner}.{name}" if owner else name
        control = self._control(key, depth) if rng.random() < self.nesting else None
        timeout = rng.choice([None] * 6 + [1.0, 20.0])
        return Node(
            id=name,
            key=key,
            depends_on=depends_on,
            run_on=rng.choice(RUN_ON),
            conditional=rng.random() < 0.15,
            retry=RetryPolicy(
                max_attempts=rng.choice([1, 1, 2, 4]),
                retry_on=frozenset(CLASSES[:2]),
                max_duration=rng.choice([None, None, 2.0]),
                backoff=rng.choice(["exponential", "linear", "constant"]),
                jitter=rng.choice(["full", "none"]),
            ),
            timeout=timeout,
            continues=rng.random() < 0.15,
            repeatable=rng.random() < 0.8,
            control=control,
        )

    def _control(self, key: str, depth: int) -> Control:
        rng = self.random
        waiting: list[Control] = [
            Wait(),
            Approval(on_timeout=rng.choice(ON_TIMEOUT)),
            Child(wait=rng.random() < 0.7),
        ]
        if depth >= MAX_DEPTH or self.left <= 0 or rng.random() < 0.2:
            return rng.choice(waiting)
        match rng.choice(["branch", "parallel", "map", "map", "loop", "loop"]):
            case "branch":
                cases = {name: self.block(depth + 1, key, most=2) for name in ("x", "y")[: rng.randint(0, 2)]}
                return Branch(
                    cases=cases, default=self.block(depth + 1, key, most=2) if rng.random() < 0.5 else None
                )
            case "parallel":
                return Parallel(body=self.block(depth + 1, key), max_concurrency=rng.choice([None, 1, 2]))
            case "map":
                return Map(
                    body=self.block(depth + 1, key, most=3),
                    max_concurrency=rng.choice([1, 3, 16]),
                    on_item_error=rng.choice(ON_ITEM_ERROR),
                )
            case _:
                conditional = rng.random() < 0.7
                return Loop(
                    body=self.block(depth + 1, key, most=3),
                    max_iterations=rng.choice([1, 2, 4]) if conditional else 2,
                    conditional=conditional,
                )


@st.composite
def plans(draw: st.DrawFn, *, max_nodes: int = MAX_NODES, nesting: float | None = None) -> Plan:
    """A plan of at most `max_nodes` nodes; `nesting` is the share of control steps."""
    author = _Author(
        random=random.Random(draw(st.integers(0, 2**32))),
        left=draw(st.sampled_from([2, 8, max_nodes, max_nodes, max_nodes])),
        density=draw(st.sampled_from([0.0, 0.2, 0.5])),
        nesting=draw(st.sampled_from([0.3, 0.6, 0.9])) if nesting is None else nesting,
    )
    main = author.block(1, least=1 if author.left < 8 else 4, most=author.left if author.nesting == 0 else 10)
    return Plan(
        main=main,
        max_concurrency=draw(st.sampled_from([1, 3, 64])),
        timeout=draw(st.sampled_from([None, None, None, 8.0])),
        on_failure=author.block(2, "on_failure", most=3) if draw(st.booleans()) else None,
        finally_=author.block(2, "finally", most=3) if draw(st.booleans()) else None,
    )


@st.composite
def graphs(draw: st.DrawFn, *, max_nodes: int = MAX_NODES) -> Plan:
    """A plan of plain steps only: one graph, as dense as it comes."""
    return draw(plans(max_nodes=max_nodes, nesting=0.0))
