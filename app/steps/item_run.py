"""The `item_run` kind: the run of one item of a distributed map.

No author writes it: the compiler puts it in the place of the steps of a `map` that says `distribute`. What
that run is given and what it does is not here but in `app.dsl.distribution`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from app.core.plan import Block, Child
from app.steps.control import BaseControl
from app.steps.kind import StepConfig

ITEM_RUN: Final = "run"
"""Its id: the run of the fourth item of `each` stands at `each[3].run`."""


class ItemRunConfig(StepConfig):
    """It has no keys."""


class ItemRunKind(BaseControl):
    """Runs the steps of a map for one item, and waits for their end.

    Outputs: `result`, what the item comes to, and `run_id`.
    """

    name: ClassVar[str] = "item_run"
    config_model: ClassVar[type[StepConfig]] = ItemRunConfig
    outputs: ClassVar[tuple[str, ...]] = ("result", "run_id")

    def control(
        self, config: ItemRunConfig, blocks: Mapping[str | None, Block], *, conditional: bool
    ) -> Child:
        """A child that is waited for."""
        return Child()
