"""The `Recorder` that counts in Prometheus' terms. A call costs about a microsecond.

Every method may be called from any thread, never blocks on anything but a counter's own lock, and raises
nothing for odd label values.

Label values that users choose (workflow, model) are capped: past the cap new ones count as `other`, so
that no user can grow the exposition without bound. Run ids are never labels.

What does not belong here: HTTP metrics (`app.observability.http_metrics`), traces, logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase

OTHER: Final = "other"
"""Stands for every label value past the cap."""
DISTINCT_VALUES: Final = 500
"""Distinct values of one label before the rest becomes `other`."""

RUN_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
STEP_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
CALL_SECONDS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
COMMIT_SECONDS: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.5, 1, 5)
BATCH_EVENTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LAG_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

M = TypeVar("M", bound=MetricWrapperBase)


class Children(Generic[M]):
    """The labelled children of a metric, each looked up once: `labels()` costs more than counting."""

    __slots__ = ("_children", "_distinct", "_limit", "_metric")

    def __init__(self, metric: M, *labels: str, limit: int = DISTINCT_VALUES) -> None:
        self._metric = metric
        self._limit = limit
        self._distinct: tuple[set[str], ...] = tuple(set() for _ in labels)
        self._children: dict[tuple[str, ...], M] = {}

    def __call__(self, *values: str) -> M:
        """The child of these label values, in the order of the metric's labels."""
        return self._children.get(values) or self._new(values)

    def _new(self, values: tuple[str, ...]) -> M:
        capped = tuple(self._cap(seen, value) for seen, value in zip(self._distinct, values, strict=True))
        child = self._children.get(capped)
        if child is None:
            child = self._children[capped] = self._metric.labels(*capped)
        return child

    def _cap(self, seen: set[str], value: str) -> str:
        if value in seen:
            return value
        if len(seen) >= self._limit:
            return OTHER
        seen.add(value)
        return value


class Metrics:
    """Counts into `registry`, which belongs to one service: make a new one for each."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # A switch of the whole library: the creation time of each series would double the exposition.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._make_run_metrics()
        self._make_step_metrics()
        self._make_llm_metrics()
        self._make_internal_metrics()

    def exposition(self) -> tuple[bytes, str]:
        """Everything counted, and its content type: the body of `GET /metrics`."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def run_finished(self, workflow: str, status: str, seconds: float) -> None:
        """See `Recorder`."""
        self._runs(status, workflow).inc()
        self._run_seconds(workflow).observe(seconds)

    def active_runs(self, n: int) -> None:
        """See `Recorder`."""
        self._active.set(n)

    def runs_by_status(self, counts: Mapping[str, int]) -> None:
        """See `Recorder`. A status that is not among `counts` any more has no runs."""
        for status in self._statuses.difference(counts):
            self._by_status(status).set(0)
        for status, count in counts.items():
            self._by_status(status).set(count)
        self._statuses.update(counts)

    def queue_depth(self, n: int) -> None:
        """See `Recorder`."""
        self._queued.set(n)

    def steps_in_flight(self, delta: int) -> None:
        """See `Recorder`."""
        self._in_flight.inc(delta)

    def step_finished(self, step_type: str, status: str, seconds: float | None) -> None:
        """See `Recorder`."""
        self._steps(step_type, status).inc()
        if seconds is not None:
            self._step_seconds(step_type).observe(seconds)

    def llm_request(self, provider: str, model: str, status: str, seconds: float) -> None:
        """See `Recorder`."""
        self._llm(provider, model, status).inc()
        self._llm_seconds(provider, model).observe(seconds)

    def llm_tokens(self, provider: str, model: str, type: str, count: int) -> None:
        """See `Recorder`. A count below zero, which only a broken vendor sends, is ignored."""
        if count > 0:
            self._tokens(provider, model, type).inc(count)

    def error(self, error_type: str, component: str) -> None:
        """See `Recorder`."""
        self._errors(error_type, component).inc()

    def committed(self, batch_size: int, seconds: float) -> None:
        """See `Recorder`."""
        self._commit_seconds.observe(seconds)
        self._batch_events.observe(batch_size)

    def loop_lag(self, seconds: float) -> None:
        """See `Recorder`."""
        self._lag_seconds.observe(seconds)

    def _make_run_metrics(self) -> None:
        self._runs = self._counter(
            "orchestrator_workflow_executions_total", "Runs that ended.", "status", "workflow_name"
        )
        self._run_seconds = self._histogram(
            "orchestrator_workflow_duration_seconds",
            "Time from a run's start to its end.",
            RUN_SECONDS,
            "workflow_name",
        )
        self._active = Gauge(
            "orchestrator_active_workflows", "Runs this process drives now.", registry=self.registry
        )
        by_status = Gauge(
            "orchestrator_runs", "Runs of the store that have not ended.", ("status",), registry=self.registry
        )
        self._by_status = Children(by_status, "status")
        self._statuses: set[str] = set()
        self._queued = Gauge(
            "orchestrator_queue_depth", "Accepted runs that wait to be taken up.", registry=self.registry
        )

    def _make_step_metrics(self) -> None:
        self._steps = self._counter(
            "orchestrator_step_executions_total", "Steps that ended.", "step_type", "status"
        )
        self._step_seconds = self._histogram(
            "orchestrator_step_duration_seconds",
            "Time from a step's start to its end.",
            STEP_SECONDS,
            "step_type",
        )
        self._in_flight = Gauge(
            "orchestrator_steps_in_flight", "Step attempts that are being executed.", registry=self.registry
        )

    def _make_llm_metrics(self) -> None:
        self._llm = self._counter(
            "orchestrator_llm_requests_total", "Calls to models that ended.", "provider", "model", "status"
        )
        self._tokens = self._counter(
            "orchestrator_llm_tokens_total",
            "Tokens as the vendors counted them.",
            "provider",
            "model",
            "type",
        )
        self._llm_seconds = self._histogram(
            "orchestrator_llm_request_duration_seconds",
            "Duration of calls to models.",
            CALL_SECONDS,
            "provider",
            "model",
        )

    def _make_internal_metrics(self) -> None:
        self._errors = self._counter(
            "orchestrator_errors_total",
            "Failures by class and by the part that saw them.",
            "error_type",
            "component",
        )
        self._commit_seconds = Histogram(
            "orchestrator_journal_commit_seconds",
            "Time to make a batch of events durable.",
            buckets=COMMIT_SECONDS,
            registry=self.registry,
        )
        self._batch_events = Histogram(
            "orchestrator_journal_batch_events",
            "Events that went out in one transaction.",
            buckets=BATCH_EVENTS,
            registry=self.registry,
        )
        self._lag_seconds = Histogram(
            "orchestrator_event_loop_lag_seconds",
            "How late the event loop ran a callback that was due.",
            buckets=LAG_SECONDS,
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Children[Counter]:
        return Children(Counter(name, text, labels, registry=self.registry), *labels)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Children[Histogram]:
        return Children(Histogram(name, text, labels, buckets=buckets, registry=self.registry), *labels)
