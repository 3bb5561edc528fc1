"""What is different between two runs: what they were told to do, what they were given, and what came of it.

Steps are matched by path. Rendered prompts are not kept, only their hashes: the definition's templates
tell what was written, and the hash whether what was sent is the same. Pure, and bounded in cost and size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from app.core.state import StepState
from app.dsl.compiled import CompiledWorkflow
from app.engines.history import STEP_STATUS_NAMES, History, StepHistory
from app.engines.recovery import StoredRun
from app.ports.runs import RunRow
from app.services.json_diffs import Differ, Difference, same
from app.services.run_events import failure_data
from app.services.written_steps import own_keys, written_steps

MOST_STEPS: Final = 500
"""Steps that one answer tells of, in its definition and in its run each."""
_BLOCKS: Final = frozenset({"steps", "on_failure", "finally"})

Rendered = Literal["same", "different", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSide:
    """One of the two runs. Times are epoch seconds, `seconds` its duration once it has ended."""

    row: RunRow
    status: str
    error: Mapping[str, Any] | None
    seconds: float | None
    input_tokens: int | None
    output_tokens: int | None
    definition_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenDiff:
    """A step of the definitions."""

    step: str
    """Its key."""
    change: Literal["added", "removed", "changed"]
    keys: Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionDiff:
    """What is written differently. `workflow` is about the keys beside the steps."""

    same: bool
    workflow: Difference
    steps: Sequence[WrittenDiff]
    steps_omitted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSide:
    """A step in one of the runs."""

    status: str
    attempt: int
    seconds: float | None
    input_tokens: int | None
    output_tokens: int | None
    reused: bool
    """No call was made for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDiff:
    """A step in both runs; None where it is not there."""

    path: str
    a: StepSide | None
    b: StepSide | None
    rendered: Rendered
    """Whether what it was asked is the same: prompt, model and everything else, rendered."""
    outputs: Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDiff:
    """Two runs. `steps` has those of the workflow itself, and of those within others what differs."""

    a: RunSide
    b: RunSide
    definition: DefinitionDiff
    inputs: Difference
    outputs: Difference
    steps: Sequence[StepDiff]
    steps_same: int
    """Steps within others that are not listed, for they do not differ."""
    steps_omitted: int
    """Steps that differ and are too many to be listed."""

    @property
    def same(self) -> bool:
        """Whether definition, inputs, outputs and status are the same."""
        return (
            self.definition.same and self.inputs.same and self.outputs.same and self.a.status == self.b.status
        )


def diff_runs(a: tuple[RunRow, StoredRun], b: tuple[RunRow, StoredRun]) -> RunDiff:
    """Compare two runs. Costs a pass over both."""
    differ = Differ()
    (_, first), (_, second) = a, b
    definition = _definitions(differ, first.workflow, second.workflow)
    inputs = differ.compare(first.history.inputs, second.history.inputs)
    outputs = differ.compare(first.history.outputs, second.history.outputs)
    steps, alike, omitted = _steps(differ, first.history, second.history)
    return RunDiff(
        a=_side(*a),
        b=_side(*b),
        definition=definition,
        inputs=inputs,
        outputs=outputs,
        steps=steps,
        steps_same=alike,
        steps_omitted=omitted,
    )


def _side(row: RunRow, stored: StoredRun) -> RunSide:
    history = stored.history
    input_tokens, output_tokens = history.billed_tokens()
    failure, path = history.failure, history.failed_path
    return RunSide(
        row=row,
        status=history.status,
        error=None if failure is None else failure_data(failure, path),
        seconds=_seconds(history.started_at, history.ended_at),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        definition_hash=stored.workflow.definition.hash,
    )


def _seconds(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(end - start, 6)


# --- definitions --------------------------------------------------------------------------------------


def _definitions(differ: Differ, a: CompiledWorkflow, b: CompiledWorkflow) -> DefinitionDiff:
    if a.definition.hash == b.definition.hash:
        return DefinitionDiff(same=True, workflow=Difference(same=True), steps=(), steps_omitted=0)
    top = [{key: value for key, value in it.document.items() if key not in _BLOCKS} for it in (a, b)]
    before = {key: own_keys(step) for key, step in written_steps(a.document)}
    after = {key: own_keys(step) for key, step in written_steps(b.document)}
    steps: list[WrittenDiff] = []
    omitted = 0
    for key in dict.fromkeys([*before, *after]):
        if key in before and key in after and same(before[key], after[key]):
            continue
        if len(steps) == MOST_STEPS:
            omitted += 1
        else:
            steps.append(_written(differ, key, before.get(key), after.get(key)))
    return DefinitionDiff(same=False, workflow=differ.compare(*top), steps=steps, steps_omitted=omitted)


def _written(
    differ: Differ, key: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> WrittenDiff:
    if before is None or after is None:
        change: Literal["added", "removed"] = "added" if before is None else "removed"
        return WrittenDiff(step=key, change=change, keys=Difference(same=False))
    return WrittenDiff(step=key, change="changed", keys=differ.compare(before, after))


# --- steps --------------------------------------------------------------------------------------------


def _steps(differ: Differ, a: History, b: History) -> tuple[list[StepDiff], int, int]:
    """Those to tell of, how many are alike, and how many are too many."""
    told: list[StepDiff] = []
    alike = omitted = 0
    before, after = a.state.steps, b.state.steps
    for path in dict.fromkeys([*before, *after]):
        one, other = before.get(path), after.get(path)
        nested = all(step is None or step.scope.owner is not None for step in (one, other))
        if nested and _alike(a, b, one, other):
            alike += 1
        elif len(told) == MOST_STEPS:
            omitted += 1
        else:
            told.append(_step(differ, path, (one, _record(a, path)), (other, _record(b, path))))
    return told, alike, omitted


def _record(history: History, path: str) -> StepHistory:
    return history.steps.get(path) or StepHistory()


def _alike(a: History, b: History, one: StepState | None, other: StepState | None) -> bool:
    """Whether nothing but time and tries differs."""
    if one is None or other is None or one.status is not other.status:
        return False
    before, after = _record(a, one.path), _record(b, other.path)
    return _rendered(before, after) != "different" and same(before.outputs, after.outputs)


def _rendered(a: StepHistory, b: StepHistory) -> Rendered:
    if a.content_hash is None or b.content_hash is None:
        return "unknown"
    return "same" if a.content_hash == b.content_hash else "different"


def _step(
    differ: Differ,
    path: str,
    a: tuple[StepState | None, StepHistory],
    b: tuple[StepState | None, StepHistory],
) -> StepDiff:
    return StepDiff(
        path=path,
        a=_step_side(*a),
        b=_step_side(*b),
        rendered=_rendered(a[1], b[1]),
        outputs=differ.compare(a[1].outputs, b[1].outputs),
    )


def _step_side(step: StepState | None, record: StepHistory) -> StepSide | None:
    if step is None:
        return None
    billing = record.billing or {}
    return StepSide(
        status=STEP_STATUS_NAMES[step.status],
        attempt=step.attempt,
        seconds=_seconds(record.started_at, record.ended_at),
        input_tokens=billing.get("input_tokens"),
        output_tokens=billing.get("output_tokens"),
        reused=record.source is not None,
    )
