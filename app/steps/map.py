"""The `map` kind: the same steps for each item of a list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.core.plan import Block, Map, OnItemError
from app.steps.control import BaseControl, Body, Expression, Names, Steps, body_of
from app.steps.fields import Flag, Int
from app.steps.kind import StepConfig

MAX_ITEMS: Final = 100_000
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TAKEN: Final = frozenset(
    ["inputs", "input", "steps", "outputs", "run", "secrets", "loop", "index", "range", "namespace"]
)
_WORDS: Final = frozenset(
    [
        *("and", "or", "not", "in", "is", "if", "else", "elif", "for", "endfor", "endif", "set", "with"),
        *("true", "false", "none", "null", "True", "False", "None", "recursive", "context", "ignore"),
    ]
)


def _a_list(value: Any) -> Any:
    if value is None:
        raise PydanticCustomError(
            "items_null",
            "This should be a list and is null; write `| default([], true)` where nothing means no items",
        )
    if isinstance(value, dict):
        raise PydanticCustomError(
            "items_object",
            "This should be a list and is an object; write `| items | list` for its pairs of key and value",
        )
    if isinstance(value, str):
        raise PydanticCustomError(
            "items_text",
            "This should be a list and is text; take it apart with a transform (split, chunk, parse_json)",
        )
    if isinstance(value, list) and len(value) > MAX_ITEMS:
        raise PydanticCustomError(
            "items_many",
            "This has {count} items and may have {most} at most; split the list among several runs",
            {"count": len(value), "most": MAX_ITEMS},
        )
    return value


def _free_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PydanticCustomError(
            "item_name", "Input should be one name of letters, digits and '_', such as 'page'"
        )
    if name in _TAKEN or name in _WORDS:
        raise PydanticCustomError(
            "item_name_taken",
            "Input should be another name: {name} already means something in templates",
            {"name": repr(name)},
        )
    return name


Items = Annotated[
    list[Any],
    BeforeValidator(_a_list),
    WithJsonSchema({"anyOf": [{"type": "array", "maxItems": MAX_ITEMS}, {"type": "string"}]}),
]


class MapConfig(StepConfig):
    """Keys of a `map` step that are values. Rendered, `items` is a list of at most 100,000."""

    items: Expression[Items]
    """An expression that gives a list, or a list; at most 100,000 items."""
    as_name: Annotated[str, AfterValidator(_free_name)] = Field(default="item", alias="as")
    """What the steps within call an item."""
    max_concurrency: Annotated[Int, Field(ge=1, le=1_000)] = 16
    """Items under way together."""
    on_item_error: OnItemError = "fail"
    """What becomes of an item that failed: `fail` begins no further one and fails the step, `continue`
    leaves null in its place, `drop` leaves it out."""
    distribute: Flag = False
    """`true`: each item is a run of its own, which any worker may execute."""


class MapBlocks(StepConfig):
    """Keys of a `map` step that hold steps."""

    steps: Steps
    """The steps of an item."""


class MapKind(BaseControl):
    """Runs its steps once an item, at most `max_concurrency` items at a time.

    They see the item under the name that `as` gives it, and its position from 0 as `index`. With
    `distribute` they are a run of their own for each item, and see and bring the same.

    Outputs: `results`, in the order of the items, and `errors`, those of failed items.
    """

    name: ClassVar[str] = "map"
    config_model: ClassVar[type[StepConfig]] = MapConfig
    blocks_model: ClassVar[type[StepConfig]] = MapBlocks
    outputs: ClassVar[tuple[str, ...]] = ("results", "errors")
    expressions: ClassVar[frozenset[str]] = frozenset({"items"})

    def bodies(self, blocks: Mapping[str, Any]) -> Iterator[Body]:
        """The steps of an item."""
        yield body_of(blocks.get("steps"), "steps")

    def reading(self, owner: str, step: str) -> tuple[str, ...]:
        """Only what all items brought."""
        return (owner, "results")

    def item_name(self, config: MapConfig) -> str:
        """As its author says."""
        return config.as_name

    def bound(self, config: Mapping[str, Any], steps: Sequence[str]) -> Names:
        """The item and its position."""
        name = config.get("as")
        return {name if isinstance(name, str) else "item": None, "index": None}

    def distributed(self, config: MapConfig) -> bool:
        """As its author says."""
        return config.distribute

    def control(self, config: MapConfig, blocks: Mapping[str | None, Block], *, conditional: bool) -> Map:
        """One block for all items."""
        return Map(
            body=blocks[None],
            max_concurrency=config.max_concurrency,
            on_item_error=config.on_item_error,
        )
