"""What goes through Temporal: ids and small status, nothing else. Outputs stay in the journal.

Names and fields are part of the histories that Temporal keeps: a field may be added with a default, none
may change its meaning. Standard library only: the workflow's sandbox passes this module through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

WORKFLOW: Final = "llm-orchestrator-run"
EXECUTE: Final = "execute_run"
WAKE: Final = "wake"
LONGEST_SECONDS: Final = 10 * 365 * 86_400
"""Longest that one activity may take: a run's own time-out is the core's business."""
RETRY_SECONDS: Final = 0.3
"""Before a run is given to another worker; what needs more time than that says so."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Input of the workflow: one run."""

    run_id: str
    heartbeat_seconds: float
    """A worker that is silent for that long is taken for dead."""
    told: bool = False
    """Something happened to the run that its timer does not know of."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Input of the activity: take the run up."""

    run_id: str
    told: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """Output of the activity. `seconds`: how long nothing can happen by itself; None: for ever.

    Seconds and no time of day: nobody has to compare two machines' clocks.
    """

    ended: bool
    seconds: float | None = None
