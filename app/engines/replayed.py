"""How a replay went, and the recording that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.core import events as e
from app.engines.recording import RecordedError, RecordedStep, Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """How the run went this time. `steps` are in the order of their ends."""

    status: str
    outputs: Any
    failure: e.Failure | None
    steps: Mapping[str, RecordedStep]
    unanswered: tuple[str, ...]
    """Steps that asked for an answer that was not recorded."""


def error_of(failure: e.Failure) -> RecordedError:
    """A failure as a recording has it."""
    return RecordedError(error_class=failure.error_class, message=failure.message)


def failure_of(recorded: RecordedStep | None) -> e.Failure | None:
    """What a step met; never to be tried again, for the answer would be the same."""
    if recorded is None or recorded.error is None:
        return None
    return e.Failure(error_class=recorded.error.error_class, message=recorded.error.message)


def renewed(recording: Recording, replayed: Replayed, definition: Mapping[str, Any]) -> Recording:
    """The recording of the same answers as this replay went, of this definition."""
    failure = replayed.failure
    return Recording.model_validate(
        {
            "run": {
                **recording.run.model_dump(),
                "status": replayed.status,
                "outputs": replayed.outputs,
                "error": None if failure is None else error_of(failure).model_dump(),
            },
            "definition": definition,
            "inputs": recording.inputs,
            "steps": {path: step.model_dump() for path, step in replayed.steps.items()},
        }
    )
