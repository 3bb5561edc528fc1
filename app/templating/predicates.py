"""The tests of `is`: what may stand right of `is`, and in `select('…')`.

All of them are safe on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from jinja2 import pass_context

from app.templating.missing import Missing
from app.templating.operators import holds
from app.templating.scope import Scope
from app.templating.values import number, written


def _plainly(check: Callable[[Any], bool]) -> Callable[..., bool]:
    @pass_context
    def test(_: Scope, value: Any) -> bool:
        return check(value)

    return test


def _compared(name: str) -> Callable[..., bool]:
    @pass_context
    def test(scope: Scope, value: Any, other: Any) -> bool:
        return holds(scope, value, name, other)

    return test


@pass_context
def divisible(_: Scope, value: Any, divisor: Any) -> bool:
    """Whether a number is a multiple of another one."""
    return number(divisor, "divisibleby") != 0 and number(value, "divisibleby") % divisor == 0


@pass_context
def odd(_: Scope, value: Any) -> bool:
    """Whether a number is odd."""
    return number(value, "odd") % 2 == 1


@pass_context
def even(_: Scope, value: Any) -> bool:
    """Whether a number is even."""
    return number(value, "even") % 2 == 0


@pass_context
def in_lower_case(scope: Scope, value: Any) -> bool:
    """Whether a text is in lower case."""
    return written(scope, value, "lower").islower()


@pass_context
def in_upper_case(scope: Scope, value: Any) -> bool:
    """Whether a text is in upper case."""
    return written(scope, value, "upper").isupper()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


TESTS: Final[Mapping[str, Callable[..., bool]]] = {
    "boolean": _plainly(lambda value: isinstance(value, bool)),
    "defined": _plainly(lambda value: not isinstance(value, Missing)),
    "divisibleby": divisible,
    "eq": _compared("eq"),
    "equalto": _compared("eq"),
    "even": even,
    "false": _plainly(lambda value: value is False),
    "float": _plainly(lambda value: isinstance(value, float)),
    "ge": _compared("gteq"),
    "greaterthan": _compared("gt"),
    "gt": _compared("gt"),
    "in": _compared("in"),
    "integer": _plainly(lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "iterable": _plainly(lambda value: isinstance(value, (list, tuple, Mapping, str, range))),
    "le": _compared("lteq"),
    "lessthan": _compared("lt"),
    "lower": in_lower_case,
    "lt": _compared("lt"),
    "mapping": _plainly(lambda value: isinstance(value, Mapping)),
    "ne": _compared("ne"),
    "none": _plainly(lambda value: value is None or isinstance(value, Missing)),
    "null": _plainly(lambda value: value is None or isinstance(value, Missing)),
    "number": _plainly(_is_number),
    "odd": odd,
    "sequence": _plainly(lambda value: isinstance(value, (list, tuple, str, range))),
    "string": _plainly(lambda value: isinstance(value, str)),
    "true": _plainly(lambda value: value is True),
    "undefined": _plainly(lambda value: isinstance(value, Missing)),
    "upper": in_upper_case,
    "==": _compared("eq"),
    "!=": _compared("ne"),
    ">": _compared("gt"),
    ">=": _compared("gteq"),
    "<": _compared("lt"),
    "<=": _compared("lteq"),
}
