"""What a model has against a value, in words: what it should be, what it is, never the validator's phrases.

For values that no author wrote as they are: what templates yield, parameters, settings. Of a text with
places, `app.dsl.model_errors` speaks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic_core import ErrorDetails

from app.steps.transforms.function import kind_of

SHAPES: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "url_parsing": "a URL such as https://example.com",
    "path_type": "a path",
}
"""Types of errors → what the value should be."""
_STOCK: Final = re.compile(r"^(?:Input|This|String|List|Dictionary|Value) (?=should )")


def place(parts: Sequence[str | int]) -> str:
    """Where a value stands, as authors write paths: `expect.status[0]`.

    The names of a union's branches, which have brackets, are no part of it.
    """
    steps = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts if "[" not in str(part)]
    return "".join(steps).removeprefix(".")


def in_words(wrong: ErrorDetails, subject: str) -> str:
    """A sentence about `subject`, which tells the shape of what is there, never the value."""
    match wrong["type"]:
        case "missing":
            return f"{subject} is missing"
        case "extra_forbidden":
            return f"{subject} is no key that is known here"
        case "int_from_float":
            return f"{subject} should be a whole number and has a fraction"
        case known if known in SHAPES:
            there = "" if known.endswith("_parsing") else f" and is {kind_of(wrong['input'])}"
            return f"{subject} should be {SHAPES[known]}{there}"
    return worded(wrong["msg"], subject)


def worded(message: str, subject: str) -> str:
    """A validator's message as a sentence about `subject`; a message that has a subject keeps it."""
    plain = message.removeprefix("Value error, ").partition(" after validation")[0]
    said, found = _STOCK.subn("", plain)
    return f"{subject} {said}" if found else f"{subject}: {plain}"


def first_fault(errors: Sequence[Any], *, whole: str) -> str:
    """The first of a model's errors; `whole` is what the value itself is called."""
    first: ErrorDetails = errors[0]
    where = place(first["loc"])
    return in_words(first, repr(where) if where else whole)
