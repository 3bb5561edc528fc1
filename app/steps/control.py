"""What every control kind provides: a step that the scheduler carries out itself, without attempts.

A control kind has two sorts of keys. Those of `config_model` are checked, rendered when the step is
entered, and checked again, as those of any kind are. Those of `blocks_model` hold steps, or what is
evaluated among them; the compiler turns them into the plan and nobody renders them as values. What ends
up in the plan is written out by the author: a template there is refused. One file a kind;
`app.steps.registry` lists them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Protocol, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    StrictStr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from app.core.plan import Block, Control
from app.ports.problems import Problem, pointer
from app.steps.kind import Scope, StepConfig

STEP: Final[Mapping[str, Any]] = {"x-step": True}
"""Stands in a JSON Schema for that of a step, which only the whole language knows."""

Names = Mapping[str, "Names | None"]
"""Names that may follow each other in a path; None: anything may follow."""


def _let_expressions_pass(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    if isinstance(value, str) and not (info.context and info.context.get("rendered")):
        return value
    return handler(value)


def _as_condition(value: Any) -> Any:
    """YAML reads a bare `true` as a truth value; as a condition it is one, too."""
    return str(value).lower() if isinstance(value, bool) else value


T = TypeVar("T")
Expression = Annotated[T, WrapValidator(_let_expressions_pass)]
"""A field that holds a T, or in a document an expression (no braces needed) that will yield one."""

Condition = Annotated[StrictStr, BeforeValidator(_as_condition, json_schema_input_type=str | bool)]

Steps = Annotated[
    list[Any],
    Field(min_length=1),
    WithJsonSchema({"type": "array", "minItems": 1, "items": dict(STEP)}),
]
"""Steps; each is read with its own kind."""


class NoBlocks(StepConfig):
    """A kind without steps of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The steps of one scope within a control step, as they are written."""

    name: str | None = None
    """The value of a branch that chooses it; None for the only body, and for a default."""
    steps: tuple[tuple[str, Any], ...]
    """Each with its pointer, relative to the control step."""


def body_of(value: Any, *parts: str, name: str | None = None) -> Body:
    """The body that stands at a place. A value that is no list of steps has none."""
    listed = value if isinstance(value, list) else []
    steps = tuple((pointer(*parts, position), step) for position, step in enumerate(listed))
    return Body(name=name, steps=steps)


class ControlKind(Protocol):
    """One control kind."""

    name: ClassVar[str]
    """The `type` of a step in a document."""
    config_model: ClassVar[type[StepConfig]]
    blocks_model: ClassVar[type[StepConfig]]
    outputs: ClassVar[tuple[str, ...]]
    """The output names that do not depend on the steps within."""
    expressions: ClassVar[frozenset[str]]
    """Config keys whose strings are bare expressions, rendered to native values."""
    schemas: ClassVar[frozenset[str]]
    """Config keys that hold a JSON Schema, written out."""
    open: ClassVar[bool]
    """Whether anything may be read from the step beside its outputs: what its first output holds."""
    whole: ClassVar[bool]
    """Whether all outputs together stand for the first one."""

    def normalise(self, config: Mapping[str, Any], scope: Scope) -> Mapping[str, Any]:
        """Rewrite shorter forms to templates."""
        ...

    def check(self, config: Any) -> Iterable[Problem]:
        """What the model alone cannot see; pointers are relative to the step."""
        ...

    def check_common(self, config: Any, common: Mapping[str, Any]) -> Iterable[Problem]:
        """What does not go with the keys that every step has, `common`; pointers are relative to the step."""
        ...

    def bodies(self, blocks: Mapping[str, Any]) -> Iterator[Body]:
        """The bodies in the keys of `blocks_model`, whether or not those passed it."""
        ...

    def output_names(self, steps: Sequence[str]) -> tuple[str, ...]:
        """All output names, in order; `steps` are the ids within."""
        ...

    def inside(self, steps: Sequence[str]) -> Names:
        """Outputs whose own names are known, with these."""
        ...

    def reading(self, owner: str, step: str) -> tuple[str, ...]:
        """What follows `steps.` to read a step within from outside."""
        ...

    def item_name(self, config: Any) -> str:
        """What the steps within call an item."""
        ...

    def bound(self, config: Mapping[str, Any], steps: Sequence[str]) -> Names:
        """The root names that the steps within see besides the usual ones. `config` is as written."""
        ...

    def distributed(self, config: Any) -> bool:
        """Whether each time that the steps within run is a run of its own."""
        ...

    def control(self, config: Any, blocks: Mapping[str | None, Block], *, conditional: bool) -> Control:
        """What the scheduler is told. `blocks` go by the names of their bodies; `conditional`: there is an
        `until`."""
        ...


class BaseControl:
    """A kind without steps within and without short forms."""

    blocks_model: ClassVar[type[StepConfig]] = NoBlocks
    outputs: ClassVar[tuple[str, ...]] = ()
    expressions: ClassVar[frozenset[str]] = frozenset()
    schemas: ClassVar[frozenset[str]] = frozenset()
    open: ClassVar[bool] = False
    whole: ClassVar[bool] = False

    def normalise(self, config: Mapping[str, Any], scope: Scope) -> Mapping[str, Any]:
        """Nothing to rewrite."""
        return config

    def check(self, config: Any) -> Iterable[Problem]:
        """Nothing that the model does not see."""
        return ()

    def check_common(self, config: Any, common: Mapping[str, Any]) -> Iterable[Problem]:
        """Everything does."""
        return ()

    def bodies(self, blocks: Mapping[str, Any]) -> Iterator[Body]:
        """None."""
        yield from ()

    def output_names(self, steps: Sequence[str]) -> tuple[str, ...]:
        """Those of the kind."""
        return self.outputs

    def inside(self, steps: Sequence[str]) -> Names:
        """Nothing is known."""
        return {}

    def reading(self, owner: str, step: str) -> tuple[str, ...]:
        """By its id."""
        return (owner, step)

    def item_name(self, config: Any) -> str:
        """The usual name."""
        return "item"

    def bound(self, config: Mapping[str, Any], steps: Sequence[str]) -> Names:
        """None."""
        return {}

    def distributed(self, config: Any) -> bool:
        """They are part of the run."""
        return False
