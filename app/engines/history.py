"""A run folded from its journal: control state from the core, and the data beside it.

The runner folds what it appends, a reader folds what it reads; both see the same thing. What does not
belong here: decisions (the core), rendering, storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.core import events as e
from app.core.attempts import TIMEOUT_CLASS
from app.core.plan import Plan
from app.core.scheduler import evolve
from app.core.state import RunPhase, RunState, StepStatus, initial_state
from app.engines.codec import decode
from app.engines.timekeeping import BOOT
from app.ports.models import counted
from app.ports.runs import JournalRow, RunStatus

_RUN_STATUSES: Mapping[RunPhase | None, RunStatus] = {
    None: "pending",
    RunPhase.SUBMITTED: "pending",
    RunPhase.RUNNING: "running",
    RunPhase.ENDING: "cancelling",
    RunPhase.COMPLETED: "completed",
    RunPhase.FAILED: "failed",
    RunPhase.CANCELLED: "cancelled",
    RunPhase.TIMED_OUT: "timed_out",
}


@dataclass(slots=True)
class AttemptRecord:
    """One try as it went. Times are epoch seconds; `outcome` is None while it is in flight."""

    attempt: int
    started_at: float
    ended_at: float | None = None
    outcome: str | None = None
    """succeeded, failed, timed_out, lost, cancelled or deferred."""
    failure: e.Failure | None = None
    billing: Mapping[str, Any] | None = None
    """Of a try that was answered and failed all the same."""
    reserved: Mapping[str, Any] | None = None
    """What the run's budget set aside for it."""
    charged: Mapping[str, Any] | None = None
    """What the run's budget was charged with in the end."""


@dataclass(slots=True)
class StepHistory:
    """What is known of one step instance besides its control state."""

    outputs: Mapping[str, Any] | None = None
    """By the kind's own output names (of a recovered step: `{"value": …}`)."""
    billing: Mapping[str, Any] | None = None
    """provider, model and usage as the outcome reported them."""
    started_at: float | None = None
    ended_at: float | None = None
    attempts: list[AttemptRecord] = field(default_factory=list)
    entered: Mapping[str, Any] | None = None
    """What a control step began with: the items of a map, the question of an approval, the call of a
    workflow."""
    content_hash: str | None = None
    """Of the rendered step, where an attempt got that far."""
    source: Mapping[str, Any] | None = None
    """Where the outputs come from if no call was made for them: another run, or the cache."""
    charged: Mapping[str, Any] | None = None
    """What a called run used of this run's budget."""
    within: str | None = None
    """Of the run of an item that failed: the path of the step there."""


@dataclass(slots=True)
class History:
    """One run. `seq` is that of the latest event folded in."""

    state: RunState
    seq: int = 0
    tenant: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Any = None
    failure: e.Failure | None = None
    failed_path: str | None = None
    cancel_reason: str | None = None
    pause_detail: str | None = None
    """What the service has to say of a pause of its own: what was left of the budget."""
    submitted_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    wake_at: float | None = None
    """When a parked run wants to be taken up again."""
    clock_noted: Mapping[str, Any] | None = None
    """What the clock was like when the times of the run were worked out; see `timekeeping`."""
    timeout: float | None = None
    """The run's own bound given at its submission, in seconds."""
    submitted: Mapping[str, Any] = field(default_factory=dict)
    """Everything that came with the submission."""
    budget: Mapping[str, Any] | None = None
    """Bounds that resumes set instead of the given ones."""
    traceparent: str | None = None
    """The trace (W3C) of the request that submitted it."""
    steps: dict[str, StepHistory] = field(default_factory=dict)

    @property
    def status(self) -> RunStatus:
        """The status as the API names it."""
        state = self.state
        if state.phase in _AT_REST and (state.paused or state.parked):
            return "paused" if state.paused else "waiting"
        return _RUN_STATUSES[state.phase]

    @property
    def caller(self) -> tuple[str, str] | None:
        """The run and the path of the `workflow` step that called this run."""
        called = self.submitted.get("caller")
        return None if called is None else (called["run_id"], called["path"])

    @property
    def is_item(self) -> bool:
        """Whether it is the run of an item of a distributed map."""
        called = self.submitted.get("caller")
        return called is not None and called.get("item", False)

    def billed_tokens(self) -> tuple[int | None, int | None]:
        """Tokens in and out that the completed steps were billed for; None where nobody counted them."""
        bills = [step.billing for step in self.steps.values() if step.billing]
        return (
            counted(bill.get("input_tokens") for bill in bills),
            counted(bill.get("output_tokens") for bill in bills),
        )

    def apply(self, event: e.Event, data: Mapping[str, Any] | None = None) -> None:
        """Fold one event and its data in. Raises `InvalidTransition` and changes nothing if it cannot be."""
        evolve(self.state, event)
        self.seq += 1
        path = getattr(event, "path", None)
        if isinstance(event, e.TERMINAL):
            self._ended(event, data)
        elif path is None:
            self._run_event(event, data)
        else:
            step = self.steps.get(path)
            if step is None:
                step = self.steps[path] = StepHistory()
            self._step_event(step, event, data)

    def _run_event(self, event: e.Event, data: Mapping[str, Any] | None) -> None:
        if isinstance(event, e.RunSubmitted):
            self.submitted_at = event.at
            submitted = self.submitted = data or {}
            self.tenant = submitted.get("tenant", "")
            self.inputs = submitted.get("inputs", {})
            self.timeout = submitted.get("timeout")
            self.traceparent = submitted.get("traceparent")
        elif isinstance(event, e.RunStarted):
            self.started_at = event.at
        elif isinstance(event, e.CancelRequested):
            self.cancel_reason = event.reason
        elif isinstance(event, e.RunParked):
            self.wake_at = event.wake_at
            self.clock_noted = (data or {}).get(BOOT)
        elif isinstance(event, e.RunWoken):
            # From here on times are worked out by another reading, perhaps on another machine.
            self.clock_noted = None
        elif isinstance(event, e.ClockMoved):
            self.clock_noted = (data or {}).get(BOOT)
        elif isinstance(event, e.RunPaused):
            self.pause_detail = (data or {}).get("detail")
        elif isinstance(event, e.RunResumed) and data is not None and "budget" in data:
            self.budget = {**(self.budget or {}), **data["budget"]}

    def _ended(self, event: e.TerminalEvent, data: Mapping[str, Any] | None) -> None:
        self.ended_at = event.at
        if isinstance(event, e.RunCompleted):
            self.outputs = (data or {}).get("outputs")
        elif isinstance(event, e.RunFailed):
            self.failure, self.failed_path = event.failure, event.path
        elif isinstance(event, e.RunTimedOut):
            self.failure = out_of_time(self.state.plan.timeout if self.timeout is None else self.timeout)

    def _step_event(self, step: StepHistory, event: e.Event, data: Mapping[str, Any] | None) -> None:
        kind = type(event)
        if isinstance(event, e.AttemptStarted):
            step.attempts.append(AttemptRecord(attempt=event.attempt, started_at=event.at))
            if step.started_at is None:
                step.started_at = event.at
        elif (outcome := _ATTEMPT_OUTCOMES.get(kind)) is not None:
            attempt = step.attempts[-1]
            attempt.ended_at, attempt.outcome = event.at, outcome
            attempt.failure = getattr(event, "failure", None)
            if data is not None:
                attempt.charged = data.get("charged")
                attempt.billing = data.get("billing")
        elif isinstance(event, e.NoticeEmitted):
            if data is not None and RESERVED in data:
                step.attempts[-1].reserved = data[RESERVED]
        elif isinstance(event, e.ChildEnded):
            step.charged = None if data is None else data.get("charged")
            step.within = None if data is None else data.get("within")
        elif kind in ENTERS and step.started_at is None:
            step.started_at = event.at
            step.entered = data
        if kind in _ENDS_STEP:
            step.ended_at = event.at
        if data is not None and kind in BRINGS_OUTPUTS:
            step.outputs = data.get("outputs")
            step.billing = data.get("billing")
            step.content_hash = data.get("hash")
            step.source = data.get("source")


