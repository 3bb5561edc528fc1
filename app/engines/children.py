"""Runs that `workflow` steps call, as the runner needs them of its engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.core.events import Failure
from app.dsl.compiled import Budget, CompiledStep
from app.engines.facts import Fact
from app.engines.identity import RunIdentity
from app.ports.runs import Definition


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemCall:
    """What the run of an item of a distributed map has that no other called run has."""

    definition: Definition
    """What is done with an item; it is stored with the first of them."""
    fresh: frozenset[str]
    """Steps (keys) that run again whatever an earlier run brought."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at the runs of items found."""

    ended: Sequence[Fact]
    paused: Mapping[str, str]
    """Those that are paused, by whomever, by the paths of their steps."""


class Children(Protocol):
    """Other runs by id. Every method may be asked again after a crash, with the same effect."""

    async def resolve(self, caller: RunIdentity, step: CompiledStep, rendered: Any) -> Mapping[str, Any]:
        """Fix what a step calls: `{workflow, version, definition, inputs, budget?}`, the inputs checked.

        Raises `PermanentError` (no such workflow, inputs that do not fit), `ValidationError`, `StoreError`.
        """
        ...

    async def launch(
        self,
        caller: RunIdentity,
        path: str,
        call: Mapping[str, Any],
        run_id: str,
        *,
        wait: bool,
        reuse: str | None = None,
        budget: Budget | None = None,
        item: ItemCall | None = None,
    ) -> Fact | None:
        """Hand the run in unless it is known already; its end, if it has ended. It may `reuse` another.

        `budget` bounds it beside its own. `item`: it is that of an item.

        The end of one that has not is posted to the caller's runner, or wakes the caller. Without `wait`
        the fact says that it was handed in.
        """
        ...

    async def budget_of(self, run_id: str) -> Budget | None:
        """What a run that was handed in was given; None for one that was not, or was given none."""
        ...

    @property
    def look_seconds(self) -> float | None:
        """How often a runner has a `look` at its items; None where it is told."""
        ...

    async def look(self, items: Mapping[str, str]) -> Seen:
        """How runs are, given by the paths of their steps."""
        ...

    async def pause(self, run_id: str) -> None:
        """Start nothing further of the run, as nothing further of its caller starts."""
        ...

    async def resume(self, run_id: str) -> None:
        """Go on with the run if `pause` has paused it; one that somebody else paused is left as it is."""
        ...

    async def cancel(self, caller: RunIdentity, path: str, run_id: str) -> Fact:
        """End the run early; its end, once that is durable."""
        ...


CANCELLED = Failure(error_class="cancelled", message="the called run was cancelled")
