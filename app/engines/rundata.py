"""The data of a run as its templates see it, scope by scope.

Holds outputs by step beside the control state; it decides nothing. A step sees the steps of its own block
and of all blocks around it, and what those bind: `item` and `index` in a map, `loop` in a loop. The
mappings it gives are the live ones: renders are synchronous or copy them, so nobody sees them change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.core.events import Failure
from app.core.plan import Loop, Map
from app.core.state import Scope, StepStatus
from app.dsl.compiled import CompiledStep, CompiledWorkflow
from app.engines.blocks import first_outputs
from app.engines.history import History

_GROUPS: Final = frozenset({"inputs", "steps", "outputs"})


@dataclass(frozen=True, slots=True)
class _Names:
    """The names of one scope; `steps` and `outputs` are in `names` too."""

    names: dict[str, Any]
    steps: dict[str, Any]
    outputs: dict[str, Any]


class RunData:
    """Names of one run: `inputs` (and `input`), `steps`, `outputs`, `run`, and what blocks bind."""

    def __init__(self, workflow: CompiledWorkflow, history: History) -> None:
        self.workflow = workflow
        self.history = history
        self._main = _Names({}, {}, {})
        self._main.names.update(
            inputs=history.inputs,
            input=history.inputs,
            steps=self._main.steps,
            outputs=self._main.outputs,
            run={"id": history.state.run_id, "workflow": workflow.name, "version": workflow.version},
        )
        self._scopes: dict[str, _Names] = {"": self._main}
        if workflow.item is not None:
            self._given(history.inputs)
        if history.steps:
            for node in workflow.plan.main.nodes:
                self._read(node.id, self._main)

    # --- reading --------------------------------------------------------------------------------------

    @property
    def names(self) -> Mapping[str, Any]:
        """What the outputs of the run see."""
        return self._main.names

    def step(self, path: str) -> CompiledStep:
        """The definition of a step instance."""
        return self.workflow.steps[self.history.state.steps[path].node.key]

    def names_of(self, path: str) -> Mapping[str, Any]:
        """What the templates of a step instance see."""
        return self._of(self.history.state.steps[path].scope).names

    def names_within(self, path: str, iteration: int) -> Mapping[str, Any]:
        """What a loop's condition sees after an iteration: its steps."""
        owner = self.history.state.steps[path]
        body = owner.node.control.body if isinstance(owner.node.control, Loop) else self.workflow.plan.main
        scope = Scope(prefix=f"{path}[{iteration}]", owner=path, block=body, open_steps=0, index=iteration)
        return self._make(scope).names

    def item_workflow(self, path: str) -> CompiledWorkflow | None:
        """What the step is the run of, if it is that of an item of a distributed map."""
        items = self.workflow.item_workflows
        return items.get(self.history.state.steps[path].node.key) if items else None

    def item_inputs(self, path: str) -> dict[str, Any]:
        """What the run of an item is given: the item, its position, and what its steps read around them.

        The same every time: whatever they read has ended before the map began.
        """
        workflow = self.item_workflow(path)
        if workflow is None or workflow.item is None:
            raise ValueError(f"step {path!r} is no item of a distributed map")
        names, item = self.names_of(path), workflow.item.item
        given: dict[str, Any] = {item: names[item], "index": names["index"]}
        for root, *members in workflow.item.reads:
            _give(given, names, root, members)
        return given

    # --- writing --------------------------------------------------------------------------------------

    def submitted(self, inputs: Mapping[str, Any]) -> None:
        """The inputs are known."""
        if self.workflow.item is None:
            self._main.names["inputs"] = self._main.names["input"] = inputs
        else:
            self._given(inputs)

    def _given(self, names: Mapping[str, Any]) -> None:
        """The run of an item sees what it was given as the steps of its map would."""
        main = self._main
        main.steps.update(names.get("steps", {}))
        main.outputs.update(names.get("outputs", {}))
        main.names.update({name: names[name] for name in names if name not in _GROUPS})
        main.names["inputs"] = main.names["input"] = names.get("inputs", {})

    def ended(self, path: str) -> None:
        """A step has outputs now, or a failure that its handlers may read."""
        scope = self.history.state.steps[path].scope
        known = self._scopes.get(scope.prefix)
        if known is None:
            return
        self._read(path, known)
        if not scope.open_steps and scope.prefix:
            del self._scopes[scope.prefix]

    # --- scopes ---------------------------------------------------------------------------------------

    def _of(self, scope: Scope) -> _Names:
        known = self._scopes.get(scope.prefix)
        if known is None:
            known = self._scopes[scope.prefix] = self._make(scope)
        return known

    def _make(self, scope: Scope) -> _Names:
        outer = self._main if scope.owner is None else self._of(self.history.state.steps[scope.owner].scope)
        steps, outputs = dict(outer.steps), dict(outer.outputs)
        names = {**outer.names, "steps": steps, "outputs": outputs}
        names.update(self._handling() if scope.owner is None else self._bound(scope, scope.owner))
        made = _Names(names, steps, outputs)
        for node in scope.block.nodes:
            self._read(scope.path_of(node.id), made)
        return made

    def _bound(self, scope: Scope, owner: str) -> dict[str, Any]:
        """What a block binds for its steps."""
        step = self.history.state.steps[owner]
        match step.node.control:
            case Map():
                items = (self.history.steps[owner].entered or {})["items"]
                return {self.step(owner).item_name: items[scope.index], "index": scope.index}
            case Loop(body=body):
                before = f"{owner}[{scope.index - 1}]"
                last = first_outputs(self.workflow, self.history, body, before) if scope.index else {}
                return {"loop": {"index": scope.index, "iteration": scope.index + 1, "last": last}}
            case _:
                return {}

    def _handling(self) -> dict[str, Any]:
        """What `on_failure` and `finally` see of how the run went."""
        state = self.history.state
        error = None
        if state.failure is not None:
            path, failure = state.failure
            error = {"path": path, "class": failure.error_class, "message": failure.message}
        return {"run": {**self._main.names["run"], "status": state.outcome, "error": error}}

    def _read(self, path: str, into: _Names) -> None:
        """Take over what a step brought, by the names of its kind and its author."""
        state = self.history.state.steps.get(path)
        if state is None:
            return
        history = self.history.steps.get(path)
        names = self.workflow.steps[state.node.key].names
        if history is not None and history.outputs is not None:
            into.steps[names.step] = names.under_steps(history.outputs)
            into.outputs.update(names.under_outputs(history.outputs))
        elif state.status is StepStatus.FAILED and state.failure is not None:
            into.steps[names.step] = {"error": _error(state.failure)}


def _give(into: dict[str, Any], names: Mapping[str, Any], name: str, members: Sequence[str]) -> None:
    """Copy the way to a value, and the value if there is one."""
    if name not in names:
        return
    value = names[name]
    if not members or not isinstance(value, Mapping):
        into[name] = value
    else:
        _give(into.setdefault(name, {}), value, members[0], members[1:])


def _error(failure: Failure) -> dict[str, str]:
    return {"class": failure.error_class, "message": failure.message}
