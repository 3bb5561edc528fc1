"""One step of a document to what the runner and the scheduler need of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app.core.plan import Node
from app.dsl.compiled import CompiledStep
from app.dsl.document import STEP_KEYS, DefaultsDocument
from app.dsl.drafts import Draft
from app.dsl.findings import Findings
from app.dsl.model_errors import report
from app.dsl.policies import PlanDefaults, policies_of
from app.dsl.references import NamedSteps, needed_steps, with_aliases
from app.steps.kind import StepConfig, StepKind
from app.templating.compiler import (
    Compiled,
    TemplateProblems,
    compile_condition,
    compile_expression,
    compile_value,
)


@dataclass(frozen=True, slots=True)
class _Config:
    """A kind's own keys: checked, and with their templates compiled."""

    model: StepConfig | None
    compiled: Compiled | None


class StepCompiler:
    """Compiles the steps of one document. What cannot be compiled is reported and gives None."""

    __slots__ = ("_defaults", "_findings", "_known", "_service", "dependencies")

    def __init__(
        self, known: NamedSteps, defaults: DefaultsDocument, service: PlanDefaults, findings: Findings
    ) -> None:
        self._known = known
        self._defaults = defaults
        self._service = service
        self._findings = findings
        self.dependencies: dict[str, tuple[str, ...]] = {}
        """Of every step seen so far, whether or not it could be compiled."""

    def compile(self, draft: Draft) -> tuple[Node, CompiledStep] | None:
        """A step's node and what it does."""
        needed = self._named_dependencies(draft)
        config = self._config(draft, draft.kind) if draft.kind is not None else _Config(None, None)
        condition = self._condition(draft)
        on_error = self._on_error(draft)
        inferred: set[str] = set()
        for compiled, place in (
            (config.compiled, ""),
            (condition, "/condition"),
            (on_error, "/on_error/value"),
        ):
            if compiled is not None:
                under = draft.pointer + place
                inferred |= needed_steps(compiled, self._known, self._findings, under=under, step=draft.id)
        dependencies = tuple(dict.fromkeys([*needed, *self._in_order(inferred)]))
        self.dependencies[draft.id] = dependencies
        return self._assemble(draft, config, condition, on_error, dependencies)

    def _assemble(
        self,
        draft: Draft,
        config: _Config,
        condition: Compiled | None,
        on_error: Compiled | None,
        dependencies: tuple[str, ...],
    ) -> tuple[Node, CompiledStep] | None:
        document, kind = draft.document, draft.kind
        if document is None or kind is None or config.model is None or config.compiled is None:
            return None
        policies = policies_of(
            document,
            self._defaults,
            self._service,
            retried_by_default=kind.retried_by_default,
            repeatable=kind.repeatable(config.model),
        )
        node = Node(
            id=draft.id,
            depends_on=dependencies,
            run_on=document.run_on,
            conditional=condition is not None,
            retry=policies.retry,
            timeout=policies.timeout,
            continues=on_error is not None,
            repeatable=policies.repeatable,
        )
        step = CompiledStep(
            id=draft.id,
            type=document.type,
            label=document.name,
            kind=kind,
            config=config.compiled,
            condition=condition,
            on_error_value=on_error,
            names=with_aliases(draft.names, self._known),
            timeout=policies.timeout,
        )
        return node, step

    def _named_dependencies(self, draft: Draft) -> list[str]:
        needed = []
        for where, step in draft.depends_on:
            if step == draft.id:
                self._findings.add(where, f"the step {step!r} depends on itself", "remove this dependency")
            elif step in self._known.steps:
                needed.append(step)
            else:
                hint = self._findings.spelling.hint(step, self._known.steps)
                self._findings.add(where, f"unknown step {step!r}", hint)
        return needed

    def _config(self, draft: Draft, kind: StepKind) -> _Config:
        under = draft.pointer
        normalised = dict(kind.normalise(draft.config, self._known))
        model = None
        try:
            model = kind.config_model.model_validate(normalised)
        except ValidationError as error:
            report(
                error,
                self._findings,
                value=normalised,
                under=under,
                model=kind.config_model,
                further_keys=STEP_KEYS,
            )
        if model is not None:
            self._findings.extend(kind.check(model), under=under)
        for key in kind.expressions & normalised.keys():
            normalised[key] = self._spelled_out(normalised[key], f"{under}/{key}")
        return _Config(model, self._templates(lambda: compile_value(normalised), under))

    def _spelled_out(self, source: Any, under: str) -> Any:
        """A bare expression as the template that yields its value; anything else as it is."""
        if not isinstance(source, str):
            return source
        compiled = self._templates(lambda: compile_expression(source), under)
        return compiled.parts[0].source if compiled is not None else None

    def _condition(self, draft: Draft) -> Compiled | None:
        source = draft.common.get("condition")
        if not isinstance(source, (str, bool)):
            return None
        return self._templates(lambda: compile_condition(source), f"{draft.pointer}/condition")

    def _on_error(self, draft: Draft) -> Compiled | None:
        asked = draft.common.get("on_error")
        if isinstance(asked, str):
            asked = {"action": asked}
        if not isinstance(asked, dict) or asked.get("action") != "continue":
            return None
        value = asked.get("value")
        return self._templates(lambda: compile_value(value), f"{draft.pointer}/on_error/value")

    def _templates(self, compile_: Callable[[], Compiled], under: str) -> Compiled | None:
        try:
            return compile_()
        except TemplateProblems as problems:
            self._findings.extend(problems.problems, under=under)
            return None

    def _in_order(self, steps: set[str]) -> list[str]:
        """In document order: sets have none of their own, and a plan must be the same every time."""
        return sorted(steps, key=self._known.position.__getitem__)
