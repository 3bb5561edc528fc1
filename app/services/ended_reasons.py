"""Why a step ended as it did: completed, failed, skipped or cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.core.attempts import TIMEOUT_CLASS
from app.core.control import EXPIRED_CLASS
from app.core.plan import Approval, Branch, Child, Map
from app.core.state import ControlState, StepState, StepStatus
from app.services.block_progress import counts_of
from app.services.reasons import MOST_NAMED, Because, Reason, See, Seen, error_of, listed, named, with_reason
from app.services.timestamps import rfc3339_or_none
from app.steps.llm import LlmKind

_ANY_TEXT_HOLDS: Final = (
    " Its condition is a text, which holds unless it is empty, whatever it says; compare it with what it "
    "should say."
)
CONDITION_CLASS: Final = "condition"
"""The class of a failure whose condition could not be evaluated."""


def why_ended(seen: Seen, step: StepState) -> Because:
    """The answer for a step that has ended."""
    match step.status:
        case StepStatus.COMPLETED:
            return _completed(seen, step)
        case StepStatus.FAILED:
            return _failed(seen, step)
        case StepStatus.SKIPPED:
            return _skipped(seen, step)
        case _:
            return early_end(seen, step)


# --- completed ----------------------------------------------------------------------------------------


def _completed(seen: Seen, step: StepState) -> Because:
    record = seen.record(step)
    details: dict[str, Any] = {"finished_at": rfc3339_or_none(record.ended_at)}
    if record.attempts:
        details["attempts"] = step.attempt
    if step.recovered:
        details["error"] = error_of(step.failure, step.path)
        failure = step.failure.message if step.failure is not None else "an error"
        summary = f"It failed ({failure}), and its on_error value stands in for its outputs."
        return Because(reason="recovered", summary=summary, details=details)
    if record.source is not None:
        return _without_a_call(record.source, details)
    details |= _brought(seen, step)
    tries = f" with attempt {step.attempt}" if step.attempt > 1 else ""
    summary = f"It completed{tries}{_how(details)}."
    if step.node.conditional:
        details["condition"] = told = seen.condition(step)
        summary += _ANY_TEXT_HOLDS if _is_bare_text(told) else ""
    return Because(reason="completed", summary=summary, details=details)


def _is_bare_text(condition: Mapping[str, Any]) -> bool:
    """Whether a condition is nothing but one text, such as a model's answer."""
    operands, source = condition["operands"], str(condition["source"])
    alone = len(operands) == 1 and source.strip("{} ") == operands[0]["name"]
    return alone and isinstance(operands[0]["value"], str)


def _without_a_call(source: Mapping[str, Any], details: Mapping[str, Any]) -> Because:
    details = {**details, "saved": source.get("saved")}
    run_id = source.get("run_id")
    if run_id is None:
        return Because(
            reason="from_cache", summary="It completed without a call, from the cache.", details=details
        )
    return Because(
        reason="reused",
        summary=f"It completed without a call, with the outputs of run {run_id!r}, which was asked the same.",
        details={**details, "run_id": run_id},
        see={"source": See(kind="run", id=run_id)},
    )


def _brought(seen: Seen, step: StepState) -> dict[str, Any]:
    """What is worth knowing of how a step completed."""
    control = step.control or ControlState()
    outputs = seen.record(step).outputs or {}
    match step.node.control:
        case Branch():
            return {"taken": outputs.get("taken"), "selector": seen.selector(step)}
        case Map():
            return {"items": {"total": control.count, **counts_of(seen.history, step)}}
        case Approval():
            return {"action": outputs.get("action"), "by": outputs.get("by")}
        case Child():
            return {"run_id": control.child}
        case None if seen.compiled(step.node).type == LlmKind.name:
            billing = seen.record(step).billing or {}
            told = {name: outputs[name] for name in ("tried", "repairs") if outputs.get(name)}
            return (
                {**told, "answered": {key: billing.get(key) for key in ("provider", "model")}} if told else {}
            )
        case _:
            return {}


def _how(details: Mapping[str, Any]) -> str:
    """What it took to get an answer, where that was more than one question."""
    said = ""
    if repairs := details.get("repairs"):
        said = f" after {'one repair' if repairs == 1 else f'{repairs} repairs'} of its answer"
    if tried := details.get("tried"):
        who = ", ".join(f"{one['model']!r} of {one['provider']!r} ({one['error_class']})" for one in tried)
        said += f", answered by {details['answered']['model']!r} because these were not able to: {who}"
    return said


# --- failed -------------------------------------------------------------------------------------------


