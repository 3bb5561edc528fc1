"""The `parallel` kind: steps side by side, read as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from app.core.plan import Block, Parallel
from app.steps.control import BaseControl, Body, Steps, body_of
from app.steps.fields import Int
from app.steps.kind import StepConfig


class ParallelConfig(StepConfig):
    """Keys of a `parallel` step that are values."""

    max_concurrency: Annotated[Int, Field(ge=1, le=1_000)] | None = None
    """Tasks under way together. If absent: all that may run."""


class ParallelBlocks(StepConfig):
    """Keys of a `parallel` step that hold steps."""

    tasks: Steps
    """The steps."""


class ParallelKind(BaseControl):
    """Runs its tasks as far as they do not depend on each other, at most `max_concurrency` at a time.

    Outputs: the first output of each task, by its id; together they are the step's first output.
    """

    name: ClassVar[str] = "parallel"
    config_model: ClassVar[type[StepConfig]] = ParallelConfig
    blocks_model: ClassVar[type[StepConfig]] = ParallelBlocks
    whole: ClassVar[bool] = True

    def bodies(self, blocks: Mapping[str, Any]) -> Iterator[Body]:
        """The tasks."""
        yield body_of(blocks.get("tasks"), "tasks")

    def output_names(self, steps: Sequence[str]) -> tuple[str, ...]:
        """The tasks."""
        return tuple(steps)

    def control(
        self, config: ParallelConfig, blocks: Mapping[str | None, Block], *, conditional: bool
    ) -> Parallel:
        """One block."""
        return Parallel(body=blocks[None], max_concurrency=config.max_concurrency)
