"""Recorded journals: how one stands in a file, and how it is held against the scheduler of today.

A file has a line a row, after one with the definition and what the service said of the run in the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.core import commands as c
from app.core import events as e
from app.core.scheduler import decide, in_flight, next_due
from app.core.state import RunState
from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.engines.codec import decode, encode
from app.engines.history import STEP_STATUS_NAMES, History, new_history
from app.ports.runs import Definition, JournalRow
from app.settings import RunSettings
from app.steps.registry import STEP_KINDS

FOLDER: Final = Path(__file__).resolve().parents[1] / "histories" / "journals"

FROM_OUTSIDE: Final = (
    e.RunSubmitted,
    e.RunStarted,
    e.RunPaused,
    e.RunResumed,
    e.RunWoken,
    e.ClockMoved,
    e.CancelRequested,
    e.ApprovalAnswered,
)
"""Facts that nobody decided: they may come whenever the state takes them."""
OF_ATTEMPTS: Final = (
    e.StepSucceeded,
    e.AttemptFailed,
    e.AttemptLost,
    e.AttemptCancelled,
    e.AttemptDeferred,
    e.NoticeEmitted,
)
"""What becomes of an attempt in flight."""
ANSWERS: Final[Mapping[type[Any], tuple[type[Any], ...]]] = {
    c.EvaluateCondition: (e.ConditionEvaluated, e.ConditionFailed),
    c.EnterStep: (
        e.BranchChosen,
        e.ItemsCounted,
        e.WaitStarted,
        e.ApprovalRequested,
        e.ChildStarted,
        e.EvaluationFailed,
    ),
    c.CheckLoop: (e.LoopChecked, e.EvaluationFailed),
    c.CollectBlock: (e.BlockCompleted, e.EvaluationFailed),
    c.LaunchChild: (e.ChildLaunched, e.ChildEnded),
    c.CancelChild: (e.ChildEnded,),
    c.StartAttempt: (e.AttemptStarted,),
    c.RecoverStep: (e.StepRecovered, e.StepFailed),
    c.AttemptTimer: (e.AttemptTimedOut,),
    c.RetryTimer: (e.RetryDue,),
    c.RunTimer: (e.RunTimeoutReached,),
    c.WaitTimer: (e.WaitOver,),
    c.ApprovalTimer: (e.ApprovalExpired,),
    c.BlockTimer: (e.BlockTimedOut,),
}
"""Which events answer a command, or come of a timer."""
ENDS: Final[Mapping[c.Outcome, type[Any]]] = {
    "completed": e.RunCompleted,
    "failed": e.RunFailed,
    "cancelled": e.RunCancelled,
    "timed_out": e.RunTimedOut,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRun:
    """One run as a store had it. `said` is the run's status, outputs and steps as the API told them."""

    run_id: str
    document: Mapping[str, Any]
    said: Mapping[str, Any]
    rows: Sequence[JournalRow]

    @property
    def workflow(self) -> CompiledWorkflow:
        """The document, compiled as a service with default settings does."""
        catalog = Catalog(STEP_KINDS, RunSettings().plan_defaults())
        text = json.dumps(self.document).encode()
        return catalog.by_definition(Definition(hash="recorded", document=text))

    def write(self, path: Path) -> None:
        """Into a file, compactly."""
        head = {"run": self.run_id, "document": self.document, "said": self.said}
        rows = [[row.seq, row.type, row.at, json.loads(row.payload)] for row in self.rows]
        lines = [json.dumps(line, separators=(",", ":"), ensure_ascii=False) for line in (head, *rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_recorded(path: Path) -> RecordedRun:
    """What `write` wrote."""
    head, *lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    rows = [
        JournalRow(run_id=head["run"], seq=seq, type=kind, at=at, payload=json.dumps(payload).encode())
        for seq, kind, at, payload in lines
    ]
    return RecordedRun(run_id=head["run"], document=head["document"], said=head["said"], rows=rows)


def diverging(run: RecordedRun) -> list[str]:
    """Rows that the scheduler would not have come to; nothing, one hopes.

    Before each row the journal up to it is folded anew, as after a crash at that moment: what is to be done
    then has to be what the row answers.
    """
    flaws, workflow = [], run.workflow
    for count, row in enumerate(run.rows):
        history = _folded(run, workflow, count)
        due = decide(history.state)
        event, data = decode(row)
        if not _leads_to(event, due, history.state):
            flaws.append(f"{row.seq} {event} follows from none of {due}")
        history.apply(event, data)
        again = encode(run.run_id, history.seq, event, data)
        if json.loads(again.payload) != json.loads(row.payload) or again.seq != row.seq:
            flaws.append(f"{row.seq} {row.type} is written otherwise")
    left = decide(_folded(run, workflow, len(run.rows)).state)
    return [*flaws, *(f"left to do: {command}" for command in left if isinstance(command, c.Record))]


def ended_as(run: RecordedRun) -> dict[str, Any]:
    """What the folded journal says, in the words of the API: to be compared with `said`."""
    history = _folded(run, run.workflow, len(run.rows))
    steps = history.state.steps.items()
    return {
        "status": history.status,
        "outputs": history.outputs,
        "steps": {path: STEP_STATUS_NAMES[step.status] for path, step in steps},
    }


def _folded(run: RecordedRun, workflow: CompiledWorkflow, count: int) -> History:
    history = new_history(run.run_id, workflow.plan)
    for row in run.rows[:count]:
        history.apply(*decode(row))
    return history


def _leads_to(event: e.Event, due: Sequence[c.Command], state: RunState) -> bool:
    if isinstance(event, FROM_OUTSIDE):
        return True
    if isinstance(event, OF_ATTEMPTS):
        return (event.path, event.attempt) in in_flight(state)
    if isinstance(event, e.RunParked):
        return event.wake_at == next_due(state)
    return any(_answers(event, command) for command in due)


def _answers(event: e.Event, command: c.Command) -> bool:
    match command:
        case c.Record():
            return event == command.event
        case c.FinishRun():
            if isinstance(event, e.RunFailed):
                if command.outcome == "completed":
                    return event.path is None  # its outputs could not be made
                return (event.path, event.failure) == (command.path, command.failure)
            return type(event) is ENDS[command.outcome]
        case c.StartTimer(timer=timer):
            return isinstance(event, ANSWERS[type(timer)]) and _same_place(event, timer)
        case _:
            return isinstance(event, ANSWERS.get(type(command), ())) and _same_place(event, command)


def _same_place(event: Any, asked: Any) -> bool:
    """Whether path, attempt and iteration agree, as far as both have them."""
    names = ("path", "attempt", "iteration")
    return all(
        getattr(event, name) == getattr(asked, name)
        for name in names
        if hasattr(event, name) and hasattr(asked, name)
    )
