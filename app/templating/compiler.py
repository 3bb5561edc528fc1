"""Compiles the templates and expressions of a document, before anything runs.

What a template refers to, which tier renders it and everything wrong with it are known from here on.
Strings without braces, keys of objects and all other values are constants. Data that a template yields
is never compiled: nothing is rendered twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.ports.errors import OrchestratorError
from app.ports.problems import Problem, pointer
from app.templating.conditions import as_template
from app.templating.findings import Finding, Refused
from app.templating.handlebars import find_handlebars
from app.templating.limits import MAX_TREE_DEPTH, MAX_TREE_TOKENS, TEMPLATE_TOKENS
from app.templating.names import Names, Reference
from app.templating.sandbox import Sandbox
from app.templating.source import measure
from app.templating.template import Loaded, Use, read

__all__ = [
    "Compiled",
    "Reference",
    "TemplateProblems",
    "compile_condition",
    "compile_expression",
    "compile_value",
]


_TOO_MANY: Final = Finding(
    "the templates of this value are too many or too long", "split the step into several"
)
_MAX_DETAIL: Final = 300


class TemplateProblems(OrchestratorError):
    """Templates cannot be compiled; `problems` lists every reason, with pointers into the value."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"the templates have {len(problems)} problem(s)")
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One template of a value, and where it stands in it."""

    source: str
    use: Use
    names: Names
    pointer: str
    loaded: Loaded


@dataclass(frozen=True, slots=True)
class _Slot:
    index: int


@dataclass(frozen=True, slots=True)
class _List:
    items: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Object:
    items: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """A value with its templates compiled; immutable, and independent of any run.

    `references` are those of all templates in it. `constant`: it holds no template, and rendering gives
    the value itself. `inline`: every template in it is provably linear, so that it may render in process,
    synchronously.
    """

    references: frozenset[Reference]
    constant: bool
    inline: bool
    parts: tuple[Part, ...]
    sandbox: Sandbox
    _plan: Any

    def assemble(self, values: Sequence[Any]) -> Any:
        """The whole value, given what each of `parts` rendered to. Constant pieces are not copied."""
        return _assemble(self._plan, values)


def _assemble(plan: Any, values: Sequence[Any]) -> Any:
    if type(plan) is _Slot:
        return values[plan.index]
    if type(plan) is _Object:
        return {key: _assemble(item, values) for key, item in plan.items}
    if type(plan) is _List:
        return [_assemble(item, values) for item in plan.items]
    return plan


class _Compilation:
    """Collects the templates and the problems of one value."""

    def __init__(self, names: Names) -> None:
        self.parts: list[Part] = []
        self.problems: list[Problem] = []
        self._names = names
        self._sandbox = Sandbox()
        self._tokens = 0

    def result(self, plan: Any) -> Compiled:
        if self.problems:
            raise TemplateProblems(self.problems)
        return Compiled(
            references=frozenset().union(*(part.loaded.references for part in self.parts)),
            constant=not self.parts,
            inline=all(part.loaded.inline for part in self.parts),
            parts=tuple(self.parts),
            sandbox=self._sandbox,
            _plan=plan,
        )

    def value(self, value: Any, at: str = "", depth: int = 0) -> Any:
        """The plan of a value; the value itself where nothing in it is a template."""
        if isinstance(value, str):
            return self.template(value, "field", at) if _has_braces(value) else value
        if not isinstance(value, (dict, list, tuple)):
            return value
        if depth > MAX_TREE_DEPTH:
            self._report(at, [Finding(f"the value is nested more than {MAX_TREE_DEPTH} levels deep")])
            return value
        before = len(self.parts) + len(self.problems)
        plan: _Object | _List
        if isinstance(value, dict):
            entries = value.items()
            plan = _Object(
                tuple((key, self.value(item, at + pointer(key), depth + 1)) for key, item in entries)
            )
        else:
            plan = _List(tuple(self.value(item, f"{at}/{i}", depth + 1) for i, item in enumerate(value)))
        return value if before == len(self.parts) + len(self.problems) else plan

    def template(self, source: str, use: Use, at: str = "") -> _Slot:
        """The place of a template's outcome; what is wrong with it is added to the problems."""
        if self._tokens > MAX_TREE_TOKENS:
            return _Slot(-1)
        try:
            found = find_handlebars(source)
            if found:
                raise Refused(found)  # noqa: TRY301  # one exit for all findings
            if use != "field":
                source = as_template(source)
            self._tokens += measure(self._sandbox, source) + TEMPLATE_TOKENS
            if self._tokens > MAX_TREE_TOKENS:
                raise Refused([_TOO_MANY])  # noqa: TRY301  # as above
            loaded = read(self._sandbox, source, use, self._names)
        except Refused as refused:
            self._report(at, refused.findings)
            return _Slot(-1)
        self.parts.append(Part(source, use, self._names, at, loaded))
        return _Slot(len(self.parts) - 1)

    def _report(self, at: str, findings: Sequence[Finding]) -> None:
        for finding in findings:
            line = f"line {finding.line} of the template: " if finding.line and finding.line > 1 else ""
            detail = line + finding.detail[:_MAX_DETAIL]
            self.problems.append(Problem(pointer=at, detail=detail, hint=finding.hint))


def compile_value(
    value: Any, *, secret_names_allowed: bool = False, extra_names: frozenset[str] = frozenset()
) -> Compiled:
    """Compile every string of a JSON value that has template braces in it.

    A string that is exactly one `{{ expression }}` (a line end may follow) yields the native value, any
    other one text. `extra_names` are root names beside the usual ones. Raises `TemplateProblems`.
    """
    compilation = _Compilation(Names(extra_names, secret_names_allowed))
    return compilation.result(compilation.value(value))


def compile_expression(source: Any, *, extra_names: frozenset[str] = frozenset()) -> Compiled:
    """Compile an expression, bare or in braces, that yields a native value.

    Values that are not strings are taken as they are, with the templates in them. Raises
    `TemplateProblems`.
    """
    compilation = _Compilation(Names(extra_names))
    if isinstance(source, str):
        return compilation.result(compilation.template(source, "expression"))
    return compilation.result(compilation.value(source))


def compile_condition(source: Any, *, extra_names: frozenset[str] = frozenset()) -> Compiled:
    """Compile a condition of either dialect; it renders to a bool, by truthiness.

    Accepts a string, a bool, a number or None. Raises `TemplateProblems`.
    """
    compilation = _Compilation(Names(extra_names))
    if isinstance(source, str):
        return compilation.result(compilation.template(source, "condition"))
    if source is not None and not isinstance(source, (bool, int, float)):
        hint = "write an expression, such as inputs.enable == true"
        raise TemplateProblems([Problem(pointer="", detail="a condition is text, true or false", hint=hint)])
    return compilation.result(bool(source))


def _has_braces(value: str) -> bool:
    return "{{" in value or "{%" in value or "{#" in value
