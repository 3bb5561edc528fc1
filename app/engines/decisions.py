"""The core's questions about data: is a gate open, what stands in for a failed step, what did the run bring.

Answers are pure functions of the run's data, so they are given at once where the templates render in
process, and in a task where they need a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.core import commands as c
from app.core import events as e
from app.dsl.compiled import CompiledWorkflow
from app.engines.attempts import AttemptLimits, as_failure, encode_data
from app.engines.facts import Fact
from app.ports.clock import Clock
from app.ports.errors import CallError, TemplateFailed
from app.templating.compiler import Compiled
from app.templating.renderer import Renderer
from app.templating.scope import OverBudget

Question = c.EvaluateCondition | c.RecoverStep | c.FinishRun


class Decisions:
    """Answers for all runs of a process."""

    def __init__(self, renderer: Renderer, clock: Clock, limits: AttemptLimits) -> None:
        self._renderer = renderer
        self._clock = clock
        self._limits = limits

    def now(self, workflow: CompiledWorkflow, question: Question, names: Mapping[str, Any]) -> Fact | None:
        """The answer, or None if it needs a worker."""
        template = _template(workflow, question)
        if template is None:
            return self._answer(workflow, question, _untemplated(workflow, question, names))
        if not template.inline:
            return None
        try:
            value = self._renderer.render_within_budget(template, names)
        except OverBudget:
            return None
        except TemplateFailed as error:
            return self._failed(question, error)
        return self._answer(workflow, question, value)

    async def later(self, workflow: CompiledWorkflow, question: Question, names: Mapping[str, Any]) -> Fact:
        """The answer, from a worker if need be."""
        template = _template(workflow, question)
        if template is None:
            return self._answer(workflow, question, _untemplated(workflow, question, names))
        try:
            value = await self._renderer.render(template, names)
        except TemplateFailed as error:
            return self._failed(question, error)
        return self._answer(workflow, question, value)

    def _answer(self, workflow: CompiledWorkflow, question: Question, value: Any) -> Fact:
        now = self._clock.now()
        match question:
            case c.EvaluateCondition(path=path):
                return Fact(event=e.ConditionEvaluated(path=path, passed=bool(value), at=now))
            case c.RecoverStep(path=path, failure=failure):
                event = e.StepRecovered(path=path, failure=failure, at=now)
                return self._with_data(question, event, path, workflow.steps[path].names.recovered(value))
            case c.FinishRun(outcome="completed"):
                return self._with_data(question, e.RunCompleted(at=now), "outputs", value)
            case c.FinishRun(outcome="failed", path=path, failure=failure) if failure is not None:
                return Fact(event=e.RunFailed(path=path, failure=failure, at=now))
            case c.FinishRun(outcome="timed_out"):
                return Fact(event=e.RunTimedOut(at=now))
            case _:
                return Fact(event=e.RunCancelled(at=now))

    def _with_data(self, question: Question, event: e.Event, name: str, value: Any) -> Fact:
        data = {"outputs": value}
        try:
            return Fact(event=event, data=data, encoded=encode_data(name, data, self._limits))
        except CallError as error:
            return self._failed(question, error)

    def _failed(self, question: Question, error: TemplateFailed | CallError) -> Fact:
        now = self._clock.now()
        failure = as_failure(error)
        match question:
            case c.EvaluateCondition(path=path):
                condition = e.Failure(error_class="condition", message=failure.message)
                return Fact(event=e.ConditionFailed(path=path, failure=condition, at=now))
            case c.RecoverStep(path=path):
                return Fact(event=e.StepFailed(path=path, failure=failure, at=now))
            case c.FinishRun():
                return Fact(event=e.RunFailed(path=None, failure=failure, at=now))


def _template(workflow: CompiledWorkflow, question: Question) -> Compiled | None:
    match question:
        case c.EvaluateCondition(path=path):
            return workflow.steps[path].condition
        case c.RecoverStep(path=path):
            return workflow.steps[path].on_error_value
        case c.FinishRun(outcome=outcome):
            return workflow.outputs if outcome == "completed" else None


def _untemplated(workflow: CompiledWorkflow, question: Question, names: Mapping[str, Any]) -> Any:
    """Without `outputs` in the document a run brings what its last steps brought, by their ids."""
    if isinstance(question, c.FinishRun):
        outputs: Mapping[str, Any] = names["outputs"]
        return {leaf: outputs[leaf] for leaf in workflow.leaves if leaf in outputs}
    return None
