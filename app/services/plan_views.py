"""What a plan says: what would be rendered, called and used, as far as that is known before the run.

Bounds count every try that the retry rules allow, and nothing twice that a crash may lose. None: nothing
bounds it, or a price is not known. Costs are picodollars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.dsl.compiled import Budget
from app.ports.problems import Problem

Known = Literal["known", "sample", "partly", "unknown"]
"""How much of a step is rendered: all of it, all of it for one item of a map, some, nothing."""
Verdict = Literal["fits", "may_exceed", "exceeds", "unpriced", "unknown"]
"""Whether a run can exceed its budget: never, if many calls use much, with one call already, nobody knows."""


@dataclass(slots=True, kw_only=True)
class Bounds:
    """The most that all instances of something can use together."""

    attempts: int | None = 0
    model_calls: int | None = 0
    """Questions to models: one an attempt, and one more for each fallback and repair it allows."""
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cost: int | None = 0
    input_estimate: int | None = 0
    """No bound: what the input of one try of each instance comes to, roughly."""

    def add(self, other: Bounds) -> None:
        """Count something else, too."""
        self.attempts = plus(self.attempts, other.attempts)
        self.model_calls = plus(self.model_calls, other.model_calls)
        self.input_tokens = plus(self.input_tokens, other.input_tokens)
        self.output_tokens = plus(self.output_tokens, other.output_tokens)
        self.cost = plus(self.cost, other.cost)
        self.input_estimate = plus(self.input_estimate, other.input_estimate)


@dataclass(slots=True, kw_only=True)
class PlannedStep:
    """One step of the plan. `config` has null where something is not known; `needs` says what is missing."""

    key: str
    type: str
    depends_on: Sequence[str]
    known: Known
    config: Any
    needs: Sequence[str]
    instances: int | None
    bounds: Bounds = field(default_factory=Bounds)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowPlan:
    """A workflow with inputs, before anything is called."""

    name: str
    version: str
    inputs: Mapping[str, Any]
    steps: Sequence[PlannedStep]
    totals: Bounds
    unknown_prices: Sequence[str]
    budget: Budget | None
    verdict: Verdict | None
    """None without a budget."""
    warnings: Sequence[Problem]
    """What the configuration lacks, and vectors that do not fit; pointers are those of the document."""


def plus(left: int | None, right: int | None) -> int | None:
    """A sum, if both are known."""
    return None if left is None or right is None else left + right


def times(left: int | None, right: int | None) -> int | None:
    """A product; nothing of the unknown is nothing."""
    if left == 0 or right == 0:
        return 0
    return None if left is None or right is None else left * right
