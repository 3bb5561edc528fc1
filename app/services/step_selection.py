"""Which steps of a run are shown: those of the workflow itself always, those within others up to a bound.

A map of 10,000 items has tens of thousands of steps, and nobody asked for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from app.core.state import StepState
from app.engines.history import History
from app.services.step_places import find_place

MOST_NESTED: Final = 1_000
"""Steps within others that are shown at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsWanted:
    """What a reader asks for. `depth` counts levels of steps, 1 being the outermost of what is shown."""

    under: str | None = None
    """Only what is within this step, item or iteration."""
    depth: int | None = None


ALL_STEPS: Final = StepsWanted()


def select_steps(history: History, wanted: StepsWanted = ALL_STEPS) -> tuple[list[StepState], int]:
    """The steps to show, in the order in which they came to be, and how many were left out.

    Only the bound leaves steps out; what was not asked for is not counted. Raises `StepNotFound`.
    """
    steps = history.state.steps
    if wanted.under is None and wanted.depth is None and len(steps) <= MOST_NESTED:
        return list(steps.values()), 0
    shown: list[StepState] = []
    nested = 0
    for step in _asked_for(history, wanted):
        if step.scope.owner is None and wanted.under is None:
            shown.append(step)
        else:
            nested += 1
            if nested <= MOST_NESTED:
                shown.append(step)
    return shown, max(0, nested - MOST_NESTED)


def _asked_for(history: History, wanted: StepsWanted) -> Iterator[StepState]:
    """Steps below a place, down to a level. Each stands behind the one around it."""
    within: tuple[str, ...] = ()
    if wanted.under is not None:
        place = find_place(history, wanted.under)
        within = (f"{place.path}.",) if place.index is not None else (f"{place.path}.", f"{place.path}[")
    levels: dict[str, int] = {}
    for path, step in history.state.steps.items():
        if within and not path.startswith(within):
            continue
        # An owner that is not among what was asked for is the place itself, or stands above it.
        level = 1 if step.scope.owner is None else levels.get(step.scope.owner, 0) + 1
        levels[path] = level
        if wanted.depth is None or level <= wanted.depth:
            yield step
