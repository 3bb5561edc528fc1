"""The `loop` kind: the same steps again, until a condition holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from app.core.plan import Block, Loop
from app.steps.control import BaseControl, Body, Condition, Names, Steps, body_of
from app.steps.fields import Int
from app.steps.kind import StepConfig

MAX_ITERATIONS: Final = 1_000


class LoopConfig(StepConfig):
    """Keys of a `loop` step that are values."""

    max_iterations: Annotated[Int, Field(ge=1, le=MAX_ITERATIONS)] = 10
    """How often the steps run at most."""


class LoopBlocks(StepConfig):
    """Keys of a `loop` step that hold steps, or are evaluated among them."""

    steps: Steps
    """The steps of an iteration."""
    until: Condition | None = None
    """An expression that is evaluated after an iteration; true ends the loop."""


class LoopKind(BaseControl):
    """Repeats its steps until `until` holds after an iteration, or `max_iterations` are over.

    They and `until` see `loop.iteration` (from 1), `loop.index` (from 0) and `loop.last`, the first
    outputs of the iteration before, by step id; it is empty in the first one.

    Outputs: `last` (the first outputs of the last iteration, by step id) and `iterations` (how many).
    """

    name: ClassVar[str] = "loop"
    config_model: ClassVar[type[StepConfig]] = LoopConfig
    blocks_model: ClassVar[type[StepConfig]] = LoopBlocks
    outputs: ClassVar[tuple[str, ...]] = ("last", "iterations")

    def bodies(self, blocks: Mapping[str, Any]) -> Iterator[Body]:
        """The steps of an iteration."""
        yield body_of(blocks.get("steps"), "steps")

    def inside(self, steps: Sequence[str]) -> Names:
        """The last iteration, by step id."""
        return {"last": dict.fromkeys(steps)}

    def reading(self, owner: str, step: str) -> tuple[str, ...]:
        """From the last iteration."""
        return (owner, "last", step)

    def bound(self, config: Mapping[str, Any], steps: Sequence[str]) -> Names:
        """Where the loop stands."""
        return {"loop": {"index": None, "iteration": None, "last": dict.fromkeys(steps)}}

    def control(self, config: LoopConfig, blocks: Mapping[str | None, Block], *, conditional: bool) -> Loop:
        """One block for all iterations."""
        return Loop(body=blocks[None], max_iterations=config.max_iterations, conditional=conditional)