RESERVED: Final = "budget_reserved"
"""Key of a notice that says what a budget set aside."""

# Sets of types: looking one up costs a tenth of `isinstance` with as many.
ENTERS: Final[frozenset[type[e.Event]]] = frozenset(
    {
        e.BlockEntered,
        e.BranchChosen,
        e.ItemsCounted,
        e.WaitStarted,
        e.ApprovalRequested,
        e.ChildStarted,
    }
)
"""A control step began."""
BRINGS_OUTPUTS: Final[frozenset[type[e.Event]]] = frozenset(
    {
        e.StepSucceeded,
        e.StepRecovered,
        e.BlockCompleted,
        e.WaitOver,
        e.ApprovalAnswered,
        e.ApprovalExpired,
        e.ChildLaunched,
        e.ChildEnded,
    }
)
"""Their data may hold the outputs of the step."""
_AT_REST = frozenset({RunPhase.SUBMITTED, RunPhase.RUNNING})
_ENDS_STEP: Final = BRINGS_OUTPUTS | {e.StepFailed, e.StepSkipped, e.AttemptCancelled}
_ATTEMPT_OUTCOMES: Mapping[type[e.Event], str] = {
    e.StepSucceeded: "succeeded",
    e.AttemptFailed: "failed",
    e.AttemptTimedOut: "timed_out",
    e.AttemptLost: "lost",
    e.AttemptCancelled: "cancelled",
    e.AttemptDeferred: "deferred",
}


def out_of_time(seconds: float | None = None) -> e.Failure:
    """What made a run fail that took too long; `seconds` is what it had."""
    bound = "it may" if seconds is None else f"{seconds:g} s"
    message = f"the run took longer than {bound}; raise its timeout_seconds"
    return e.Failure(error_class=TIMEOUT_CLASS, message=message)


def new_history(run_id: str, plan: Plan) -> History:
    """A run before its first event."""
    return History(state=initial_state(run_id, plan))


def fold(run_id: str, plan: Plan, rows: Sequence[JournalRow]) -> History:
    """Fold a journal from its first row. Raises `InvalidTransition` if it is not one of this plan."""
    history = new_history(run_id, plan)
    for row in rows:
        event, data = decode(row)
        history.apply(event, data)
    return history


STEP_STATUS_NAMES: Mapping[StepStatus, str] = {
    StepStatus.PENDING: "pending",
    StepStatus.EVALUATING: "pending",
    StepStatus.READY: "pending",
    StepStatus.STARTING: "pending",
    StepStatus.RUNNING: "running",
    StepStatus.FAILING: "running",
    StepStatus.RETRYING: "retrying",
    StepStatus.ENTERING: "running",
    StepStatus.OPEN: "running",
    StepStatus.COLLECTING: "running",
    StepStatus.STOPPING: "running",
    StepStatus.WAITING: "waiting",
    StepStatus.COMPLETED: "completed",
    StepStatus.FAILED: "failed",
    StepStatus.SKIPPED: "skipped",
    StepStatus.CANCELLED: "cancelled",
}
"""Step statuses as the API names them."""
