"""Why a step that its definition has is not there yet, or never will be: its block was not opened."""

from __future__ import annotations

from app.core.plan import Branch, Loop, Map
from app.core.state import ENDED, ControlState, RunPhase, StepState, StepStatus
from app.services.block_progress import was_entered
from app.services.open_reasons import run_pending
from app.services.reasons import MOST_NAMED, Because, Seen, named, status_of
from app.services.step_places import Place


def status_unopened(seen: Seen, place: Place) -> str:
    """`pending` while it may still come to be; then `skipped`, or `cancelled` with what is around it."""
    around = place.around
    if around is None:
        return "skipped" if seen.state.terminal or _passed_over(seen, place) else "pending"
    if around.status in ENDED:
        return "cancelled" if around.status is StepStatus.CANCELLED else "skipped"
    return "skipped" if _wrong_case(seen, place, around) else "pending"


def why_unopened(seen: Seen, place: Place) -> Because:
    """The answer for a step that is not there."""
    around = place.around
    if around is None:
        return _of_a_stage(seen, place)
    control = around.control
    if control is None or not was_entered(seen.history, around):
        return _not_begun(around)
    match around.node.control:
        case Branch() as branch:
            return _of_a_branch(seen, place, around, branch)
        case Map() as policy:
            return _of_a_map(seen, place, around, control, policy)
        case Loop() as loop:
            return _of_a_loop(place, around, control, loop)
        case _:
            return _not_begun(around)


def _not_begun(around: StepState) -> Because:
    ended = around.status in ENDED
    what = f"was {status_of(around)}" if ended else "has not begun"
    if around.status is StepStatus.COMPLETED:
        what = "went on with its on_error value"
    return Because(
        reason="block_not_begun",
        summary=f"It is within {around.path!r}, which {what}.",
        details={"within": around.path, "status": status_of(around)},
        causes=(around.path,),
    )


def _wrong_case(seen: Seen, place: Place, around: StepState) -> bool:
    chosen = isinstance(around.node.control, Branch) and was_entered(seen.history, around)
    return chosen and _case(around) not in place.cases


def _case(around: StepState) -> str | None:
    return None if around.control is None else around.control.case


def _of_a_branch(seen: Seen, place: Place, around: StepState, branch: Branch) -> Because:
    if not _wrong_case(seen, place, around):
        return _not_begun(around)
    case = _case(around)
    nothing = case is None and branch.default is None
    taken = None if nothing else case if case is not None else "default"
    own = ["default" if one is None else one for one in place.cases]
    what = "chose no case" if nothing else f"took the case {taken!r}"
    return Because(
        reason="other_case_taken",
        summary=f"The branch {around.path!r} {what}; this step belongs to {' or '.join(map(repr, own))}.",
        details={"taken": taken, "cases": own, "selector": seen.selector(around)},
        causes=(around.path,),
    )


def _of_a_map(seen: Seen, place: Place, around: StepState, control: ControlState, policy: Map) -> Because:
    index = place.inner_index or 0
    if index < control.begun:
        return _not_begun(around)
    failed = sorted(control.failed)[:MOST_NAMED]
    under_way = sorted(control.open)[:MOST_NAMED]
    causes = [around.path]
    summary = f"Item {index} of {around.path!r} has not begun: {control.begun} of {control.count} were begun"
    summary += f", and at most {policy.max_concurrency} are under way at once."
    if failed and policy.on_item_error == "fail":
        summary = f"Item {index} of {around.path!r} was not begun: item {failed[0]} failed before."
        causes = [control.failed[failed[0]][0], around.path]
    elif around.status in ENDED or around.status is StepStatus.STOPPING:
        summary = f"Item {index} of {around.path!r} was not begun before that ended."
    return Because(
        reason="item_not_begun",
        summary=summary,
        details={
            "item": index,
            "items": control.count,
            "begun": control.begun,
            "max_concurrency": policy.max_concurrency,
            "under_way": [f"{around.path}[{one}]" for one in under_way],
            "failed": [f"{around.path}[{one}]" for one in failed],
        },
        causes=causes,
    )


def _of_a_loop(place: Place, around: StepState, control: ControlState, loop: Loop) -> Because:
    index = place.inner_index or 0
    if index < control.count:
        return _not_begun(around)
    details = {"iteration": index, "begun": control.count, "most": loop.max_iterations}
    if around.status in ENDED:
        needed = f"{control.count} of at most {loop.max_iterations} iterations"
        return Because(
            reason="iteration_not_needed",
            summary=f"The loop {around.path!r} needed {needed}.",
            details=details,
            causes=(around.path,),
        )
    summary = f"Iteration {index} of {around.path!r} has not begun; {control.count} were begun so far."
    return Because(reason="iteration_not_begun", summary=summary, details=details, causes=(around.path,))


# --- on_failure and finally ---------------------------------------------------------------------------


def _passed_over(seen: Seen, place: Place) -> bool:
    """`finally` has begun, and `on_failure` had not."""
    return seen.state.stage == "finally" and place.stage == "on_failure"


def _of_a_stage(seen: Seen, place: Place) -> Because:
    state = seen.state
    if state.phase in (None, RunPhase.SUBMITTED):
        return run_pending(seen)
    details = {"stage": place.stage, "run_stage": state.stage, "run_status": seen.history.status}
    if state.terminal or _passed_over(seen, place):
        what = "the run did not fail" if place.stage == "on_failure" else "the run ended before"
        return Because(
            reason="stage_not_reached", summary=f"{place.stage!r} did not run: {what}.", details=details
        )
    open_steps = [
        step for step in state.steps.values() if step.scope is state.root and step.status not in ENDED
    ]
    if place.stage == "on_failure":
        summary = "'on_failure' runs if the steps of the workflow fail; they have not ended."
    else:
        summary = "'finally' runs when the other steps of the run have ended."
    return Because(
        reason="stage_not_reached",
        summary=summary,
        details={**details, "waits_for": named(open_steps)},
        causes=[step.path for step in open_steps[:MOST_NAMED]],
    )
