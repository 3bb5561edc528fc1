"""What the outside learns of runs: metrics, log lines, spans, live news. It changes nothing.

Metric and log names are those of the operator's dashboards; run ids go into logs and spans, never into
metric labels. Prompts and outputs go nowhere. Every line that is written while a run is driven carries its
`run_id`, and within an attempt `step` and `attempt`, whoever writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Final

import structlog

from app.core import events as e
from app.core.attempts import TIMEOUT_CLASS, UNKNOWN_CLASS
from app.core.state import ENDED, StepStatus
from app.dsl.compiled import CompiledWorkflow
from app.engines.attempts import Try
from app.engines.engine import Delta
from app.engines.history import BRINGS_OUTPUTS, History
from app.engines.identity import RunIdentity
from app.engines.live import LiveEvents
from app.observability import log_context
from app.observability.recorder import Recorder
from app.observability.tracing import Tracer
from app.ports.clock import Clock
from app.ports.steps import Emit

log = structlog.get_logger(__name__)

STEP_ENDS: Final = BRINGS_OUTPUTS | {e.StepFailed, e.StepSkipped}
ATTEMPT_ENDS: Final = frozenset({e.AttemptFailed, e.AttemptTimedOut, e.AttemptLost, e.AttemptCancelled})
"""They end their step only while its run is ending."""
FAILURES: Final = (
    e.AttemptFailed,
    e.AttemptTimedOut,
    e.AttemptLost,
    e.StepFailed,
    e.ConditionFailed,
    e.EvaluationFailed,
)
HEARD: Final = STEP_ENDS | ATTEMPT_ENDS | {*FAILURES, *e.TERMINAL}
"""What is counted or logged; a look at one set spares most events everything else."""
FailureEvent = (
    e.AttemptFailed
    | e.AttemptTimedOut
    | e.AttemptLost
    | e.StepFailed
    | e.ConditionFailed
    | e.EvaluationFailed
)
LOG_NAMES: Final[Mapping[type[FailureEvent], str]] = {
    e.AttemptFailed: "attempt.failed",
    e.AttemptTimedOut: "attempt.failed",
    e.AttemptLost: "attempt.failed",
    e.ConditionFailed: "condition.failed",
    e.EvaluationFailed: "evaluation.failed",
    e.StepFailed: "step.failed",
}


class RunObserver:
    """One for all runs of a process."""

    def __init__(self, recorder: Recorder, tracer: Tracer, live: LiveEvents, clock: Clock) -> None:
        self._recorder = recorder
        self._tracer = tracer
        self._live = live
        self._clock = clock

    @cached_property
    def _log(self) -> Any:
        """The logger, put together once: this module's own is anew for every line."""
        return log.bind()

    def observed(
        self, run: RunIdentity, workflow: CompiledWorkflow, history: History, event: e.Event
    ) -> None:
        """An event was folded (and is about to be stored)."""
        kind = type(event)
        if kind not in HEARD:
            return
        path = getattr(event, "path", None)
        if path is not None and (
            kind in STEP_ENDS or (kind in ATTEMPT_ENDS and _is_cancelled(history, path))
        ):
            self._step_ended(workflow, history, path, event.at)
        elif kind in e.TERMINAL:
            self._run_ended(run, history)
        if isinstance(event, FAILURES):
            self._failed(run, event, history)

    def _step_ended(self, workflow: CompiledWorkflow, history: History, path: str, at: float) -> None:
        started = history.steps[path].started_at
        seconds = max(0.0, at - started) if started is not None else None  # the clock may have been set
        step = history.state.steps[path]
        if step.status in ENDED:
            self._recorder.step_finished(workflow.steps[step.node.key].type, step.status.value, seconds)

    def _run_ended(self, run: RunIdentity, history: History) -> None:
        started = history.started_at if history.started_at is not None else history.submitted_at
        seconds = max(0.0, (history.ended_at or started) - started)  # as above
        self._recorder.run_finished(run.workflow, history.status, seconds)
        self._log.info(
            "run.finished",
            run_id=run.run_id,
            workflow=run.workflow,
            status=history.status,
            seconds=round(seconds, 4),
        )
        if history.failure is not None and history.failed_path is None:
            self._recorder.error(history.failure.error_class, "run")
            log.warning(
                "run.failed",
                run_id=run.run_id,
                error_class=history.failure.error_class,
                error=history.failure.message,
            )

    def _failed(self, run: RunIdentity, event: FailureEvent, history: History) -> None:
        failure = _failure(event, history)
        if not isinstance(event, e.StepFailed):  # what it failed of was counted when it happened
            self._recorder.error(failure.error_class, "step")
        # Attempts are lost by the hundred, all at once: recovery counts them in one line of its own.
        write = log.debug if isinstance(event, e.AttemptLost) else log.warning
        write(
            LOG_NAMES[type(event)],
            run_id=run.run_id,
            step=event.path,
            attempt=getattr(event, "attempt", None),
            error_class=failure.error_class,
            error=failure.message,
        )

    def durable(self, run: RunIdentity, history: History) -> None:
        """Everything folded so far is stored: listeners may read it."""
        self._live.publish(run.run_id, history.seq, ended=history.state.terminal)

    def attempt(self, run: RunIdentity, this: Try, history: History) -> AbstractContextManager[Emit]:
        """Surround one try; gives the function that passes streamed text on."""
        span = self._tracer.step(this.path, this.step.type, this.attempt)
        where = (run.run_id, this.path, this.attempt)
        return _Attempt(self._recorder, span, where, partial(self._said, where, history))

    def _said(self, where: tuple[str, str, int], history: History, text: str) -> None:
        run_id, path, attempt = where
        delta = Delta(path=path, attempt=attempt, text=text, at=self._clock.now(), after=history.seq)
        self._live.publish_delta(run_id, delta)

    def driving(self, run: RunIdentity, parent: str | None) -> AbstractContextManager[object]:
        """Surround the time this process drives a run; `parent` is the `traceparent` of its submission.

        To be called in the task that drives. What its creator bound to log lines is dropped: a run belongs
        to no request, it may be taken up by any of them, by the queue or after a crash.
        """
        log_context.bind_only(run_id=run.run_id)
        return self._tracer.run(run.run_id, run.workflow, parent=parent)

    def load(self, active: int, queued: int) -> None:
        """How many runs this process drives, and how many wait."""
        self._recorder.active_runs(active)
        self._recorder.queue_depth(queued)

    def traceparent(self) -> str | None:
        """The trace of the request that is being served, to be kept with the run it submits."""
        return self._tracer.traceparent()


