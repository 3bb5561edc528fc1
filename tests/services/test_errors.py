"""Every refusal owns its status and its code, and errors of the inside become refusals in one place."""

from __future__ import annotations

import pytest

from app.engines.engine import CancelPending, Draining, HandedOver, Overloaded, RunEnded
from app.engines.recovery import UnreadableRun
from app.ports.errors import (
    DefinitionInvalid,
    Fenced,
    InputsInvalid,
    OrchestratorError,
    StoreError,
    StoreUnavailable,
)
from app.ports.problems import Problem
from app.services.definitions import UnreadableDefinition
from app.services.errors import ServiceError, translate

PROBLEM = Problem(pointer="/steps/0", detail="unknown step", line=3, column=5)


def refusals(kind: type[ServiceError] = ServiceError) -> list[type[ServiceError]]:
    return [kind, *(found for sub in kind.__subclasses__() for found in refusals(sub))]


@pytest.mark.parametrize("error", [Fenced("lost"), StoreError("the schema is newer"), OrchestratorError("x")])
def test_a_fault_of_the_service_is_no_refusal(error: OrchestratorError) -> None:
    assert translate(error) is None


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (DefinitionInvalid([PROBLEM]), 422, "definition_invalid"),
        (InputsInvalid([PROBLEM, PROBLEM]), 422, "inputs_invalid"),
        (RunEnded("it has ended"), 409, "run_not_active"),
        (Overloaded("full", retry_after=7), 429, "too_many_runs"),
        (Draining("going"), 503, "draining"),
        (HandedOver("another one goes on"), 503, "draining"),
        (CancelPending("it takes effect when the store does"), 503, "cancel_pending"),
        (StoreUnavailable("/var/lib/x is full"), 503, "storage_unavailable"),
        (UnreadableRun("run 'r1': /var/lib/x"), 500, "run_unreadable"),
        (UnreadableDefinition("/var/lib/x"), 500, "definition_unreadable"),
    ],
)
def test_an_error_of_the_inside_becomes_a_refusal(error: OrchestratorError, status: int, code: str) -> None:
    refusal = translate(error)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (status, code)
    if status in (429, 503):
        assert refusal.retry_after
    assert "/var/lib" not in str(refusal)


@pytest.mark.parametrize("kind", [CancelPending, HandedOver])
def test_what_the_engine_says_of_a_cancellation_is_what_its_caller_reads(
    kind: type[OrchestratorError],
) -> None:
    assert str(translate(kind("run 'r1' is cancelled when the store is back"))) == (
        "run 'r1' is cancelled when the store is back"
    )


def test_codes_are_unique_and_statuses_are_refusals() -> None:
    codes = [kind.code for kind in refusals()[1:]]
    assert len(codes) == len(set(codes))
    assert all(400 <= kind.status < 600 and kind.title for kind in refusals()[1:])
