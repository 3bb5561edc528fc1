"""What every step kind provides. One file a kind; `app.steps.registry` lists them.

The life of a step's configuration: the author's keys, with templates in them, are checked when the
document is accepted (`config_model`, where any value may still be a template), rendered when the step
starts, checked again with the values in place, and handed to `execute`. Data that came out of a
template is never rendered a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Protocol, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, SchemaValidator

from app.ports.problems import Problem
from app.ports.steps import StepContext, StepOutcome
from app.steps.bounds import CallBound

RENDERED = {"rendered": True}
"""Validation context in which templates are values already, so that text with braces is only text."""


def is_template(value: object) -> bool:
    """Whether a value of the document is to be rendered."""
    return isinstance(value, str) and ("{{" in value or "{%" in value or "{#" in value)


def _let_templates_pass(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    if info.context is not RENDERED and is_template(value):
        return value
    return handler(value)


class _OrTemplate:
    """Tells a JSON Schema the same."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The schema of the value, or that of a template where the first one does not take it anyway."""
        schema = handler(core_schema)
        if not schema or (schema.keys() <= _OF_ANY_TEXT and schema["type"] == "string"):
            return schema
        return {"anyOf": [schema, {"type": "string", "pattern": TEMPLATE_PATTERN}]}


TEMPLATE_PATTERN: Final = r"\{[{%#]"
"""What tells a template from other text, in a JSON Schema."""
_OF_ANY_TEXT: Final = frozenset({"type", "minLength"})

T = TypeVar("T")
Templated = Annotated[T, WrapValidator(_let_templates_pass), _OrTemplate()]
"""A field that holds a T, or in a document a template that will render to one."""


class StepConfig(BaseModel):
    """Base of the kinds' own keys. Unknown keys are refused unless a kind says otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @classmethod
    def of_rendered(cls, values: Any) -> Self:
        """The configuration of a step whose templates are values by now. Raises `ValidationError`."""
        checked: Self = _of_rendered(cls).validate_python(values, context=RENDERED)
        return checked


@cache
def _of_rendered(model: type[StepConfig]) -> SchemaValidator:
    """What `model_validate` checks, but not whether values are templates: pydantic calls Python for that,
    once a value, and every attempt would wait for it."""
    return SchemaValidator(_without_templates(model.__pydantic_core_schema__))


def _without_templates(schema: Any) -> Any:
    """A pydantic-core schema in which `Templated[T]` is T."""
    if isinstance(schema, list | tuple):
        return type(schema)(map(_without_templates, schema))
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") == "function-wrap" and schema["function"]["function"] is _let_templates_pass:
        return _without_templates(schema["schema"])
    return {key: _without_templates(value) for key, value in schema.items()}


class Scope(Protocol):
    """The names a step of the document may refer to."""

    @property
    def inputs(self) -> frozenset[str]:
        """Declared inputs."""
        ...

    @property
    def steps(self) -> Mapping[str, tuple[str, ...]]:
        """Step ids, each with its output names (the kind's own and the author's)."""
        ...

    @property
    def givers(self) -> Mapping[str, Sequence[str]]:
        """Names that authors gave to outputs, each with the ids of the steps that have it."""
        ...


class StepKind(Protocol):
    """One step kind."""

    name: ClassVar[str]
    """The `type` of a step in a document."""
    config_model: ClassVar[type[StepConfig]]
    outputs: ClassVar[tuple[str, ...]]
    """The kind's own output names; the author's `output` names map to these by position."""
    expressions: ClassVar[frozenset[str]]
    """Config keys whose strings are bare expressions (no braces needed), rendered to native values."""
    retried_by_default: ClassVar[bool]
    """Whether failed attempts are tried again when the author says nothing."""
    only_reads: ClassVar[bool]
    """Whether an attempt changes nothing outside, so that one of a run that nobody hears of does no harm."""

    def normalise(self, config: Mapping[str, Any], scope: Scope) -> Mapping[str, Any]:
        """Rewrite the shorter forms of a document to templates (`inputs: [a]` to `["{{ outputs.a }}"]`)."""
        ...

    def check(self, config: Any) -> Iterable[Problem]:
        """What the model alone cannot see; pointers are relative to the step."""
        ...

    def repeatable(self, config: Any) -> bool:
        """Whether running it twice after a crash is harmless."""
        ...

    def bound(self, config: Any, *, max_tokens: int | None) -> Sequence[CallBound]:
        """The most that an attempt can use of models, empty if it calls none.

        `max_tokens` bounds answers for which the document names no bound, as `StepContext` does. Raises
        `PermanentError` for what has no bound.
        """
        ...

    async def execute(self, config: Any, context: StepContext) -> StepOutcome:
        """Run one attempt. Raises `PermanentError` or `TemporaryError` only."""
        ...