def _is_cancelled(history: History, path: str) -> bool:
    return history.state.steps[path].status is StepStatus.CANCELLED


def _failure(event: FailureEvent, history: History) -> e.Failure:
    """Why; of a time-out and a loss, whose events do not say it, as the core puts it where it does."""
    match event:
        case e.AttemptTimedOut(path=path):
            known = history.state.steps[path].failure
            return known or e.Failure(error_class=TIMEOUT_CLASS, message="the attempt took too long")
        case e.AttemptLost():
            message = "the process died while the attempt was in flight"
            return e.Failure(error_class=UNKNOWN_CLASS, message=message)
        case _:
            return event.failure


class _Attempt:
    """One try. A class, because a generator as context manager costs three times as much."""

    __slots__ = ("_bound", "_emit", "_recorder", "_span", "_where")

    def __init__(
        self,
        recorder: Recorder,
        span: AbstractContextManager[object],
        where: tuple[str, str, int],
        emit: Emit,
    ) -> None:
        self._recorder = recorder
        self._span = span
        self._where = where
        self._emit = emit

    def __enter__(self) -> Emit:
        run_id, path, attempt = self._where
        self._bound = log_context.bind_only(run_id=run_id, step=path, attempt=attempt)
        self._span.__enter__()
        self._recorder.steps_in_flight(1)
        return self._emit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._span.__exit__(kind, error, trace)
        finally:
            self._recorder.steps_in_flight(-1)
            log_context.reset(self._bound)
