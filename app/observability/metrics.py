"""The `Recorder` that counts in Prometheus' terms. A call costs about a fifth of a microsecond.

Every recording method is called on the event loop's thread and nowhere else: counting takes no lock. That
holds today because runners, providers and the loop's probe are coroutines and callbacks of the loop, and
the store's writer thread hands the outcome of a commit to the loop before anybody is told. A caller on
another thread has to go through `call_soon_threadsafe`. `exposition` may be called from any thread.
Nothing blocks, and odd label values raise nothing.

Label values that users choose (workflow, model) are capped: past the cap new ones count as `other`, so
that no user can grow the exposition without bound. Run ids are never labels.

What does not belong here: how a family counts (`app.observability.families`), HTTP metrics
(`app.observability.http_metrics`), traces, logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from app.observability.families import CounterFamily, Family, GaugeFamily, HistogramFamily
from app.ports.provider_status import BreakerState

RUN_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
STEP_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
CALL_SECONDS: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
COMMIT_SECONDS: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.5, 1, 5)
BATCH_EVENTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
BREAKER_VALUES: Final[Mapping[BreakerState, float]] = {"closed": 0, "half_open": 1, "open": 2}
LAG_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

F = TypeVar("F", bound=Family[Any])


class Metrics:
    """Counts into `registry`, which belongs to one service: make a new one for each."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._make_run_metrics()
        self._make_step_metrics()
        self._make_llm_metrics()
        self._make_vector_metrics()
        self._make_guard_metrics()
        self._make_internal_metrics()
        self._make_webhook_metrics()

    def exposition(self) -> tuple[bytes, str]:
        """Everything counted, and its content type: the body of `GET /metrics`."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def run_finished(self, workflow: str, status: str, seconds: float) -> None:
        """See `Recorder`."""
        self._runs[status, workflow].value += 1
        self._run_seconds[(workflow,)].observe(seconds)

    def active_runs(self, n: int) -> None:
        """See `Recorder`."""
        self._active.value = n

    def queue_depth(self, n: int) -> None:
        """See `Recorder`."""
        self._queued.value = n

    def steps_in_flight(self, delta: int) -> None:
        """See `Recorder`."""
        self._in_flight.value += delta

    def step_finished(self, step_type: str, status: str, seconds: float | None) -> None:
        """See `Recorder`."""
        self._steps[step_type, status].value += 1
        if seconds is not None:
            self._step_seconds[(step_type,)].observe(seconds)

    def step_cache(self, outcome: str) -> None:
        """See `Recorder`."""
        self._cache[(outcome,)].value += 1

    def llm_request(self, provider: str, model: str, status: str, seconds: float) -> None:
        """See `Recorder`."""
        self._llm[provider, model, status].value += 1
        self._llm_seconds[provider, model].observe(seconds)

    def llm_tokens(self, provider: str, model: str, type: str, count: int) -> None:
        """See `Recorder`. A count below zero, which only a broken vendor sends, is ignored."""
        if count > 0:
            self._tokens[provider, model, type].value += count

    def vector_request(self, database: str, operation: str, status: str, seconds: float) -> None:
        """See `Recorder`."""
        self._vectors[database, operation, status].value += 1
        self._vector_seconds[database, operation].observe(seconds)

    def breaker_state(self, provider: str, model: str, state: BreakerState) -> None:
        """See `Recorder`."""
        self._breakers[provider, model].value = BREAKER_VALUES[state]

    def calls_waiting(self, provider: str, delta: int) -> None:
        """See `Recorder`."""
        self._waiting[(provider,)].value += delta

    def call_refused(self, provider: str, model: str, reason: str) -> None:
        """See `Recorder`."""
        self._refused[provider, model, reason].value += 1

    def error(self, error_type: str, component: str) -> None:
        """See `Recorder`."""
        self._errors[error_type, component].value += 1

    def committed(self, batch_size: int, seconds: float) -> None:
        """See `Recorder`."""
        self._commit_seconds.observe(seconds)
        self._batch_events.observe(batch_size)

    def loop_lag(self, seconds: float) -> None:
        """See `Recorder`."""
        self._lag_seconds.observe(seconds)

    def webhook_attempt(self, outcome: str) -> None:
        """See `Recorder`."""
        self._webhook_attempts[(outcome,)].value += 1

    def webhooks_pending(self, n: int) -> None:
        """See `Recorder`."""
        self._webhooks_pending.value = n

    def _make_run_metrics(self) -> None:
        self._runs = self._add(
            CounterFamily(
                "orchestrator_workflow_executions_total", "Runs that ended.", "status", "workflow_name"
            )
        ).cells
        self._run_seconds = self._add(
            HistogramFamily(
                "orchestrator_workflow_duration_seconds",
                "Time from a run's start to its end.",
                RUN_SECONDS,
                "workflow_name",
            )
        ).cells
        self._active = self._add(
            GaugeFamily("orchestrator_active_workflows", "Runs this process drives now.")
        ).only
        self._queued = self._add(
            GaugeFamily("orchestrator_queue_depth", "Accepted runs that wait to be taken up.")
        ).only

    def _make_step_metrics(self) -> None:
        self._steps = self._add(
            CounterFamily("orchestrator_step_executions_total", "Steps that ended.", "step_type", "status")
        ).cells
        self._step_seconds = self._add(
            HistogramFamily(
                "orchestrator_step_duration_seconds",
                "Time from a step's start to its end.",
                STEP_SECONDS,
                "step_type",
            )
        ).cells
        self._cache = self._add(
            CounterFamily(
                "orchestrator_step_cache_lookups_total", "Steps that asked the cache first.", "outcome"
            )
        ).cells
        self._in_flight = self._add(
            GaugeFamily("orchestrator_steps_in_flight", "Step attempts that are being executed.")
        ).only

    def _make_llm_metrics(self) -> None:
        self._llm = self._add(
            CounterFamily(
                "orchestrator_llm_requests_total",
                "Calls to models that ended.",
                "provider",
                "model",
                "status",
            )
        ).cells
        self._tokens = self._add(
            CounterFamily(
                "orchestrator_llm_tokens_total",
                "Tokens as the vendors counted them.",
                "provider",
                "model",
                "type",
            )
        ).cells
        self._llm_seconds = self._add(
            HistogramFamily(
                "orchestrator_llm_request_duration_seconds",
                "Duration of calls to models.",
                CALL_SECONDS,
                "provider",
                "model",
            )
        ).cells

    def _make_vector_metrics(self) -> None:
        self._vectors = self._add(
            CounterFamily(
                "orchestrator_vector_requests_total",
                "Calls to vector databases that ended.",
                "database",
                "operation",
                "status",
            )
        ).cells
        self._vector_seconds = self._add(
            HistogramFamily(
                "orchestrator_vector_request_duration_seconds",
                "Duration of calls to vector databases.",
                STEP_SECONDS,
                "database",
                "operation",
            )
        ).cells

    def _make_guard_metrics(self) -> None:
        self._breakers = self._add(
            GaugeFamily(
                "orchestrator_provider_breaker_state",
                "Circuit breakers: 0 closed, 1 half-open, 2 open.",
                "provider",
                "model",
            )
        ).cells
        self._waiting = self._add(
            GaugeFamily(
                "orchestrator_provider_calls_waiting",
                "Calls that wait for their instance's limits.",
                "provider",
            )
        ).cells
        self._refused = self._add(
            CounterFamily(
                "orchestrator_provider_refused_total",
                "Calls that were not made, for an open breaker or a limit.",
                "provider",
                "model",
                "reason",
            )
        ).cells

    def _make_internal_metrics(self) -> None:
        self._errors = self._add(
            CounterFamily(
                "orchestrator_errors_total",
                "Failures by class and by the part that saw them.",
                "error_type",
                "component",
            )
        ).cells
        self._commit_seconds = self._add(
            HistogramFamily(
                "orchestrator_journal_commit_seconds",
                "Time to make a batch of writes durable.",
                COMMIT_SECONDS,
            )
        ).only
        self._batch_events = self._add(
            HistogramFamily(
                "orchestrator_journal_batch_events",
                "Writes that went out in one transaction.",
                BATCH_EVENTS,
            )
        ).only
        self._lag_seconds = self._add(
            HistogramFamily(
                "orchestrator_event_loop_lag_seconds",
                "How late the event loop ran a callback that was due.",
                LAG_SECONDS,
            )
        ).only

    def _make_webhook_metrics(self) -> None:
        self._webhook_attempts = self._add(
            CounterFamily(
                "orchestrator_webhook_attempts_total", "Attempts to deliver webhooks that ended.", "outcome"
            )
        ).cells
        self._webhooks_pending = self._add(
            GaugeFamily("orchestrator_webhook_deliveries_pending", "Deliveries that have not ended.")
        ).only

    def _add(self, family: F) -> F:
        self.registry.register(family)
        return family
