"""What the outside learns of runs: metrics, log lines, spans, live news. It changes nothing.

Metric and log names are those of the operator's dashboards; run ids go into logs and spans, never into
metric labels. Prompts and outputs go nowhere.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final

import structlog

from app.core import events as e
from app.dsl.compiled import CompiledStep, CompiledWorkflow
from app.engines.attempts import RunIdentity
from app.engines.engine import Delta
from app.engines.history import History
from app.engines.live import LiveEvents
from app.observability.recorder import Recorder
from app.observability.tracing import Tracer
from app.ports.clock import Clock
from app.ports.steps import Emit

log = structlog.get_logger(__name__)

# Tuples: `isinstance` checks them several times faster than a union.
STEP_ENDS: Final = (e.StepSucceeded, e.StepFailed, e.StepRecovered, e.StepSkipped)
FAILURES: Final = (e.AttemptFailed, e.StepFailed, e.ConditionFailed)


class RunObserver:
    """One for all runs of a process."""

    def __init__(self, recorder: Recorder, tracer: Tracer, live: LiveEvents, clock: Clock) -> None:
        self._recorder = recorder
        self._tracer = tracer
        self._live = live
        self._clock = clock

    def observed(
        self, run: RunIdentity, workflow: CompiledWorkflow, history: History, event: e.Event
    ) -> None:
        """An event was folded (and is about to be stored)."""
        if isinstance(event, STEP_ENDS):
            step = history.steps[event.path]
            seconds = event.at - step.started_at if step.started_at is not None else None
            status = history.state.steps[event.path].status.value
            self._recorder.step_finished(workflow.steps[event.path].type, status, seconds)
        elif isinstance(event, e.TERMINAL):
            self._run_ended(run, history)
        if isinstance(event, FAILURES):
            self._failed(run, event)

    def _run_ended(self, run: RunIdentity, history: History) -> None:
        started = history.started_at if history.started_at is not None else history.submitted_at
        seconds = (history.ended_at or started) - started
        self._recorder.run_finished(run.workflow, history.status, seconds)
        log.info(
            "run.finished",
            run_id=run.run_id,
            workflow=run.workflow,
            status=history.status,
            seconds=round(seconds, 4),
        )

    def _failed(self, run: RunIdentity, event: e.AttemptFailed | e.StepFailed | e.ConditionFailed) -> None:
        failure = event.failure
        if isinstance(event, e.AttemptFailed):
            self._recorder.error(failure.error_class, "step")
        log.warning(
            "step.failed" if isinstance(event, e.StepFailed) else "attempt.failed",
            run_id=run.run_id,
            step=event.path,
            attempt=getattr(event, "attempt", None),
            error_class=failure.error_class,
            error=failure.message,
        )

    def durable(self, run: RunIdentity, history: History) -> None:
        """Everything folded so far is stored: listeners may read it."""
        self._live.publish(run.run_id, history.seq)

    def attempt(self, run: RunIdentity, step: CompiledStep, attempt: int) -> AbstractContextManager[Emit]:
        """Surround one try; gives the function that passes streamed text on."""
        span = self._tracer.step(step.id, step.type, attempt)
        return _Attempt(self._recorder, span, self._live, self._clock, (run.run_id, step.id, attempt))

    def driving(self, run: RunIdentity, parent: str | None) -> AbstractContextManager[object]:
        """Surround the time this process drives a run; `parent` is the `traceparent` of its submission."""
        return self._tracer.run(run.run_id, run.workflow, parent=parent)

    def load(self, active: int, queued: int) -> None:
        """How many runs this process drives, and how many wait."""
        self._recorder.active_runs(active)
        self._recorder.queue_depth(queued)

    def traceparent(self) -> str | None:
        """The trace of the request that is being served, to be kept with the run it submits."""
        return self._tracer.traceparent()


class _Attempt:
    """One try. A class, because a generator as context manager costs three times as much."""

    __slots__ = ("_clock", "_live", "_recorder", "_span", "_where")

    def __init__(
        self,
        recorder: Recorder,
        span: AbstractContextManager[object],
        live: LiveEvents,
        clock: Clock,
        where: tuple[str, str, int],
    ) -> None:
        self._recorder = recorder
        self._span = span
        self._live = live
        self._clock = clock
        self._where = where

    def __enter__(self) -> Emit:
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

    def _emit(self, text: str) -> None:
        run_id, path, attempt = self._where
        delta = Delta(path=path, attempt=attempt, text=text, at=self._clock.now())
        self._live.publish_delta(run_id, delta)
