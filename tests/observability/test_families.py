"""Families expose what the library's own metrics would, to the byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
    enable_created_metrics,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from app.observability import metrics as ours
from app.observability.families import (
    OTHER,
    CounterFamily,
    GaugeFamily,
    HistogramFamily,
    SummaryFamily,
)
from app.observability.metrics import Metrics

HOSTILE = 'a"b\\c\nd{e="f"} 1'
AMOUNTS = (0.0, 0.1, 0.1000001, 0.99, 1.0, 2.5, 1e6, 1e9, -0.5)


@pytest.fixture(autouse=True)
def _no_creation_times() -> Iterator[None]:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped
    yield
    enable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped


def exposed(*families: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    for family in families:
        registry.register(family)
    return registry


def test_a_family_of_a_name_that_is_taken_is_refused() -> None:
    registry = exposed(CounterFamily("jobs_total", "Jobs.", "kind"))
    with pytest.raises(ValueError, match="jobs"):
        registry.register(GaugeFamily("jobs_total", "Jobs."))


def test_too_few_label_values_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        CounterFamily("jobs", "Jobs.", "kind", "status").cells[("a",)].value += 1


def test_values_past_the_limit_share_one_cell_and_leave_nothing_behind() -> None:
    family = CounterFamily("jobs", "Jobs.", "kind", limit=2)
    for kind in ("a", "b", "c", "d", "a", OTHER):
        family.cells[(kind,)].value += 1
    assert {kind: cell.value for (kind,), cell in family.cells.items()} == {"a": 2, "b": 1, OTHER: 3}


@pytest.mark.parametrize("render", [generate_latest, generate_openmetrics])
def test_every_kind_is_exposed_like_the_librarys_own(render: Callable[[CollectorRegistry], bytes]) -> None:
    bounds = (0.1, 1, 2.5, 1_000_000, 20_000_000)
    plain = CollectorRegistry()
    counter = Counter("jobs_total", "Help \\ with\nodd text.", ("kind", "a"), registry=plain)
    gauge = Gauge("level", "Level.", registry=plain)
    summary = Summary("size_bytes", "Size.", ("kind",), registry=plain)
    histogram = Histogram("wait_seconds", "Wait.", ("kind",), buckets=bounds, registry=plain)
    bare = Histogram("lag_seconds", "Lag.", buckets=bounds, registry=plain)
    families = (
        CounterFamily("jobs_total", "Help \\ with\nodd text.", "kind", "a"),
        GaugeFamily("level", "Level."),
        SummaryFamily("size_bytes", "Size.", "kind"),
        HistogramFamily("wait_seconds", "Wait.", bounds, "kind"),
        HistogramFamily("lag_seconds", "Lag.", bounds),
    )
    registry = exposed(*families)
    assert render(registry) == render(plain)
    for amount in AMOUNTS:
        counter.labels(HOSTILE, "z").inc(abs(amount))
        gauge.set(amount)
        summary.labels(HOSTILE).observe(amount)
        histogram.labels("x").observe(amount)
        bare.observe(amount)
        families[0].cells[HOSTILE, "z"].value += abs(amount)
        families[1].only.value = amount
        families[2].cells[(HOSTILE,)].observe(amount)
        families[3].cells[("x",)].observe(amount)
        families[4].only.observe(amount)
        assert render(registry) == render(plain)


def test_another_thread_may_read_while_the_loop_counts() -> None:
    family = HistogramFamily("wait_seconds", "Wait.", (1,), "kind", limit=5000)
    registry = exposed(family)
    with ThreadPoolExecutor(1) as pool:
        reads = [pool.submit(generate_latest, registry) for _ in range(20)]
        for number in range(5000):
            family.cells[(str(number),)].observe(0.5)
        assert all(read.result() for read in reads)


class Plain:
    """The service's families as the library's own objects, in the order of the exposition."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, gauge, histogram = self.counter, self.gauge, self.histogram
        self.runs = counter("workflow_executions_total", "Runs that ended.", "status", "workflow_name")
        self.run_seconds = histogram(
            "workflow_duration_seconds",
            "Time from a run's start to its end.",
            ours.RUN_SECONDS,
            "workflow_name",
        )
        self.active = gauge("active_workflows", "Runs this process drives now.")
        self.queued = gauge("queue_depth", "Accepted runs that wait to be taken up.")
        self.steps = counter("step_executions_total", "Steps that ended.", "step_type", "status")
        self.step_seconds = histogram(
            "step_duration_seconds", "Time from a step's start to its end.", ours.STEP_SECONDS, "step_type"
        )
        self.cache = counter("step_cache_lookups_total", "Steps that asked the cache first.", "outcome")
        self.in_flight = gauge("steps_in_flight", "Step attempts that are being executed.")
        self.make_metrics_of_calls()
        self.make_metrics_of_the_rest()

    def make_metrics_of_calls(self) -> None:
        counter, gauge, histogram = self.counter, self.gauge, self.histogram
        self.calls = counter(
            "llm_requests_total", "Calls to models that ended.", "provider", "model", "status"
        )
        self.tokens = counter(
            "llm_tokens_total", "Tokens as the vendors counted them.", "provider", "model", "type"
        )
        self.call_seconds = histogram(
            "llm_request_duration_seconds",
            "Duration of calls to models.",
            ours.CALL_SECONDS,
            "provider",
            "model",
        )
        self.vectors = counter(
            "vector_requests_total",
            "Calls to vector databases that ended.",
            "database",
            "operation",
            "status",
        )
        self.vector_seconds = histogram(
            "vector_request_duration_seconds",
            "Duration of calls to vector databases.",
            ours.STEP_SECONDS,
            "database",
            "operation",
        )
        self.breakers = gauge(
            "provider_breaker_state",
            "Circuit breakers: 0 closed, 1 half-open, 2 open.",
            "provider",
            "model",
        )
        self.waiting = gauge(
            "provider_calls_waiting", "Calls that wait for their instance's limits.", "provider"
        )
        self.refused = counter(
            "provider_refused_total",
            "Calls that were not made, for an open breaker or a limit.",
            "provider",
            "model",
            "reason",
        )

    def make_metrics_of_the_rest(self) -> None:
        counter, gauge, histogram = self.counter, self.gauge, self.histogram
        self.errors = counter(
            "errors_total", "Failures by class and by the part that saw them.", "error_type", "component"
        )
        self.commit_seconds = histogram(
            "journal_commit_seconds", "Time to make a batch of writes durable.", ours.COMMIT_SECONDS
        )
        self.batch_events = histogram(
            "journal_batch_events", "Writes that went out in one transaction.", ours.BATCH_EVENTS
        )
        self.lag = histogram(
            "event_loop_lag_seconds", "How late the event loop ran a callback that was due.", ours.LAG_SECONDS
        )
        self.attempts = counter(
            "webhook_attempts_total", "Attempts to deliver webhooks that ended.", "outcome"
        )
        self.owed = gauge("webhook_deliveries_pending", "Deliveries that have not ended.")

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"orchestrator_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"orchestrator_{name}", text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"orchestrator_{name}", text, labels, buckets=buckets, registry=self.registry)

    def record(self) -> None:
        for seconds in (0.01, 0.2, 5000.0):
            self.runs.labels("completed", "rag").inc()
            self.run_seconds.labels("rag").observe(seconds)
            self.steps.labels("llm", "completed").inc()
            self.step_seconds.labels("llm").observe(seconds)
            self.calls.labels("openai", "gpt-5", "success").inc()
            self.call_seconds.labels("openai", "gpt-5").observe(seconds)
            self.vectors.labels("qdrant", "search", "success").inc()
            self.vector_seconds.labels("qdrant", "search").observe(seconds)
            self.commit_seconds.observe(seconds)
            self.batch_events.observe(17)
            self.lag.observe(seconds)
        self.active.set(3)
        self.queued.set(4)
        self.in_flight.inc(2)
        self.steps.labels("llm", "skipped").inc()
        self.tokens.labels("openai", "gpt-5", "input").inc(12)
        self.breakers.labels("openai", "gpt-5").set(2)
        self.waiting.labels("openai").inc(3)
        self.refused.labels("openai", "gpt-5", "limit").inc()
        self.errors.labels("rate_limit", "provider").inc()
        self.cache.labels("hit").inc()
        self.attempts.labels("dead").inc()
        self.owed.set(2)


