"""What the syntax of templates is rewritten to: every look-up, loop, comparison and calculation.

The analysis replaces these nodes of a syntax tree by private filters, whose names no author can write
because they begin with `$`. So each operation meets data only through this module, and is paid for.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from jinja2 import pass_context
from jinja2.runtime import LoopContext
from jinja2.utils import missing

from app.ports.errors import TemplateFailed
from app.templating.limits import MAX_INTEGER
from app.templating.missing import Key, Missing
from app.templating.scope import Scope
from app.templating.values import (
    SCALARS,
    as_json,
    concatenate,
    follow,
    items_of,
    kind,
    look_up,
    number,
    plain,
    present,
    text,
)

LOOP_METHODS: Final = frozenset({"cycle", "changed"})
TEXT_METHODS: Final = frozenset(
    {
        "capitalize",
        "casefold",
        "count",
        "endswith",
        "find",
        "isalnum",
        "isalpha",
        "isdigit",
        "isspace",
        "join",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "title",
        "upper",
    }
)
"""Methods of text that a template in a worker may call."""


@pass_context
def dig(scope: Scope, value: Any, keys: tuple[Key, ...], label: str) -> Any:
    """`a.b['c'][0]`."""
    return follow(value, keys, label)


@pass_context
def item(scope: Scope, value: Any, key: Any, label: str) -> Any:
    """`a[expression]`."""
    present(key)
    if isinstance(value, Missing):
        return value
    if not isinstance(key, (str, int)):
        raise TemplateFailed(f"{label}[...] needs a name or an index, not {kind(key)}")
    found = look_up(value, key)
    return Missing.at(label, (key,), 0, None) if found is missing else found


@pass_context
def cut(scope: Scope, value: Any, start: Any, stop: Any, step: Any) -> Any:
    """`a[start:stop:step]`."""
    if isinstance(value, Missing):
        return value
    if not isinstance(value, (list, tuple, str)):
        raise TemplateFailed(f"a slice [a:b] needs a list or text, not {kind(value)}")
    for bound in (start, stop, step):
        if bound is not None and type(present(bound)) is not int:
            raise TemplateFailed(f"the bounds of a slice [a:b] are whole numbers, not {kind(bound)}")
    if step == 0:
        raise TemplateFailed("the step of a slice [a:b:step] cannot be 0")
    part = value[start:stop:step]
    scope.spend(len(part) >> 3)
    return part


@pass_context
def each(scope: Scope, value: Any, weight: int) -> list[Any] | tuple[Any, ...]:
    """What a `for` goes through, paid in advance: `weight` is the size of its body."""
    items = items_of(scope, value, "a loop")
    scope.spend(len(items) * weight)
    return items


@pass_context
def write(scope: Scope, value: Any) -> str:
    """`{{ value }}` within text."""
    return text(scope, value)


@pass_context
def join(scope: Scope, value: Any, *others: Any) -> str:
    """`a ~ b`."""
    return concatenate(scope, (value, *others))


@pass_context
def whole(scope: Scope, value: Any) -> Any:
    """The native value of a field, where it is data as it was found."""
    present(value)
    if isinstance(value, LoopContext) or callable(value):
        raise TemplateFailed(f"{kind(value)} is no JSON value")
    return value


@pass_context
def made(scope: Scope, value: Any) -> Any:
    """The native value of a field, where the template may have built it."""
    return plain(scope, value)


@pass_context
def truth(scope: Scope, value: Any) -> bool:
    """The outcome of a condition."""
    return bool(value)


def _within(left: Any, right: Any) -> bool:
    if isinstance(right, str):
        if not isinstance(left, str):
            raise TemplateFailed(f"'in' looks for text in text, not for {kind(left)}")
        return left in right
    if isinstance(right, Mapping):
        return isinstance(left, (str, int, float)) and left in right
    if isinstance(right, (list, tuple, range)):
        return left in right
    if isinstance(right, Missing):
        return False
    raise TemplateFailed(f"'in' needs a list, an object or text on its right, not {kind(right)}")


COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": _within,
    "notin": lambda left, right: not _within(left, right),
}
_ORDERINGS = frozenset({"lt", "lteq", "gt", "gteq"})


def holds(scope: Scope, left: Any, name: str, right: Any) -> bool:
    """One comparison. Raises `TemplateFailed` where there is no order between the two."""
    if type(left) in SCALARS and type(right) in SCALARS:
        if type(right) is str:
            scope.spend(len(right) >> 3)
    else:
        scope.spend_on(right)
    if name in _ORDERINGS:
        present(left)
        present(right)
        if kind(left) != kind(right) or left is None:
            raise TemplateFailed(
                f"{kind(left)} and {kind(right)} have no order; the filters int and float convert text"
            )
    return COMPARISONS[name](left, right)


@pass_context
def compare(scope: Scope, value: Any, names: tuple[str, ...], *others: Any) -> bool:
    """`a < b`, and `a < b < c`."""
    for name, other in zip(names, others, strict=True):
        if not holds(scope, value, name, other):
            return False
        value = other
    return True


_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


@pass_context
def calculate(scope: Scope, left: Any, name: str, right: Any) -> Any:
    """`a + b`. Numbers stay within 64 bits; text and lists come here in workers only."""
    present(left)
    present(right)
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return _calculate_numbers(left, name, right)
    texts_or_lists = (str, list, tuple)
    if name == "+" and isinstance(left, texts_or_lists) and kind(left) == kind(right):
        scope.allow_text(len(left) + len(right))
        return left + right
    if name == "*" and isinstance(left, texts_or_lists) and type(right) is int:
        scope.allow_text(len(left) * max(right, 0))
        return left * right
    if name == "%" and isinstance(left, str):
        return left % right
    raise TemplateFailed(
        f"{kind(left)} {name} {kind(right)} cannot be calculated; "
        "~ joins texts, and the filters int and float convert text"
    )


def _calculate_numbers(left: float, name: str, right: float) -> int | float:
    if name == "**" and isinstance(left, int) and isinstance(right, int):
        if left.bit_length() * right > MAX_INTEGER.bit_length():
            raise TemplateFailed("** gives a number that is too large")
    elif name in {"/", "//", "%"} and right == 0:
        raise TemplateFailed(f"a division by zero: the right side of {name} is 0")
    return number(_ARITHMETIC[name](number(left, name), number(right, name)), name)


@pass_context
def negate(scope: Scope, value: Any) -> int | float:
    """`-a`."""
    return -number(value, "-")


@pass_context
def method(scope: Scope, value: Any, name: str, /, *args: Any, **kwargs: Any) -> Any:
    """`text.upper()` and `loop.cycle(a, b)`."""
    present(value)
    if isinstance(value, str) and name in TEXT_METHODS:
        return getattr(str(value), name)(*args, **kwargs)
    if isinstance(value, LoopContext) and name in LOOP_METHODS:
        return getattr(value, name)(*args, **kwargs)
    raise TemplateFailed(f"{kind(value)} has no method {name!r}; use a filter: {{{{ value | {name} }}}}")


@pass_context
def json_text(scope: Scope, value: Any, indent: Any = None) -> str:
    """The filter `tojson`: valid JSON, not made safe for HTML."""
    encoded = as_json(scope, value, indent=bool(indent))
    scope.allow_text(len(encoded))
    return encoded


OPERATORS: Final[Mapping[str, Callable[..., Any]]] = {
    "$dig": dig,
    "$item": item,
    "$cut": cut,
    "$each": each,
    "$write": write,
    "$join": join,
    "$whole": whole,
    "$made": made,
    "$truth": truth,
    "$compare": compare,
    "$calculate": calculate,
    "$negate": negate,
    "$method": method,
}
