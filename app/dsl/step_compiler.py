"""One step of a document to what the runner and the scheduler need of it, but for the steps within it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from app.dsl.compiled import CompiledCache
from app.dsl.document import ATTEMPT_KEYS, STEP_KEYS
from app.dsl.drafts import BodyDraft, Draft
from app.dsl.findings import Findings
from app.dsl.inputs import compile_schema
from app.dsl.model_errors import report
from app.dsl.names import NamedSteps
from app.dsl.references import Need, check_dependency, needed_steps
from app.steps.control import ControlKind
from app.steps.item_run import ITEM_RUN
from app.steps.kind import StepConfig, StepKind
from app.templating.compiler import (
    Compiled,
    TemplateProblems,
    compile_condition,
    compile_expression,
    compile_value,
)

ITEM_NAME: Final = "as"
DISTRIBUTE: Final = "distribute"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParts:
    """What one step is made of. What is None is absent, or was reported."""

    draft: Draft
    model: StepConfig | None
    config: Compiled | None
    condition: Compiled | None
    on_error: Compiled | None
    cache: CompiledCache | None
    named: tuple[str, ...]
    """Steps of the same block that `depends_on` names."""
    needed: frozenset[Need]
    """Steps that its templates read."""


class StepCompiler:
    """Compiles the steps of one document. What cannot be compiled is reported and gives None."""

    __slots__ = ("_findings",)

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def compile(self, draft: Draft, known: NamedSteps, *, whole: bool = False) -> StepParts:
        """A step by itself. `whole`: it may read all steps around its block at once."""
        kind = draft.kind or draft.control
        model, config = self._config(draft, kind, known) if kind is not None else (None, None)
        condition = self._condition(draft, known)
        on_error = self._on_error(draft, known)
        cache = self._cache(draft, known)
        needed: set[Need] = set()
        for compiled, place in (
            (config, ""),
            (condition, "/condition"),
            (on_error, "/on_error/value"),
            (cache.key if cache is not None else None, "/cache/key"),
        ):
            if compiled is not None:
                under = draft.pointer + place
                needed |= needed_steps(
                    compiled, known, self._findings, under=under, step=draft.id, whole=whole
                )
        return StepParts(
            draft=draft,
            model=model,
            config=config,
            condition=condition,
            on_error=on_error,
            cache=cache,
            named=self._named(draft, known),
            needed=frozenset(needed),
        )

    def until(self, draft: Draft, inside: NamedSteps) -> tuple[Compiled | None, set[Need]]:
        """A loop's condition, which is evaluated among the steps within it, after them."""
        source = draft.blocks.get("until")
        under = f"{draft.pointer}/until"
        if not isinstance(source, (str, bool)):
            return None, set()
        compiled = self._templates(lambda: compile_condition(source, extra_names=_roots(inside)), under)
        if compiled is None:
            return None, set()
        return compiled, needed_steps(compiled, inside, self._findings, under=under)

    def check_item_name(self, draft: Draft, inside: NamedSteps) -> None:
        """An item must not be called like a step: readers would take one for the other."""
        name = draft.config.get(ITEM_NAME)
        if isinstance(name, str) and name in inside.steps:
            where = f"{draft.pointer}/{ITEM_NAME}"
            self._findings.add(where, f"a step is called {name!r} as well", "give the items another name")

    def check_item_run(self, draft: Draft, body: BodyDraft) -> None:
        """In a run the path of a distributed map's step must not be that of the run of an item."""
        step = body.drafts.get(ITEM_RUN)
        if draft.config.get(DISTRIBUTE) is True and step is not None:
            detail = f"a step right within a distributed map cannot be called {ITEM_RUN!r}"
            hint = "this is how the run of an item is called; choose another id"
            self._findings.add(f"{step.pointer}/id", detail, hint)

    def _named(self, draft: Draft, known: NamedSteps) -> tuple[str, ...]:
        return tuple(
            step
            for where, step in draft.depends_on
            if check_dependency(step, known, self._findings, under=where, step=draft.id)
        )

    def _config(
        self, draft: Draft, kind: StepKind | ControlKind, known: NamedSteps
    ) -> tuple[StepConfig | None, Compiled | None]:
        under = draft.pointer
        normalised = dict(kind.normalise(draft.config, known))
        model = None
        further = STEP_KEYS
        if draft.control is not None:
            further = (further - ATTEMPT_KEYS) | draft.control.blocks_model.model_fields.keys()
        try:
            model = kind.config_model.model_validate(normalised)
        except ValidationError as error:
            report(
                error,
                self._findings,
                value=normalised,
                under=under,
                model=kind.config_model,
                further_keys=further,
            )
        if model is not None:
            self._findings.extend(kind.check(model), under=under)
            if draft.control is not None:
                self._findings.extend(draft.control.check_common(model, draft.common), under=under)
            self._check_schemas(draft)
        roots = _roots(known)
        for key in kind.expressions & normalised.keys():
            normalised[key] = self._spelled_out(normalised[key], f"{under}/{key}", roots)
        return model, self._templates(lambda: compile_value(normalised, extra_names=roots), under)

    def _check_schemas(self, draft: Draft) -> None:
        for key in draft.control.schemas if draft.control is not None else ():
            schema = draft.config.get(key)
            if isinstance(schema, dict):
                compile_schema(schema, self._findings, under=f"{draft.pointer}/{key}")

    def _spelled_out(self, source: Any, under: str, roots: frozenset[str]) -> Any:
        """A bare expression as the template that yields its value; anything else as it is."""
        if not isinstance(source, str):
            return source
        compiled = self._templates(lambda: compile_expression(source, extra_names=roots), under)
        return compiled.parts[0].source if compiled is not None else None

    def _condition(self, draft: Draft, known: NamedSteps) -> Compiled | None:
        source = draft.common.get("condition")
        if not isinstance(source, (str, bool)):
            return None
        return self._templates(
            lambda: compile_condition(source, extra_names=_roots(known)), f"{draft.pointer}/condition"
        )

    def _on_error(self, draft: Draft, known: NamedSteps) -> Compiled | None:
        asked = draft.common.get("on_error")
        if isinstance(asked, str):
            asked = {"action": asked}
        if not isinstance(asked, dict) or asked.get("action") != "continue":
            return None
        value = asked.get("value")
        return self._templates(
            lambda: compile_value(value, extra_names=_roots(known)), f"{draft.pointer}/on_error/value"
        )

    def _cache(self, draft: Draft, known: NamedSteps) -> CompiledCache | None:
        asked = draft.document.cache if draft.document is not None else None
        if asked is None:
            return None
        key = None
        if asked.key is not None:
            source, under = asked.key, f"{draft.pointer}/cache/key"
            key = self._templates(lambda: compile_value(source, extra_names=_roots(known)), under)
        return CompiledCache(ttl_seconds=asked.ttl_seconds, key=key)

    def _templates(self, compile_: Callable[[], Compiled], under: str) -> Compiled | None:
        try:
            return compile_()
        except TemplateProblems as problems:
            self._findings.extend(problems.problems, under=under)
            return None


def _roots(known: NamedSteps) -> frozenset[str]:
    names: Collection[str] = known.bound
    return frozenset(names)
