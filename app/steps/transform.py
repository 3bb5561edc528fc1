"""The `transform` kind: reshapes data without calling anybody.

The functions live in `app.steps.transforms`. Data is never rendered: a text that holds braces stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from app.ports.errors import PermanentError
from app.ports.problems import Problem, pointer
from app.ports.steps import StepContext, StepOutcome
from app.steps.base import BaseKind
from app.steps.faults import in_words, place
from app.steps.kind import RENDERED, Scope, StepConfig, Templated, is_template
from app.steps.suggest import did_you_mean
from app.steps.transforms.function import Transform
from app.steps.transforms.registry import TRANSFORMS
from app.steps.transforms.workbench import Workbench, is_long

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_ROOTS: Final = frozenset({"inputs", "input", "outputs", "steps"})


class TransformConfig(StepConfig):
    """Keys of a `transform` step; every further key is a parameter of the function.

    `inputs` is a list after `TransformKind.normalise`: one element an input of the function.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    function: str | None = None
    """What to do with the inputs. Exactly one of `function` and `expression`."""
    inputs: Any = None
    """A list, one element an input: a template, a value, or the bare name of a step, an input or an
    output."""
    parameters: Templated[dict[str, Any]] = Field(default_factory=dict)
    """The parameters of the function. They may stand beside `function` as well."""
    expression: Any = None
    """An expression without braces; its value is the result."""

    @model_validator(mode="after")
    def _one_way(self) -> TransformConfig:
        if (self.function is None) == ("expression" not in self.model_fields_set):
            raise PydanticCustomError("one_way", "Give exactly one of 'function' and 'expression'")
        return self

    @property
    def merged(self) -> dict[str, Any]:
        """All parameters; one beside `function` wins over one of the same name in `parameters`."""
        return {**self.parameters, **(self.model_extra or {})}

    @property
    def arguments(self) -> list[Any]:
        """The inputs in order."""
        if self.inputs is None:
            return []
        return self.inputs if isinstance(self.inputs, list) else [self.inputs]


class TransformKind(BaseKind):
    """Applies a function to inputs, or evaluates an expression.

    `inputs` is a list with one element an input; a single value stands for a list of one. Besides
    templates it takes bare names: a step (its first output), an input of the workflow, an output name
    that only one step has, `step.output`, or a path from `inputs`, `outputs` or `steps`. The parameters
    stand in `parameters` or beside `function`.

    Outputs: `result`, whatever the function returns or the expression yields.

    Raises `PermanentError` only: the same data give the same result.
    """

    name: ClassVar[str] = "transform"
    config_model: ClassVar[type[StepConfig]] = TransformConfig
    outputs: ClassVar[tuple[str, ...]] = ("result",)
    only_reads: ClassVar[bool] = True
    expressions: ClassVar[frozenset[str]] = frozenset({"expression"})
    retried_by_default: ClassVar[bool] = False

    def __init__(self) -> None:
        self._workbench = Workbench()

    def normalise(self, config: Mapping[str, Any], scope: Scope) -> Mapping[str, Any]:
        """Make `inputs` a list, and templates of the names in it that exist."""
        if config.get("inputs") is None:
            return config
        inputs = config["inputs"]
        listed = inputs if isinstance(inputs, list) else [inputs]
        return {**config, "inputs": [_reference(value, scope) for value in listed]}

    def check(self, config: TransformConfig) -> Iterable[Problem]:
        """Function, parameters and names."""
        if config.function is None:
            yield from _expression_problems(config)
            return
        transform = TRANSFORMS.get(config.function)
        if transform is None:
            yield Problem(
                pointer=pointer("function"),
                detail=f"there is no function {config.function!r}",
                hint=did_you_mean(config.function, TRANSFORMS),
            )
            return
        if transform.takes_inputs and not config.arguments:
            yield Problem(
                pointer="",
                detail=f"{config.function!r} has no 'inputs'",
                hint="write inputs: [name of a step] or inputs: '{{ steps.<id>.<output> }}'",
            )
        yield from _name_problems(config)
        if isinstance(config.parameters, dict):
            yield from _parameter_problems(config, transform)

    async def execute(self, config: TransformConfig, context: StepContext) -> StepOutcome:
        """Compute: in the calling task where that is short, in a thread where it may be long."""
        if config.function is None:
            return StepOutcome(outputs={"result": config.expression})
        transform = TRANSFORMS.get(config.function)
        if transform is None:
            raise PermanentError("invalid_config", f"there is no function {config.function!r}")
        try:
            parameters = transform.parameters.model_validate(config.merged, context=RENDERED)
        except ValidationError as error:
            complaint = _complaint(config.function, error.errors()[0])
            raise PermanentError("invalid_config", complaint) from None
        inputs = config.arguments
        try:
            result = await self._workbench.do(
                lambda: transform.apply(inputs, parameters),
                long=not transform.linear or is_long([inputs, config.merged]),
            )
        except RecursionError:
            raise PermanentError(
                "too_large", f"the data are nested too deep for {config.function!r}"
            ) from None
        return StepOutcome(outputs={"result": result})