def _failed(seen: Seen, step: StepState) -> Because:
    failure = step.failure
    if failure is None:
        return Because(reason="failed", summary="It failed.")
    reason = _reason_of_failure(step)
    details: dict[str, Any] = {"error": error_of(failure, step.path), "attempts": step.attempt}
    causes: list[str] = []
    see = {}
    error = f"{failure.error_class!r}: {failure.message.rstrip('.')}"
    summary = f"It failed with {error}."
    match reason:
        case "failed_within" if step.cause is not None:
            causes = [step.cause[0]]
            details["within"] = step.cause[0]
        case "child_failed" if step.control is not None and step.control.child is not None:
            details["run_id"] = step.control.child
            see = {"child": See(kind="run", id=step.control.child)}
        case "condition_failed":
            details["condition"] = seen.condition(step)
        case "tries_used_up":
            most = step.node.retry.max_attempts
            summary = f"It failed {step.tries} of {most} times, the last time with {error}."
            details["tries"] = step.tries
    if isinstance(step.node.control, Map) and step.control is not None:
        details["items"] = {"total": step.control.count, **counts_of(seen.history, step)}
    return Because(reason=reason, summary=summary, details=details, causes=causes, see=see)


def _reason_of_failure(step: StepState) -> Reason:  # noqa: PLR0911  one answer a reason
    failure, retry = step.failure, step.node.retry
    if step.cause is not None:
        return "failed_within"
    if failure is None:
        return "failed"
    if step.control is not None and step.control.child is not None and failure.error_class != TIMEOUT_CLASS:
        return "child_failed"
    if failure.error_class == EXPIRED_CLASS:
        return "not_answered"
    if failure.error_class == CONDITION_CLASS and not step.attempt:
        return "condition_failed"
    if failure.temporary and step.tries >= retry.max_attempts > 1:
        return "tries_used_up"
    return "failed"


# --- skipped ------------------------------------------------------------------------------------------


def _skipped(seen: Seen, step: StepState) -> Because:
    upstream = seen.dependencies(step)
    match step.skip_reason:
        case "upstream_failed":
            blocking = [
                other
                for other in upstream
                if other.status is StepStatus.FAILED or other.skip_reason == "upstream_failed"
            ]
            paths = [other.path for other in blocking]
            return Because(
                reason="upstream_failed",
                summary=f"It was skipped for a failure before it, at or before {listed(paths)}.",
                details={"dependencies": named(blocking)},
                causes=paths[:MOST_NAMED],
            )
        case "upstream_skipped":
            paths = [other.path for other in upstream]
            return Because(
                reason="upstream_skipped",
                summary=f"It was skipped because all that it depends on was: {listed(paths)}.",
                details={"dependencies": named(upstream)},
                causes=paths[:MOST_NAMED],
            )
        case "run_on":
            return Because(
                reason="run_on",
                summary="It runs on a failure only (run_on: failure), and nothing it depends on failed.",
                details={"run_on": step.node.run_on, "dependencies": named(upstream)},
            )
        case _:
            told = seen.condition(step)
            summary = f"It was skipped because its condition does not hold: {told['source']}"
            return Because(reason="condition", summary=summary, details={"condition": told})


# --- cancelled ----------------------------------------------------------------------------------------


def early_end(seen: Seen, step: StepState) -> Because:
    """What ended a step, or is ending it, before its time."""
    owner = _timed_out(seen, step)
    if owner is not None:
        return Because(
            reason="block_timed_out",
            summary=f"It was ended with all of {owner.path!r}, which took longer than it may.",
            details={"owner": owner.path, "timeout_seconds": owner.node.timeout},
            causes=() if owner is step else (owner.path,),
        )
    state = seen.state
    if state.outcome == "cancelled":
        reason = seen.history.cancel_reason
        return Because(
            reason="run_cancelled",
            summary=with_reason("The run was cancelled", reason),
            details={"cancel_reason": reason},
        )
    if state.outcome == "timed_out":
        return Because(reason="run_timed_out", summary="The run took longer than it may.")
    return Because(
        reason="run_ended",
        summary="The run ended before it could.",
        details={"error": error_of(seen.history.failure, seen.history.failed_path or "")},
    )


def _timed_out(seen: Seen, step: StepState) -> StepState | None:
    """The outermost control step around a step, or itself, that ran out of time."""
    found, at = None, step
    while True:
        failure = at.failure
        own = failure is not None and at.node.control is not None and at.cause is None
        if failure is not None and own and failure.error_class == TIMEOUT_CLASS:
            found = at
        if at.scope.owner is None:
            return found
        at = seen.state.steps[at.scope.owner]
