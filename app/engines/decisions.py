"""The core's questions about data: is a gate open, which case, how many items, what stands in for a failed
step, what did a block or the run bring.

Answers are pure functions of the run's data, so they are given at once where the templates render in
process, and in a task where they need a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

import orjson
from pydantic import ValidationError

from app.core import commands as c
from app.core import events as e
from app.core.plan import Child
from app.dsl.compiled import ConcurrencyRule
from app.engines.attempts import AttemptLimits, as_failure, encode_data
from app.engines.blocks import block_outputs, item_result
from app.engines.children import Children
from app.engines.entering import Beginning
from app.engines.facts import Fact
from app.engines.identity import RunIdentity
from app.engines.rundata import RunData
from app.ports.clock import Clock
from app.ports.errors import CallError, InputsInvalid, PermanentError, StoreError, TemplateFailed
from app.ports.problems import Problem
from app.templating.compiler import Compiled
from app.templating.renderer import Renderer
from app.templating.scope import OverBudget

Question = c.EvaluateCondition | c.EnterStep | c.CheckLoop | c.CollectBlock | c.RecoverStep | c.FinishRun
EvaluationError = CallError | TemplateFailed | ValidationError


class Decisions:
    """Answers for all runs of a process."""

    def __init__(self, renderer: Renderer, clock: Clock, limits: AttemptLimits, children: Children) -> None:
        self._renderer = renderer
        self._clock = clock
        self._limits = limits
        self._children = children

    def now(self, run: RunIdentity, data: RunData, question: Question) -> Fact | None:
        """The answer, or None if it takes a worker or the store."""
        template = _template(data, question)
        if _asks_the_store(data, question) or (template is not None and not template.inline):
            return None
        try:
            if template is None:
                value = _untemplated(data, question)
            else:
                value = self._renderer.render_within_budget(template, _names(data, question))
            return self._answer(run, data, question, value)
        except OverBudget:
            return None
        except (CallError, TemplateFailed, ValidationError) as error:
            return self._failed(question, error)

    async def later(self, run: RunIdentity, data: RunData, question: Question) -> Fact:
        """The answer, from a worker or the store if need be."""
        template = _template(data, question)
        try:
            if template is None:
                value = _untemplated(data, question)
            else:
                value = await self._renderer.render(template, _names(data, question))
            if isinstance(question, c.EnterStep) and _asks_the_store(data, question):
                value = await self._call(run, data, question.path, value)
            return self._answer(run, data, question, value)
        except (CallError, TemplateFailed, ValidationError) as error:
            return self._failed(question, error)

    async def concurrency_key(self, rule: ConcurrencyRule, inputs: Mapping[str, Any]) -> str:
        """What a run with these inputs shares its workflow's limit with. Raises `InputsInvalid`."""
        if rule.key is None:
            return ""
        try:
            value = await self._renderer.render(rule.key, {"inputs": inputs, "input": inputs})
        except TemplateFailed as error:
            detail = f"the workflow's concurrency key cannot be made of these inputs: {error}"
            raise InputsInvalid([Problem(pointer="", detail=detail)]) from error
        return value if isinstance(value, str) else orjson.dumps(value).decode()

    async def _call(self, run: RunIdentity, data: RunData, path: str, value: Any) -> Mapping[str, Any]:
        """Which definition a `workflow` step calls, and its inputs checked: from here on both are fixed."""
        try:
            return await self._children.resolve(run, data.step(path), value)
        except StoreError as error:
            raise PermanentError("internal", f"the workflow cannot be looked up: {error}") from error

    def _answer(self, run: RunIdentity, data: RunData, question: Question, value: Any) -> Fact:
        now = self._clock.now()
        if isinstance(question, c.FinishRun):
            return self._end(question, value, now)
        match question:
            case c.EvaluateCondition(path=path):
                return Fact(event=e.ConditionEvaluated(path=path, passed=bool(value), at=now))
            case c.CheckLoop(path=path, iteration=iteration):
                return Fact(event=e.LoopChecked(path=path, iteration=iteration, done=bool(value), at=now))
            case c.EnterStep(path=path):
                control = data.history.state.steps[path].node.control
                if (item := data.item_workflow(path)) is not None:
                    value = {
                        "workflow": item.name,
                        "version": item.version,
                        "definition": item.definition.hash,
                    }
                beginning = Beginning(run=run, step=data.step(path), path=path, at=now)
                return self._with_data(*beginning.event(control, value), path)
            case c.CollectBlock(path=path):
                return self._with_data(e.BlockCompleted(path=path, at=now), {"outputs": value}, path)
            case c.RecoverStep(path=path, failure=failure):
                recovered = data.step(path).names.recovered(value)
                event = e.StepRecovered(path=path, failure=failure, at=now)
                return self._with_data(event, {"outputs": recovered}, path)
            case _:
                assert_never(question)

    def _end(self, question: c.FinishRun, value: Any, now: float) -> Fact:
        match question:
            case c.FinishRun(outcome="completed"):
                return self._with_data(e.RunCompleted(at=now), {"outputs": value}, "outputs")
            case c.FinishRun(outcome="failed", path=path, failure=failure) if failure is not None:
                return Fact(event=e.RunFailed(path=path, failure=failure, at=now))
            case c.FinishRun(outcome="timed_out"):
                return Fact(event=e.RunTimedOut(at=now))
            case _:
                return Fact(event=e.RunCancelled(at=now))

    def _with_data(self, event: e.Event, data: Mapping[str, Any] | None, name: str) -> Fact:
        if data is None:
            return Fact(event=event)
        return Fact(event=event, data=data, encoded=encode_data(name, data, self._limits))

    def _failed(self, question: Question, error: EvaluationError) -> Fact:
        now = self._clock.now()
        failure = as_failure(error)
        match question:
            case c.EvaluateCondition(path=path):
                condition = e.Failure(error_class="condition", message=failure.message)
                return Fact(event=e.ConditionFailed(path=path, failure=condition, at=now))
            case c.EnterStep(path=path) | c.CheckLoop(path=path) | c.CollectBlock(path=path):
                return Fact(event=e.EvaluationFailed(path=path, failure=failure, at=now))
            case c.RecoverStep(path=path):
                return Fact(event=e.StepFailed(path=path, failure=failure, at=now))
            case c.FinishRun():
                return Fact(event=e.RunFailed(path=None, failure=failure, at=now))


