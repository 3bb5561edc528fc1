"""The service does what its OpenAPI document says, for whatever the document allows and forbids."""

from __future__ import annotations

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from tests.api.served import served

MEANING = ["2xx", "3xx", "403", "404", "409", "412", "422", "429", "503"]
"""A schema cannot say which documents, inputs, keys and entity tags make sense: some are refused."""
CURSORS = [*MEANING, "400"]
"""Nor which cursors were given out, and which preferences can be read."""

REFUSALS: dict[str, list[str]] = {
    "submit_run": CURSORS,
    "run_workflow": CURSORS,
    "register_workflow": MEANING,
    "validate_workflow": MEANING,
    "plan_workflow": CURSORS,
    # Taken for the id of a run: that of a webhook for all runs, which is null.
    **dict.fromkeys(
        (
            "get_run",
            "diff_runs",
            "stream_run_events",
            "get_run_graph",
            "explain_step",
            "get_run_usage",
        ),
        MEANING,
    ),
    "cancel_run": MEANING,
    "pause_run": CURSORS,
    "resume_run": CURSORS,
    "retry_run": MEANING,
    "rerun_run": CURSORS,
    "list_approvals": CURSORS,
    "answer_approval": [*MEANING, "410"],
    "submit_batch": CURSORS,
    "cancel_runs": CURSORS,
    "retry_runs": CURSORS,
    "export_fixture": MEANING,
    "delete_workflow": MEANING,
    "list_runs": CURSORS,
    "list_workflows": CURSORS,
    "list_workflow_versions": CURSORS,
    "create_webhook": CURSORS,
    "update_webhook": CURSORS,
    "list_webhooks": CURSORS,
    "list_webhook_deliveries": CURSORS,
    "list_run_deliveries": CURSORS,
    "rotate_webhook_secret": MEANING,
    "test_webhook": MEANING,
    "redeliver_webhook": MEANING,
    "list_schedules": CURSORS,
    "create_schedule": CURSORS,
    "replace_schedule": CURSORS,
    "delete_schedule": MEANING,
    "pause_schedule": MEANING,
    "resume_schedule": MEANING,
    "trigger_schedule": MEANING,
}
"""Statuses that a request may get although the schema allows it."""


def config(url: str) -> SchemathesisConfig:
    """All checks, all phases, a fixed seed, few examples."""
    operations = [
        {
            "include-operation-id": operation,
            "checks": {"positive_data_acceptance": {"expected-statuses": statuses}},
        }
        for operation, statuses in REFUSALS.items()
    ]
    return SchemathesisConfig.from_dict(
        {
            "seed": 20260131,
            "base-url": url,
            "request-timeout": 10,
            "continue-on-failure": True,
            "checks": {"enabled": True},
            "generation": {"max-examples": 25, "database": "none"},
            "phases": {"stateful": {"max-steps": 6, "generation": {"max-examples": 8}}},
            "operations": operations,
        }
    )


@pytest.mark.timeout(420)  # a minute on a quiet machine, and its two cores have three workers
@pytest.mark.filterwarnings("default")  # what schemathesis and its clients warn of is theirs
def test_the_service_conforms_to_its_openapi_document() -> None:
    schemathesis.serializer.alias("application/x-ndjson", "text/plain")
    with served() as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config(url))
        failures: dict[str, str] = {}
        tested: set[str] = set()
        for event in from_schema(schema).execute():
            match event:
                case (
                    events.ScenarioFinished(recorder=recorder)
                    | events.FuzzScenarioFinished(recorder=recorder)
                ):
                    for case_id, checks in recorder.checks.items():
                        case = recorder.cases[case_id].value
                        tested.add(case.operation.label)
                        for check in checks:
                            if check.failure_info is not None:
                                failure = check.failure_info.failure
                                key = f"{case.operation.label} {check.name} {failure.title}"
                                failures.setdefault(
                                    key, f"{failure.message}\n{check.failure_info.code_sample}"
                                )
                case events.NonFatalError(value=error, label=label):
                    failures.setdefault(f"{label} {type(error).__name__}", str(error))
                case events.FatalError(exception=error):
                    raise error
                case _:
                    pass
    assert len(tested) == len(list(schema.get_all_operations()))
    report = "\n\n".join(f"{key}\n{message}" for key, message in failures.items())
    assert not failures, report
