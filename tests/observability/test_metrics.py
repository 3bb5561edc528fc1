"""The names and labels that dashboards rely on, and the bound on what users can add to them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app.observability.families import DISTINCT_VALUES, OTHER
from app.observability.metrics import Metrics
from app.observability.recorder import NoMetrics, Recorder

NAMES_AND_LABELS = {
    "orchestrator_workflow_executions_total": {"status", "workflow_name"},
    "orchestrator_workflow_duration_seconds_count": {"workflow_name"},
    "orchestrator_active_workflows": set(),
    "orchestrator_llm_requests_total": {"provider", "model", "status"},
    "orchestrator_llm_tokens_total": {"provider", "model", "type"},
    "orchestrator_llm_request_duration_seconds_count": {"provider", "model"},
    "orchestrator_vector_requests_total": {"database", "operation", "status"},
    "orchestrator_vector_request_duration_seconds_count": {"database", "operation"},
    "orchestrator_provider_breaker_state": {"provider", "model"},
    "orchestrator_provider_calls_waiting": {"provider"},
    "orchestrator_provider_refused_total": {"provider", "model", "reason"},
    "orchestrator_step_executions_total": {"step_type", "status"},
    "orchestrator_step_duration_seconds_count": {"step_type"},
    "orchestrator_errors_total": {"error_type", "component"},
    "orchestrator_queue_depth": set(),
    "orchestrator_steps_in_flight": set(),
    "orchestrator_journal_commit_seconds_count": set(),
    "orchestrator_journal_batch_events_count": set(),
    "orchestrator_event_loop_lag_seconds_count": set(),
    "orchestrator_webhook_attempts_total": {"outcome"},
    "orchestrator_webhook_deliveries_pending": set(),
}


def record_everything(recorder: Recorder) -> None:
    recorder.run_finished("rag", "completed", 0.2)
    recorder.active_runs(3)
    recorder.queue_depth(4)
    recorder.steps_in_flight(+1)
    recorder.step_finished("llm", "completed", 0.1)
    recorder.step_finished("llm", "skipped", None)
    recorder.llm_request("openai", "gpt-5", "success", 0.1)
    recorder.llm_tokens("openai", "gpt-5", "input", 12)
    recorder.vector_request("qdrant-main", "search", "success", 0.02)
    recorder.breaker_state("openai", "gpt-5", "open")
    recorder.calls_waiting("openai", +1)
    recorder.call_refused("openai", "gpt-5", "breaker")
    recorder.error("rate_limit", "provider")
    recorder.committed(17, 0.003)
    recorder.loop_lag(0.001)
    recorder.webhook_attempt("delivered")
    recorder.webhooks_pending(2)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.exposition()[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_workflow_name_past_the_cap_counts_as_other_and_adds_no_series() -> None:
    metrics = Metrics()
    for number in range(DISTINCT_VALUES + 100):
        metrics.run_finished(f"workflow-{number}", "completed", 0.1)
    counts = {
        dict(labels)["workflow_name"]: value
        for (name, labels), value in samples(metrics).items()
        if name == "orchestrator_workflow_executions_total"
    }
    assert len(counts) == DISTINCT_VALUES + 1
    assert counts[OTHER] == 100


def test_a_known_workflow_is_counted_by_name_after_the_cap_was_reached() -> None:
    metrics = Metrics()
    for number in range(DISTINCT_VALUES + 1):
        metrics.run_finished(f"workflow-{number}", "completed", 0.1)
    metrics.run_finished("workflow-7", "failed", 0.1)
    key = (("status", "failed"), ("workflow_name", "workflow-7"))
    assert samples(metrics)["orchestrator_workflow_executions_total", key] == 1


def test_hostile_label_values_leave_the_exposition_parseable() -> None:
    metrics = Metrics()
    name = 'a"b\\c\nd{e="f"} 1'
    metrics.run_finished(name, "completed", 0.1)
    key = (("status", "completed"), ("workflow_name", name))
    assert samples(metrics)["orchestrator_workflow_executions_total", key] == 1


def test_a_negative_token_count_is_ignored() -> None:
    metrics = Metrics()
    metrics.llm_tokens("openai", "gpt-5", "input", -1)
    assert not any(name == "orchestrator_llm_tokens_total" for name, _ in samples(metrics))


def test_every_metric_has_its_documented_name_and_labels() -> None:
    metrics = Metrics()
    record_everything(metrics)
    found = {name: {key for key, _ in labels} for name, labels in samples(metrics)}
    for name, labels in NAMES_AND_LABELS.items():
        assert found.get(name) == labels, name
    ours = {name for name in found if name.startswith("orchestrator_")}
    assert ours - set(NAMES_AND_LABELS) == {
        name.replace("_count", suffix)
        for name in NAMES_AND_LABELS
        if name.endswith("_count")
        for suffix in ("_bucket", "_sum")
    }


def test_a_skipped_step_is_counted_but_has_no_duration() -> None:
    metrics = Metrics()
    metrics.step_finished("llm", "skipped", None)
    found = samples(metrics)
    assert found["orchestrator_step_executions_total", (("status", "skipped"), ("step_type", "llm"))] == 1
    assert not any(name.startswith("orchestrator_step_duration_seconds") for name, _ in found)


def test_two_services_in_one_process_count_apart() -> None:
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    first.queue_depth(5)
    assert samples(second)["orchestrator_queue_depth", ()] == 0


def test_no_metrics_takes_the_same_calls() -> None:
    record_everything(NoMetrics())


def test_the_exposition_tells_the_process_memory_and_its_content_type() -> None:
    body, content_type = Metrics().exposition()
    assert content_type.startswith("text/plain; version=")
    assert b"process_resident_memory_bytes" in body
