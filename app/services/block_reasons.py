"""Why a control step that was entered has not ended: what is under way within it, or what it waits for."""

from __future__ import annotations

from typing import Any

from app.core.plan import Approval, Branch, Child, Loop, Map
from app.core.state import ENDED, ControlState, StepState, StepStatus
from app.services.block_progress import counts_of
from app.services.ended_reasons import early_end
from app.services.principal import GRANTS, Permission
from app.services.reasons import MOST_NAMED, Because, See, Seen, listed, named
from app.services.timestamps import rfc3339_or_none

S = StepStatus


def why_block_open(seen: Seen, step: StepState) -> Because:
    """The answer for a control step that was entered and has not ended."""
    match step.status:
        case S.ENTERING:
            return Because(reason="entering", summary="What it begins with is being evaluated.")
        case S.OPEN:
            return _steps_within(seen, step)
        case S.WAITING:
            return _waiting(seen, step)
        case S.COLLECTING:
            summary = "The steps within it have ended; its outputs are being put together."
            return Because(reason="collecting", summary=summary, details=_extent(seen, step))
        case S.STOPPING:
            return _stopping(seen, step)
        case _:
            raise ValueError(f"the step {step.path!r} is {step.status}")


def _extent(seen: Seen, step: StepState) -> dict[str, Any]:
    """How far the blocks of a control step have come."""
    control = step.control or ControlState()
    times_out = seen.state.timers.get(("block", step.path))
    details: dict[str, Any] = {
        "since": rfc3339_or_none(step.first_started_at),
        "times_out_at": rfc3339_or_none(times_out),
    }
    match step.node.control:
        case Map(max_concurrency=limit):
            details["items"] = {"total": control.count, **counts_of(seen.history, step)}
            details["max_concurrency"] = limit
        case Loop(max_iterations=most):
            details["iterations"] = {"begun": control.count, "most": most}
        case Branch():
            details["taken"] = "default" if control.case is None else control.case
        case _:
            pass
    return details


def _steps_within(seen: Seen, step: StepState) -> Because:
    control = step.control or ControlState()
    if not control.open:
        summary = "An iteration has ended; whether there is another one is being evaluated."
        return Because(reason="checking_loop", summary=summary, details=_extent(seen, step))
    under_way = _under_way(seen, control)
    within = [other.path for other in under_way]
    count = len(control.open)
    what = {Map: f"{count} of its items are", Loop: f"Iteration {control.count - 1} is"}.get(
        type(step.node.control), "Steps within it are"
    )
    return Because(
        reason="steps_within",
        summary=f"{what} under way" + (f": {listed(within)}." if within else "."),
        details={**_extent(seen, step), "under_way": named(under_way)},
        causes=within,
    )


def _under_way(seen: Seen, control: ControlState) -> list[StepState]:
    """The first steps of open blocks that have not ended and wait for none of their block."""
    found: list[StepState] = []
    for scope in control.open.values():
        for node in scope.block.nodes:
            step = seen.state.steps[scope.path_of(node.id)]
            if step.status not in ENDED and step.status is not S.PENDING:
                found.append(step)
                if len(found) == MOST_NAMED:
                    return found
    return found


def _waiting(seen: Seen, step: StepState) -> Because:
    control = step.control or ControlState()
    due = rfc3339_or_none(control.due_at)
    match step.node.control:
        case Approval() as policy:
            return _asking(seen, step, control, policy)
        case Child():
            run_id = control.child or ""
            called = (seen.record(step).entered or {}).get("workflow")
            return Because(
                reason="child_run",
                summary=f"It waits for the end of run {run_id!r} of workflow {called!r}.",
                details={"run_id": run_id, "workflow": called},
                see={"child": See(kind="run", id=run_id)},
            )
        case _:
            return Because(reason="waiting_until", summary=f"It waits until {due}.", details={"until": due})


def _asking(seen: Seen, step: StepState, control: ControlState, policy: Approval) -> Because:
    approval = control.approval or ""
    asked = seen.record(step).entered or {}
    due = rfc3339_or_none(control.due_at)
    roles = [role for role, granted in GRANTS.items() if Permission.CONTROL_RUNS in granted]
    summary = f"It waits for an answer to approval {approval!r}"
    if due is not None:
        then = "the step fails" if policy.on_timeout == "fail" else f"silence means {policy.on_timeout!r}"
        summary += f" until {due}; after that {then}"
    return Because(
        reason="approval",
        summary=f"{summary}. Anyone with the role {' or '.join(map(repr, roles))} may answer.",
        details={
            "approval_id": approval,
            "message": asked.get("message"),
            "expires_at": due,
            "on_timeout": policy.on_timeout,
            "roles": roles,
        },
        see={"approval": See(kind="approval", id=approval)},
    )


def _stopping(seen: Seen, step: StepState) -> Because:
    control = step.control or ControlState()
    under_way = _under_way(seen, control)
    why = early_end(seen, step)
    details = {"under_way": named(under_way), "stopped_by": why.reason, **why.details}
    if control.child_open:
        details["child_run_id"] = control.child
    summary = f"What is under way within it is being aborted. {why.summary}"
    return Because(
        reason="stopping",
        summary=summary,
        details=details,
        causes=[*why.causes, *(other.path for other in under_way)],
    )
