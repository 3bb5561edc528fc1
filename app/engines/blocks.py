"""What control steps bring: outputs made of those of the steps within them."""

from __future__ import annotations

from typing import Any

from app.core.plan import Block, Branch, Control, Loop, Map, Parallel
from app.core.state import StepStatus
from app.dsl.compiled import CompiledWorkflow
from app.engines.history import History

DEFAULT_CASE = "default"


def first_outputs(workflow: CompiledWorkflow, history: History, block: Block, prefix: str) -> dict[str, Any]:
    """The first outputs of a block's completed steps, by id."""
    found = {}
    for node in block.nodes:
        path = f"{prefix}.{node.id}"
        step = history.state.steps.get(path)
        if step is not None and step.status is StepStatus.COMPLETED:
            outputs = history.steps[path].outputs or {}
            found[node.id] = workflow.steps[node.key].names.first(outputs)
    return found


def block_outputs(workflow: CompiledWorkflow, history: History, path: str) -> dict[str, Any]:
    """The outputs of a control step whose blocks have ended well, by the kind's own names.

    Costs a pass over the steps within it. A branch and a parallel bring first outputs by step; a map
    brings `results` in item order and `errors`; a loop its `last` iteration and how many there were.
    """
    step = history.state.steps[path]
    control = step.control
    match step.node.control:
        case Branch(cases=cases, default=default):
            case = control.case if control is not None else None
            block = default if case is None else cases[case]
            taken = DEFAULT_CASE if case is None and default is not None else case
            brought = {} if block is None else first_outputs(workflow, history, block, path)
            return {"taken": taken, **brought}
        case Parallel(body=body):
            return first_outputs(workflow, history, body, path)
        case Map() as policy:
            return _mapped(workflow, history, path, policy)
        case Loop(body=body):
            count = control.count if control is not None else 0
            return {
                "last": first_outputs(workflow, history, body, f"{path}[{count - 1}]"),
                "iterations": count,
            }
        case _:
            return {}


def item_result(workflow: CompiledWorkflow, history: History) -> Any:
    """What the run of an item of a distributed map comes to: the same as the item would within its map."""
    return _result(workflow, history, workflow.plan.main, "")


def place_of_failure(history: History, path: str) -> str:
    """The path of a step that failed; for the run of an item, that of the step within it."""
    record = history.steps.get(path)
    if record is None or record.within is None:
        return path
    return history.state.steps[path].scope.path_of(record.within)


def _mapped(workflow: CompiledWorkflow, history: History, path: str, policy: Map) -> dict[str, Any]:
    step = history.state.steps[path]
    if step.control is None:
        return {"results": [], "errors": []}
    results = []
    for index in range(step.control.count):
        if index not in step.control.failed:
            results.append(_result_of_item(workflow, history, policy.body, f"{path}[{index}]"))
        elif policy.on_item_error == "continue":
            results.append(None)
    errors = [
        {
            "index": index,
            "path": place_of_failure(history, where),
            "class": failure.error_class,
            "message": failure.message,
        }
        for index, (where, failure) in sorted(step.control.failed.items())
    ]
    return {"results": results, "errors": errors}


def _result_of_item(workflow: CompiledWorkflow, history: History, block: Block, prefix: str) -> Any:
    if block.nodes[0].key in workflow.item_workflows:
        return (history.steps[f"{prefix}.{block.nodes[0].id}"].outputs or {}).get("result")
    return _result(workflow, history, block, prefix)


def _result(workflow: CompiledWorkflow, history: History, block: Block, prefix: str) -> Any:
    """What a block comes to: the first output of its last step, or those of its last steps by id.

    A branch stands for the case that ran, so that `route` as the last step brings what was done, not which
    way was taken.
    """
    leaves = [node for node in block.nodes if not block.dependents[node.id]]
    found = {}
    for node in leaves:
        path = f"{prefix}.{node.id}" if prefix else node.id
        record = history.steps.get(path)
        if record is not None and record.outputs is not None:
            first = workflow.steps[node.key].names.first(record.outputs)
            found[node.id] = _of_case(workflow, history, path, node.control, first)
    return found.get(leaves[0].id) if len(leaves) == 1 else found


def _of_case(
    workflow: CompiledWorkflow, history: History, path: str, control: Control | None, first: Any
) -> Any:
    step = history.state.steps[path]
    if not isinstance(control, Branch) or step.control is None or step.recovered:
        return first
    case = step.control.case
    block = control.default if case is None else control.cases[case]
    return None if block is None else _result(workflow, history, block, path)
