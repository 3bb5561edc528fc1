"""What is counted and logged of a run: every failure and every step that ends, once."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from app.core import events as e
from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledStep, CompiledWorkflow
from app.engines.attempts import Try
from app.engines.engine import Delta
from app.engines.history import History, new_history
from app.engines.identity import RunIdentity
from app.engines.live import LiveEvents
from app.engines.observer import RunObserver
from app.observability import log_context
from app.observability.metrics import Metrics
from app.observability.tracing import NullTracer
from app.ports.models import CallContext, ChatRequest
from app.steps.registry import STEP_KINDS
from tests.engines.harness import bench, llm, workflow

RUN = RunIdentity(run_id="r1", tenant="t1", workflow="w", labels={})


class StoppedClock:
    machine = "test"

    def now(self) -> float:
        return 7.0

    def uptime(self) -> float:
        return 7.0


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def live() -> LiveEvents:
    return LiveEvents()


@pytest.fixture
def observer(metrics: Metrics, live: LiveEvents) -> RunObserver:
    return RunObserver(metrics, NullTracer(), live, StoppedClock())


@pytest.fixture(scope="module")
def step() -> CompiledStep:
    return Catalog(STEP_KINDS).compile({"name": "w", "steps": [llm("answer")]}).steps["answer"]


def try_of(step: CompiledStep, attempt: int) -> Try:
    return Try(step=step, path=step.id, attempt=attempt)


def begun() -> History:
    """Of a run of one event."""
    history = new_history("r1", Catalog(STEP_KINDS).compile(workflow(llm("answer"))).plan)
    history.apply(e.RunSubmitted(at=0.0))
    return history


def in_flight(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("orchestrator_steps_in_flight")


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError()])
def test_an_attempt_that_breaks_off_is_not_in_flight_any_more_and_its_error_passes(
    observer: RunObserver, metrics: Metrics, step: CompiledStep, error: BaseException
) -> None:
    with pytest.raises(type(error)) as raised, observer.attempt(RUN, try_of(step, 1), begun()):
        raise error
    assert raised.value is error
    assert in_flight(metrics) == 0


def test_every_attempt_under_way_is_counted(
    observer: RunObserver, metrics: Metrics, step: CompiledStep
) -> None:
    with (
        observer.attempt(RUN, try_of(step, 1), begun()),
        observer.attempt(RUN, try_of(step, 2), begun()),
    ):
        assert in_flight(metrics) == 2
    assert in_flight(metrics) == 0


def test_streamed_text_reaches_the_listeners_of_the_run_only(
    observer: RunObserver, live: LiveEvents, step: CompiledStep
) -> None:
    with live.listen("r1") as ours, live.listen("r2") as others:
        with observer.attempt(RUN, try_of(step, 3), begun()) as emit:
            emit("Paris")
        assert ours.deltas() == (Delta(path="answer", attempt=3, text="Paris", at=7.0, after=1),)
        assert others.deltas() == ()


# --- failures and ends ----------------------------------------------------------------------------------

BEGUN = (
    e.RunSubmitted(at=0.0),
    e.RunStarted(at=1.0),
    e.AttemptStarted(path="answer", attempt=1, at=2.0),
)
CANCELLED = (*BEGUN, e.CancelRequested(reason=None, at=3.0))
REFUSED = e.Failure(error_class="rate_limit", message="slow down", temporary=True)


@pytest.fixture(scope="module")
def bounded() -> CompiledWorkflow:
    return Catalog(STEP_KINDS).compile(workflow(llm("answer", timeout_seconds=5)))


@pytest.fixture(scope="module")
def gated() -> CompiledWorkflow:
    return Catalog(STEP_KINDS).compile(workflow(llm("answer", condition="{{ inputs.n > 1 }}")))


def observe(observer: RunObserver, compiled: CompiledWorkflow, *events: e.Event) -> list[dict[str, object]]:
    """Fold these events and let the observer see them; the log lines."""
    history = new_history("r1", compiled.plan)
    with capture_logs() as lines:
        for event in events:
            history.apply(event)
            observer.observed(RUN, compiled, history, event)
    return [dict(line) for line in lines]


def errors(metrics: Metrics, error_type: str, component: str = "step") -> float | None:
    labels = {"error_type": error_type, "component": component}
    return metrics.registry.get_sample_value("orchestrator_errors_total", labels)


def ended(metrics: Metrics, status: str) -> float | None:
    labels = {"step_type": "llm", "status": status}
    return metrics.registry.get_sample_value("orchestrator_step_executions_total", labels)


def test_an_attempt_that_took_too_long_is_counted_and_logged_with_the_remedy(
    observer: RunObserver, metrics: Metrics, bounded: CompiledWorkflow
) -> None:
    timed_out = e.AttemptTimedOut(path="answer", attempt=1, at=7.0)
    (line,) = observe(observer, bounded, *BEGUN, timed_out)
    assert errors(metrics, "timeout") == 1
    assert (line["event"], line["run_id"], line["step"], line["attempt"]) == (
        "attempt.failed",
        "r1",
        "answer",
        1,
    )
    assert line["error_class"] == "timeout"
    assert "raise timeout_seconds of 'answer'" in str(line["error"])


def test_an_attempt_that_was_lost_is_counted_and_no_warning_of_its_own(
    observer: RunObserver, metrics: Metrics, bounded: CompiledWorkflow
) -> None:
    (line,) = observe(observer, bounded, *BEGUN, e.AttemptLost(path="answer", attempt=1, at=7.0))
    assert errors(metrics, "outcome_unknown") == 1
    assert (line["event"], line["error_class"]) == ("attempt.failed", "outcome_unknown")
    assert line["log_level"] == "debug"


def test_a_condition_that_cannot_be_evaluated_is_counted_once(
    observer: RunObserver, metrics: Metrics, gated: CompiledWorkflow
) -> None:
    failure = e.Failure(error_class="condition", message="'n' is undefined")
    lines = observe(
        observer,
        gated,
        *BEGUN[:2],
        e.ConditionFailed(path="answer", failure=failure, at=2.0),
        e.StepFailed(path="answer", failure=failure, at=2.0),
    )
    assert errors(metrics, "condition") == 1
    assert [line["event"] for line in lines] == ["condition.failed", "step.failed"]


def test_outputs_that_cannot_be_made_are_counted_and_logged_with_their_reason(
    observer: RunObserver, metrics: Metrics, bounded: CompiledWorkflow
) -> None:
    failure = e.Failure(error_class="template", message="'n' is undefined")
    lines = observe(
        observer,
        bounded,
        *BEGUN,
        e.StepSucceeded(path="answer", attempt=1, at=3.0),
        e.RunFailed(path=None, failure=failure, at=3.0),
    )
    assert errors(metrics, "template", "run") == 1
    assert {"event": "run.failed", "error": "'n' is undefined"}.items() <= lines[-1].items()


@pytest.mark.parametrize(
    "end",
    [
        e.AttemptCancelled(path="answer", attempt=1, at=4.0),
        e.AttemptFailed(path="answer", attempt=1, failure=REFUSED, at=4.0),
        e.AttemptLost(path="answer", attempt=1, at=4.0),
    ],
    ids=lambda end: type(end).__name__,
)
def test_a_step_that_ends_with_its_run_counts_as_cancelled(
    observer: RunObserver, metrics: Metrics, bounded: CompiledWorkflow, end: e.Event
) -> None:
    observe(observer, bounded, *CANCELLED, end)
    assert ended(metrics, "cancelled") == 1
    labels = {"step_type": "llm"}
    assert metrics.registry.get_sample_value("orchestrator_step_duration_seconds_sum", labels) == 2.0


def test_an_attempt_that_is_tried_again_ends_no_step(
    observer: RunObserver, metrics: Metrics, bounded: CompiledWorkflow
) -> None:
    observe(observer, bounded, *BEGUN, e.AttemptFailed(path="answer", attempt=1, failure=REFUSED, at=4.0))
    assert ended(metrics, "cancelled") is None


# --- what log lines carry -------------------------------------------------------------------------------


async def test_a_line_from_inside_a_step_names_run_step_and_attempt_and_no_request() -> None:
    seen: list[log_context.Names] = []

    async def speaking(request: ChatRequest, context: CallContext) -> str:
        seen.append(log_context.names())
        return "done"

    async with bench(script=speaking) as engine:
        bound = log_context.bind(request_id="of the submission")
        run_id = await engine.submit(workflow(llm("a"), llm("b", "{{ steps.a.text }}")))
        log_context.reset(bound)
        await engine.finish(run_id)
    assert seen == [
        {"run_id": run_id, "step": "a", "attempt": 1},
        {"run_id": run_id, "step": "b", "attempt": 1},
    ]


def test_an_attempt_takes_back_what_it_bound(observer: RunObserver, step: CompiledStep) -> None:
    outer = log_context.bind_only(step="outer")
    with observer.attempt(RUN, try_of(step, 2), begun()):
        assert log_context.names() == {"run_id": "r1", "step": "answer", "attempt": 2}
    assert log_context.names() == {"step": "outer"}
    log_context.reset(outer)
