"""Labels of runs: how many there may be, and which ones only the service sets.

`batch`, `schedule` and `scheduled_for` say where a run comes from, so nobody else may set them: a list of
the runs of a batch or a schedule holds those runs and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from app.ports.problems import Problem
from app.services.errors import Unprocessable

MOST_LABELS: Final = 64
BATCH: Final = "batch"
SCHEDULE: Final = "schedule"
FIRE_TIME: Final = "scheduled_for"
OWN: Final = frozenset({BATCH, SCHEDULE, FIRE_TIME})
"""Names that are the service's."""


class LabelsRejected(Unprocessable):
    """Labels that are the service's own, or too many of them; each is listed."""

    code = "labels_invalid"
    title = "The labels are not valid"

    def __init__(self, problems: list[Problem]) -> None:
        detail = f"the labels cannot be set for {len(problems)} reasons; each is listed under errors"
        if len(problems) == 1:
            detail = f"the labels cannot be set: {problems[0].detail}; {problems[0].hint}"
        super().__init__(detail, problems=problems)


def check_labels(labels: Mapping[str, str] | None, *, pointer: str = "/labels") -> None:
    """Raise `LabelsRejected` for names that are the service's own."""
    problems = list(own_label_problems(labels or {}, pointer))
    if problems:
        raise LabelsRejected(problems)


def own_label_problems(labels: Mapping[str, str], pointer: str) -> Iterator[Problem]:
    """Names that are the service's own, each with its place."""
    for name in sorted(OWN.intersection(labels)):
        detail = f"the label {name!r} is set by the service"
        yield Problem(pointer=f"{pointer}/{name}", detail=detail, hint="choose another name")


def too_many(labels: int, ours: int, pointer: str) -> Problem:
    """A run would have more labels than it may, together with those of the service."""
    detail = f"there would be {labels + ours} labels, with the {ours} that the service adds"
    return Problem(pointer=pointer, detail=detail, hint=f"set {MOST_LABELS - ours} at most")
