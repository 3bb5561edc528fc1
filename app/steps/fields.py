"""Types of configuration values that several kinds share, with messages that say how to mend them.

Numbers are strict: `"5"` and `true` are no numbers. Text takes numbers and truth values as well, because
a field that is exactly one `{{ expression }}` yields the native value.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

MAX_DIMENSIONS: Final = 65_536
"""Numbers a vector may have."""


def scalar_text(value: str | float | bool) -> str:
    """A scalar as text, truth values as JSON writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _to_text(value: Any) -> Any:
    if type(value) is str:
        return value
    if isinstance(value, (str, int, float)):
        return scalar_text(value)
    if value is None:
        raise PydanticCustomError(
            "no_text",
            "Input should be text and is null; what may be absent needs a default in the template: "
            "`| default('', true)`",
        )
    shapes: dict[type, str] = {list: "a list", dict: "an object"}
    raise PydanticCustomError(
        "not_text",
        "Input should be text and is {shape}; write `| tojson` in the template, or name the part you want "
        "(`steps.search.hits[0].metadata.text`)",
        {"shape": shapes.get(type(value), type(value).__name__)},
    )


def _vector(value: Any) -> Any:
    if isinstance(value, str):
        raise PydanticCustomError(
            "not_a_vector",
            "Input should be a vector (a list of numbers) and is text; turn the text into a vector first "
            "with a step of type 'embed' and write '{{ steps.<that step>.vector }}' here",
        )
    if isinstance(value, list) and value and isinstance(value[0], list):
        raise PydanticCustomError(
            "many_vectors",
            "Input should be one vector and is a list of vectors; name one of them, as in "
            "'{{ steps.<embed step>.vectors[0] }}'",
        )
    return value


Name = Annotated[str, Field(min_length=1, max_length=200)]
"""A provider, model, database, index or namespace."""

Text = Annotated[str, BeforeValidator(_to_text)]
"""Text; numbers and truth values become text, lists, objects and null are refused."""

FilledText = Annotated[str, Field(min_length=1), BeforeValidator(_to_text)]
"""Text of at least one character."""

Int = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]

Vector = Annotated[list[Number], Field(min_length=1, max_length=MAX_DIMENSIONS), BeforeValidator(_vector)]
"""A list of finite numbers."""

T = TypeVar("T")


def _shape(value: Any) -> str:
    return "[list]" if isinstance(value, list) else "[text]"


TextOr = Annotated[Annotated[T, Tag("[list]")] | Annotated[FilledText, Tag("[text]")], Discriminator(_shape)]
"""Text, or a list of the given type: told apart by shape, so that an error names one of them only."""
