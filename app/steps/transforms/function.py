"""What a transform function is, and what all of them share: items, paths, equality, limits.

Functions are pure: JSON values in, a JSON value out, in time linear (sorting: n log n) in what they are
given, and in many short steps rather than one long call into C, which no thread could interrupt. Data is
never rendered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict

from app.ports.errors import PermanentError

MAX_ITEMS: Final = 100_000
MAX_SIZE: Final = 16 * 1024 * 1024
"""Characters of text and numbers (8 each) in a result."""

MISSING: Final = object()

T = TypeVar("T")


class Parameters(BaseModel):
    """Base of the functions' parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NoParameters(Parameters):
    """Nothing to set."""


def _no_problem(parameters: Any) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """One function: `apply(inputs, parameters)`, where `inputs` are the step's inputs in order.

    `apply` raises `PermanentError` for inputs it cannot work with; it may run in a thread of its own, so it
    keeps nothing between calls. `problem` finds what the parameters'
    model cannot see, in a document where any of them may still be a template.
    """

    parameters: type[Parameters]
    apply: Callable[[Sequence[Any], Any], Any]
    problem: Callable[[Any], str | None] = _no_problem
    takes_inputs: bool = True
    linear: bool = True
    """Whether the size of the inputs alone says how long it may take."""


def refuse(message: str) -> PermanentError:
    """The error for inputs that a function cannot work with."""
    return PermanentError("invalid_request", message)


def too_large() -> PermanentError:
    """The error for a result above `MAX_SIZE`."""
    return PermanentError(
        "too_large", f"the result would exceed {MAX_SIZE} characters; filter or split the inputs first"
    )


def items_of(inputs: Iterable[Any]) -> list[Any]:
    """The items the inputs make up: a list gives its elements, null gives none, the rest gives itself."""
    items: list[Any] = []
    for value in inputs:
        if isinstance(value, list):
            items.extend(value)
        elif value is not None:
            items.append(value)
    return items


def alone(inputs: Sequence[Any]) -> Any:
    """The one input there is, null inputs aside; several become one list of items."""
    present = [value for value in inputs if value is not None]
    return present[0] if len(present) == 1 else items_of(present)


def texts_of(inputs: Sequence[Any], *, function: str) -> list[str]:
    """The items as texts; numbers and truth values count as text, objects and lists are refused."""
    return [as_text(item, function=function) for item in items_of(inputs)]


def as_text(value: Any, *, function: str) -> str:
    """A scalar as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    shape = kind_of(value)
    raise refuse(
        f"{function!r} works on text and was given {shape}; name a field of it, or use 'to_json' first"
    )


def kind_of(value: Any) -> str:
    """What a value is called in messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"


def look_up(item: Any, path: str | None) -> Any:
    """The value at a dotted path (`metadata.text`, `tags.0`), `MISSING` where there is none.

    A key that itself holds a dot is found first. No path is the item itself.
    """
    if path is None:
        return item
    if isinstance(item, dict) and path in item:
        return item[path]
    value = item
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isascii() and part.isdigit() and int(part[:9]) < len(value):
            value = value[int(part[:9])]
        else:
            return MISSING
    return value


def identity(value: Any) -> Any:
    """A hashable stand-in: equal for values that are equal as JSON (1 and 1.0 are, 1 and true are not)."""
    if isinstance(value, bool) or value is None:
        return ("constant", value)
    if isinstance(value, (int, float)):
        return ("number", value)
    if isinstance(value, str):
        return ("text", value)
    return ("json", json.dumps(value, sort_keys=True, separators=(",", ":")))


def bounded(value: T) -> T:
    """The value itself, unless it exceeds `MAX_SIZE`; stops measuring there."""
    left = MAX_SIZE
    waiting: list[Any] = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, str):
            left -= len(current)
        elif isinstance(current, dict):
            left -= sum(map(len, current))
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)
        left -= 8
        if left < 0:
            raise too_large()
    return value


def within_items(count: int) -> None:
    """Refuse results of more than `MAX_ITEMS` items before they are built."""
    if count > MAX_ITEMS:
        raise PermanentError("too_large", f"the result would have more than {MAX_ITEMS} items")
