"""Why a step of a run is where it is, and what made it so, back to the roots.

Pure: a folded run and a path in, an answer out. It is bounded whatever the size of the run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.core.state import ENDED, StepState
from app.services.ended_reasons import why_ended
from app.services.open_reasons import why_open
from app.services.reasons import Because, Reason, See, Seen, status_of
from app.services.step_places import find_step
from app.services.unopened_reasons import status_unopened, why_unopened

MOST_CAUSES: Final = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A step that made another one be where it is."""

    path: str
    status: str
    reason: Reason
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One step's answer. `details` is JSON; causes come nearest first, down to those without a cause."""

    run_id: str
    path: str
    type: str
    status: str
    reason: Reason
    summary: str
    details: Mapping[str, Any]
    caused_by: Sequence[Cause]
    more_causes: bool
    """There are more than are listed."""
    see: Mapping[str, See]


def explain(seen: Seen, path: str) -> Explanation:
    """Why the step is where it is. Raises `StepNotFound`."""
    place = find_step(seen.history, path)
    if place.step is not None:
        because, status = _why(seen, place.step), status_of(place.step)
    else:
        because, status = why_unopened(seen, place), status_unopened(seen, place)
    caused_by, more = _chain(seen, path, because)
    return Explanation(
        run_id=seen.row.id,
        path=path,
        type=seen.compiled(place.node).type,
        status=status,
        reason=because.reason,
        summary=because.summary,
        details=because.details,
        caused_by=caused_by,
        more_causes=more,
        see=because.see,
    )


def _why(seen: Seen, step: StepState) -> Because:
    return why_ended(seen, step) if step.status in ENDED else why_open(seen, step)


def _chain(seen: Seen, path: str, because: Because) -> tuple[list[Cause], bool]:
    """The causes, those of the causes, and so on; each step once."""
    told: list[Cause] = []
    known = {path}
    pending = deque(because.causes)
    while pending:
        cause = pending.popleft()
        step = seen.state.steps.get(cause)
        if cause in known or step is None:
            continue
        if len(told) == MOST_CAUSES:
            return told, True
        known.add(cause)
        why = _why(seen, step)
        told.append(Cause(path=cause, status=status_of(step), reason=why.reason, summary=why.summary))
        pending.extend(why.causes)
    return told, False
