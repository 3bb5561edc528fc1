"""The service does what its OpenAPI document says, for whatever the document allows and forbids."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from tests.api.served import served

MEANING = ["2xx", "3xx", "403", "404", "409", "412", "422", "429", "503"]
"""A schema cannot say which documents, inputs, keys and entity tags make sense: some are refused."""
CURSORS = [*MEANING, "400"]
"""Nor which cursors were given out, and which preferences can be read."""


def config(url: str) -> SchemathesisConfig:
    """All checks, all phases, a fixed seed, few examples."""

    def meaning(operation: str, statuses: list[str]) -> dict[str, Any]:
        return {
            "include-operation-id": operation,
            "checks": {"positive_data_acceptance": {"expected-statuses": statuses}},
        }

    return SchemathesisConfig.from_dict(
        {
            "seed": 20260131,
            "base-url": url,
            "request-timeout": 10,
            "continue-on-failure": True,
            "checks": {"enabled": True},
            "generation": {"max-examples": 25, "database": "none"},
            "phases": {"stateful": {"max-steps": 6, "generation": {"max-examples": 8}}},
            "operations": [
                meaning("submit_run", CURSORS),
                meaning("run_workflow", CURSORS),
                meaning("register_workflow", MEANING),
                meaning("validate_workflow", MEANING),
                meaning("cancel_run", MEANING),
                meaning("delete_workflow", MEANING),
                meaning("list_runs", CURSORS),
                meaning("list_workflows", CURSORS),
                meaning("list_workflow_versions", CURSORS),
            ],
        }
    )


@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("default")  # what schemathesis and its clients warn of is theirs
def test_the_service_conforms_to_its_openapi_document() -> None:
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
