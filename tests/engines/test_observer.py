"""Attempts in flight are counted back down however they end, and their text reaches listeners."""

from __future__ import annotations

import asyncio

import pytest

from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledStep
from app.engines.attempts import RunIdentity
from app.engines.engine import Delta
from app.engines.live import LiveEvents
from app.engines.observer import RunObserver
from app.observability.metrics import Metrics
from app.observability.tracing import NullTracer
from app.steps.registry import STEP_KINDS
from tests.engines.harness import llm

RUN = RunIdentity(run_id="r1", tenant="t1", workflow="w", labels={})


class StoppedClock:
    def now(self) -> float:
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


def in_flight(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("orchestrator_steps_in_flight")


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError()])
def test_an_attempt_that_breaks_off_is_not_in_flight_any_more_and_its_error_passes(
    observer: RunObserver, metrics: Metrics, step: CompiledStep, error: BaseException
) -> None:
    with pytest.raises(type(error)) as raised, observer.attempt(RUN, step, 1):
        raise error
    assert raised.value is error
    assert in_flight(metrics) == 0


def test_every_attempt_under_way_is_counted(
    observer: RunObserver, metrics: Metrics, step: CompiledStep
) -> None:
    with observer.attempt(RUN, step, 1), observer.attempt(RUN, step, 2):
        assert in_flight(metrics) == 2
    assert in_flight(metrics) == 0


def test_streamed_text_reaches_the_listeners_of_the_run_only(
    observer: RunObserver, live: LiveEvents, step: CompiledStep
) -> None:
    with live.listen("r1") as ours, live.listen("r2") as others:
        with observer.attempt(RUN, step, 3) as emit:
            emit("Paris")
        assert ours.deltas() == (Delta(path="answer", attempt=3, text="Paris", at=7.0),)
        assert others.deltas() == ()