def _reference(value: Any, scope: Scope) -> Any:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        return value
    if value in scope.steps:
        return _template("outputs", value)
    if value in scope.inputs:
        return _template("inputs", value)
    owners = scope.givers.get(value, ())
    if len(owners) == 1:
        return _template("steps", owners[0], value)
    first, *rest = value.split(".")
    if first in scope.steps and rest:
        return _template("steps", first, *rest)
    return _template(first, *rest) if first in _ROOTS and rest else value


def _template(root: str, *parts: str) -> str:
    path = "".join(f".{part}" if part.isidentifier() else f"[{_key(part)}]" for part in parts)
    # A skipped step has no outputs, and the functions leave nulls out.
    return "{{ " + root + path + " | default(none) }}"


def _key(part: str) -> str:
    return part if part.isdigit() else f"'{part}'"


def _expression_problems(config: TransformConfig) -> Iterator[Problem]:
    if not isinstance(config.expression, str) or not config.expression.strip():
        yield Problem(
            pointer=pointer("expression"),
            detail="an expression is text",
            hint="write it as in expression: steps.search.hits | length",
        )
    beside = sorted((config.model_fields_set - {"expression"}) | set(config.model_extra or {}))
    for key in beside:
        yield Problem(
            pointer=pointer(key),
            detail=f"{key!r} does not go with 'expression'",
            hint="name 'steps' and 'inputs' in the expression itself",
        )


def _name_problems(config: TransformConfig) -> Iterator[Problem]:
    for number, value in enumerate(config.arguments):
        if isinstance(value, str) and not is_template(value) and _NAME.fullmatch(value):
            yield Problem(
                pointer=pointer("inputs", number),
                detail=f"{value!r} names no step, no input, and no output that one step alone has",
                hint="write 'step' or 'step.output'; for the text itself write \"{{ '" + value + "' }}\"",
            )


def _parameter_problems(config: TransformConfig, transform: Transform) -> Iterator[Problem]:
    try:
        parameters = transform.parameters.model_validate(config.merged)
    except ValidationError as error:
        for found in error.errors():
            yield _parameter_problem(config, transform, found)
        return
    if reason := transform.problem(parameters):
        yield Problem(pointer="", detail=reason)


def _parameter_problem(config: TransformConfig, transform: Transform, found: ErrorDetails) -> Problem:
    where = found["loc"]
    if not where or where[0] in (config.model_extra or {}):
        place = pointer(*where)
    else:
        place = pointer("parameters", *where) if where[0] in config.parameters else ""
    if found["type"] == "extra_forbidden":
        name, known = str(where[0]), transform.parameters.model_fields
        return Problem(
            pointer=place,
            detail=f"{config.function!r} has no parameter {name!r}",
            hint=did_you_mean(name, known) if known else f"remove {name!r}",
        )
    return Problem(pointer=place, detail=_complaint(config.function or "", found))


def _complaint(function: str, found: ErrorDetails) -> str:
    path = place(found["loc"])
    return in_words(found, f"parameter {path!r} of {function!r}" if path else repr(function))
