"""`llm-orchestrator test`: a document held against recordings of its runs, without calling anybody.

A document passes if every step is asked what it was asked when it was recorded, the same steps run, and
the run comes to the same end. What differs is told as a unified diff a step. Needs no settings, no network
and no data directory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.engines.recording import RecordedStep, Recording, write_recording
from app.engines.replayed import Replayed, error_of, renewed
from app.engines.replaying import ReplayStuck, replay
from app.ports.errors import InputsInvalid
from app.security.redaction import Redactor
from app.services.redactions import cleaned
from app.steps.faults import first_fault
from app.steps.registry import STEP_KINDS
from app.templating.limits import RenderLimits
from app.templating.renderer import Renderer

CONTEXT_LINES: Final = 3
INDENT: Final = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as it was recorded. `diff` are lines of a unified diff, where there is one."""

    path: str | None
    detail: str
    diff: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one recording. `renewed` is what `--update` writes; None: it has to be recorded anew."""

    recording: Recording
    differences: Sequence[Difference]
    renewed: Recording | None


def read_recording(file: Path) -> Recording:
    """The recording in a file. Raises `ValueError` with what to do."""
    try:
        return Recording.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except ValidationError as error:
        fault = first_fault(error.errors(include_url=False), whole="the file")
        raise ValueError(
            f"{file}: no recording: {fault}; export one with POST /v1/runs/ID/fixture"
        ) from error


def save(file: Path, recording: Recording) -> None:
    """Write a recording. Raises `ValueError` with what to do."""
    try:
        file.write_bytes(write_recording(recording))
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error


async def examine(source: bytes, recordings: Sequence[Recording]) -> list[Verdict]:
    """Replay a document on each recording. Raises `DefinitionInvalid`."""
    workflow = Catalog(STEP_KINDS).compile(source)
    renderer = Renderer(RenderLimits())
    try:
        return [await _verdict(workflow, recording, renderer) for recording in recordings]
    finally:
        await renderer.close()


async def _verdict(workflow: CompiledWorkflow, recording: Recording, renderer: Renderer) -> Verdict:
    try:
        inputs = workflow.validate_inputs(recording.inputs)
        replayed = await replay(workflow, recording, inputs, renderer)
    except InputsInvalid as error:
        found = [
            Difference(
                path=None, detail=f"the recorded inputs do not fit: {one.pointer or '/'}: {one.detail}"
            )
            for one in error.problems
        ]
        return Verdict(recording=recording, differences=found, renewed=None)
    except ReplayStuck as error:
        return Verdict(
            recording=recording, differences=[Difference(path=None, detail=str(error))], renewed=None
        )
    made = _redacted(renewed(recording, replayed, dict(workflow.document)))
    return Verdict(
        recording=recording,
        differences=[*_differences(recording, made, replayed)],
        renewed=None if replayed.unanswered else made,
    )


def _redacted(recording: Recording) -> Recording:
    """As the export does: a recording holds nothing that looks like a secret."""
    redactor = Redactor()
    run = recording.run.model_copy(update={"outputs": cleaned(recording.run.outputs, redactor)})
    steps = {
        path: step.model_copy(update={"config": cleaned(step.config, redactor)})
        for path, step in recording.steps.items()
    }
    definition = cleaned(recording.definition, redactor)
    return recording.model_copy(update={"run": run, "steps": steps, "definition": definition})


def _differences(before: Recording, now: Recording, replayed: Replayed) -> Iterator[Difference]:
    for path, step in before.steps.items():
        if path in now.steps:
            yield from _of_step(path, step, now.steps[path])
        elif step.status != "cancelled":
            yield Difference(path=path, detail=f"ran when it was recorded ({step.type}) and does not run now")
    for path, step in now.steps.items():
        if path in replayed.unanswered:
            yield Difference(
                path=path, detail=f"asks for an answer ({step.type}) that was not recorded: record a new run"
            )
        elif path not in before.steps and step.status != "cancelled":
            yield Difference(path=path, detail=f"runs now ({step.type}) and did not when it was recorded")
    yield from _of_run(before, now, replayed)


def _of_step(path: str, before: RecordedStep, now: RecordedStep) -> Iterator[Difference]:
    if before.type != now.type:
        yield Difference(path=path, detail=f"was of type {before.type!r} and is of type {now.type!r}")
    elif before.config != now.config:
        diff = _diff(_lines(before.config), _lines(now.config))
        yield Difference(path=path, detail="is asked something else than when it was recorded", diff=diff)
    if before.status != now.status and "cancelled" not in {before.status, now.status}:
        why = f": {now.error.error_class}: {now.error.message}" if now.error is not None else ""
        yield Difference(path=path, detail=f"had {before.status} and has {now.status}{why}")


def _of_run(before: Recording, now: Recording, replayed: Replayed) -> Iterator[Difference]:
    if before.run.status != now.run.status:
        failure = None if replayed.failure is None else error_of(replayed.failure)
        why = "" if failure is None else f": {failure.error_class}: {failure.message}"
        yield Difference(path=None, detail=f"the run had {before.run.status} and has {now.run.status}{why}")
    elif before.run.outputs != now.run.outputs:
        diff = _diff(_lines(before.run.outputs), _lines(now.run.outputs))
        yield Difference(path=None, detail="the outputs of the run differ", diff=diff)


# --- what a person reads ------------------------------------------------------------------------------


def report(name: str, verdict: Verdict) -> Iterator[str]:
    """Lines about one recording."""
    count = len(verdict.differences)
    if not count:
        yield f"{name}: ok ({len(verdict.recording.steps)} steps)"
        return
    yield f"{name}: {count} {'difference' if count == 1 else 'differences'}"
    for one in verdict.differences:
        yield f"{INDENT}{one.detail}" if one.path is None else f"{INDENT}step {one.path!r} {one.detail}"
        yield from (f"{INDENT}{INDENT}{line}" for line in one.diff)


def _diff(before: Sequence[str], now: Sequence[str]) -> list[str]:
    return list(unified_diff(before, now, "recorded", "now", lineterm="", n=CONTEXT_LINES))


def _lines(value: Any, indent: str = "") -> list[str]:
    """A JSON value, one thing a line and texts as they are read: so a prompt differs by its lines."""
    if isinstance(value, str) and "\n" in value:
        return [f"{indent}|", *(f"{indent}{INDENT}{line}" for line in value.split("\n"))]
    members: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        members = [(f"{name}:", value[name]) for name in sorted(value)]
    elif isinstance(value, list):
        members = [("-", item) for item in value]
    if not members:
        return [f"{indent}{value if isinstance(value, str) else orjson.dumps(value).decode()}"]
    lines = []
    for name, item in members:
        first, *rest = _lines(item, indent + INDENT)
        if isinstance(item, Mapping | list) and item:
            lines += [f"{indent}{name}", first, *rest]
        else:
            lines += [f"{indent}{name} {first.strip() if rest else first[len(indent + INDENT) :]}", *rest]
    return lines