def record(metrics: Metrics) -> None:
    for seconds in (0.01, 0.2, 5000.0):
        metrics.run_finished("rag", "completed", seconds)
        metrics.step_finished("llm", "completed", seconds)
        metrics.llm_request("openai", "gpt-5", "success", seconds)
        metrics.vector_request("qdrant", "search", "success", seconds)
        metrics.committed(17, seconds)
        metrics.loop_lag(seconds)
    metrics.active_runs(3)
    metrics.queue_depth(4)
    metrics.steps_in_flight(+3)
    metrics.steps_in_flight(-1)
    metrics.step_finished("llm", "skipped", None)
    metrics.llm_tokens("openai", "gpt-5", "input", 12)
    metrics.breaker_state("openai", "gpt-5", "open")
    metrics.calls_waiting("openai", +3)
    metrics.call_refused("openai", "gpt-5", "limit")
    metrics.error("rate_limit", "provider")
    metrics.step_cache("hit")
    metrics.webhook_attempt("dead")
    metrics.webhooks_pending(2)


def test_the_service_exposes_what_the_librarys_metrics_would_for_the_same_facts() -> None:
    metrics, plain = Metrics(), Plain()
    record(metrics)
    plain.record()
    lines = metrics.exposition()[0].splitlines(keepends=True)
    # The process collector's figures change from read to read.
    families = [line for line in lines if b"process_" not in line]
    assert b"".join(families) == generate_latest(plain.registry)
