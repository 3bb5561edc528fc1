"""The `branch` kind: one case of several, chosen by a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.core.plan import Block, Branch
from app.ports.problems import pointer
from app.steps.control import STEP, BaseControl, Body, Expression, body_of
from app.steps.kind import StepConfig

DEFAULT: Final = "default"
"""What `taken` says where no case had the name."""

CaseName = Annotated[str, Field(max_length=200)]


def selector_text(value: Any) -> str:
    """A selector as cases are named: text as it is; numbers, truth values and null as JSON writes them."""
    if isinstance(value, (list, dict)):
        raise PydanticCustomError(
            "selector",
            "This should be text, a number, true, false or null, and is {shape}; name the part that decides",
            {"shape": "a list" if isinstance(value, list) else "an object"},
        )
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _as_list(value: Any) -> Any:
    """One step may stand without a list."""
    return [value] if isinstance(value, dict) else value


def _without_default(cases: dict[str, Any]) -> dict[str, Any]:
    if DEFAULT in cases:
        raise PydanticCustomError(
            "default_case", "No case can be called 'default'; write 'default' beside 'branches'"
        )
    return cases


_CASE: Final = {"anyOf": [{"type": "array", "items": dict(STEP)}, dict(STEP)]}
Case = Annotated[list[Any], BeforeValidator(_as_list), WithJsonSchema(_CASE)]
"""Steps, one step, or `[]` for nothing to do."""


class BranchConfig(StepConfig):
    """Keys of a `branch` step that are values. Rendered, `condition` is the name of the case."""

    condition: Expression[Annotated[str, BeforeValidator(selector_text)]] = Field(
        json_schema_extra={"type": ["string", "number", "boolean"]}
    )
    """The selector: an expression whose value names a case. Numbers, truth values and null choose by their
    JSON text."""


class BranchBlocks(StepConfig):
    """Keys of a `branch` step that hold steps."""

    branches: Annotated[dict[CaseName, Case], Field(min_length=1), AfterValidator(_without_default)]
    """Cases by name: steps, one step, or `[]` for nothing to do."""
    default: Case | None = None
    """Steps for every other value. If absent: nothing is done."""


class BranchKind(BaseControl):
    """Runs the case that the selector names, `default` where there is none of that name, or nothing.

    Selectors are compared as text: `true` and 3 choose the cases `"true"` and `"3"`.

    Outputs: `taken` (the case's name, `default`, or null where nothing ran), and the first output of each
    step of the case that ran, by step id.
    """

    name: ClassVar[str] = "branch"
    config_model: ClassVar[type[StepConfig]] = BranchConfig
    blocks_model: ClassVar[type[StepConfig]] = BranchBlocks
    outputs: ClassVar[tuple[str, ...]] = ("taken",)
    expressions: ClassVar[frozenset[str]] = frozenset({"condition"})

    def bodies(self, blocks: Mapping[str, Any]) -> Iterator[Body]:
        """The cases in order, then the default."""
        branches = blocks.get("branches")
        for name, case in branches.items() if isinstance(branches, dict) else ():
            yield _case(case, "branches", name, name=name)
        if "default" in blocks:
            yield _case(blocks["default"], "default")

    def output_names(self, steps: Sequence[str]) -> tuple[str, ...]:
        """The case, and the steps of all cases."""
        return (*self.outputs, *dict.fromkeys(steps))

    def control(
        self, config: BranchConfig, blocks: Mapping[str | None, Block], *, conditional: bool
    ) -> Branch:
        """The cases by name."""
        cases = {name: block for name, block in blocks.items() if name is not None}
        return Branch(cases=cases, default=blocks.get(None))


def _case(value: Any, *parts: str, name: str | None = None) -> Body:
    if isinstance(value, dict):
        return Body(name=name, steps=((pointer(*parts), value),))
    return body_of(value, *parts, name=name)