def _asks_the_store(data: RunData, question: Question) -> bool:
    """Whether another workflow has to be looked up; what a distributed map does with an item is known."""
    return (
        isinstance(question, c.EnterStep)
        and isinstance(data.history.state.steps[question.path].node.control, Child)
        and data.item_workflow(question.path) is None
    )


def _template(data: RunData, question: Question) -> Compiled | None:
    match question:
        case c.EvaluateCondition(path=path):
            return data.step(path).condition
        case c.EnterStep(path=path):
            return data.step(path).config
        case c.CheckLoop(path=path):
            return data.step(path).until
        case c.RecoverStep(path=path):
            return data.step(path).on_error_value
        case c.FinishRun(outcome="completed"):
            return data.workflow.outputs
        case _:
            return None


def _names(data: RunData, question: Question) -> Mapping[str, Any]:
    """What the question's template sees."""
    match question:
        case c.FinishRun():
            return data.names
        case c.CheckLoop(path=path, iteration=iteration):
            return data.names_within(path, iteration)
        case _:
            return data.names_of(question.path)


def _untemplated(data: RunData, question: Question) -> Any:
    """What needs no template: a block's outputs, and those of a run whose document has none of its own."""
    match question:
        case c.CollectBlock(path=path):
            return block_outputs(data.workflow, data.history, path)
        case c.FinishRun() if data.workflow.item is not None:
            return {"result": item_result(data.workflow, data.history)}
        case c.FinishRun():
            # what its last steps brought, by their ids
            outputs: Mapping[str, Any] = data.names["outputs"]
            return {leaf: outputs[leaf] for leaf in data.workflow.leaves if leaf in outputs}
        case _:
            return None
