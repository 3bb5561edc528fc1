"""What a plain YAML scalar means: the core schema of YAML 1.2.2, chapter 10.3.

`on`, `off`, `yes`, `no`, dates, `1_000` and `12:30` are text, as their authors meant them to be.
"""

from __future__ import annotations

import math
import re
from typing import Final

from app.dsl.strict_json import INTEGER_RANGE

Scalar = str | int | float | bool | None

_NAMED: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAY_NOT_BE_TEXT: Final = frozenset("-+.0123456789~nNtTfF")
_INTEGERS: Final = (
    (re.compile(r"([-+]?[0-9]+)"), 10),
    (re.compile(r"0o([0-7]+)"), 8),
    (re.compile(r"0x([0-9a-fA-F]+)"), 16),
)
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST_LITERAL: Final = 400
"""Python converts long digit strings in quadratic time; no number that is accepted needs as many."""


class NotRepresentable(ValueError):
    """A number that JSON or 64 bits cannot carry; the message completes "… is"."""


def resolve(text: str) -> Scalar:
    """The value of a plain scalar. Raises `NotRepresentable` for numbers that cannot be carried."""
    if text and text[0] not in _MAY_NOT_BE_TEXT:
        return text
    if text in _NAMED:
        return _NAMED[text]
    for pattern, base in _INTEGERS:
        if match := pattern.fullmatch(text):
            return _integer(match[1], base)
    if _FLOAT.fullmatch(text):
        return _float(text)
    if _NOT_FINITE.fullmatch(text):
        raise NotRepresentable("no number that JSON can carry")
    return text


def _integer(digits: str, base: int) -> int:
    if len(digits) > _LONGEST_LITERAL or (value := int(digits, base)) not in INTEGER_RANGE:
        raise NotRepresentable("an integer of more than 64 bits")
    return value


def _float(text: str) -> float:
    if len(text) > _LONGEST_LITERAL or not math.isfinite(value := float(text)):
        raise NotRepresentable("no number that a double can hold")
    return value
