"""Many values to one: aggregate, sum, average, min, max."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from app.steps.kind import Templated
from app.steps.transforms.function import MISSING, Parameters, items_of, kind_of, look_up, refuse
from app.steps.transforms.grouping import groups
from app.steps.transforms.selecting import Path

Operation = Literal["sum", "average", "median", "min", "max", "count"]
Number = int | float

_LARGEST: Final = 2**63 - 1


class Values(Parameters):
    """Which value of an item counts; without `key` the item itself."""

    key: Templated[Path] | None = None


class Aggregate(Values):
    """What is worked out, over all items or over each group of them."""

    operation: Templated[Operation]
    by: Templated[Path] | None = None


def aggregate(inputs: Sequence[Any], parameters: Aggregate) -> Any:
    """One value out of the items' values at `key`; with `by`, one a group: `[{key, value}]`.

    `sum average median` take numbers, `min max` numbers or texts, `count` anything. Null and missing
    values are left out; of nothing at all the sum and the count are 0, everything else is null.
    """
    items = items_of(inputs)
    if parameters.by is None:
        return _result(items, parameters.operation, parameters.key)
    return [
        {"key": value, "value": _result(members, parameters.operation, parameters.key)}
        for value, members in groups(items, parameters.by)
    ]


def total(inputs: Sequence[Any], parameters: Values) -> Any:
    """The sum of numbers, 0 of none."""
    return _result(items_of(inputs), "sum", parameters.key)


def average(inputs: Sequence[Any], parameters: Values) -> Any:
    """The arithmetic mean of numbers, null of none."""
    return _result(items_of(inputs), "average", parameters.key)


def smallest(inputs: Sequence[Any], parameters: Values) -> Any:
    """The smallest number, or the first text in the order of characters; null of none."""
    return _result(items_of(inputs), "min", parameters.key)


def largest(inputs: Sequence[Any], parameters: Values) -> Any:
    """The largest number, or the last text in the order of characters; null of none."""
    return _result(items_of(inputs), "max", parameters.key)


def _result(items: Sequence[Any], operation: Operation, key: str | None) -> Any:
    found = [look_up(item, key) for item in items]
    values = [value for value in found if value is not MISSING and value is not None]
    if operation == "count":
        return len(values)
    if not values:
        return 0 if operation == "sum" else None
    texts = operation in ("min", "max") and isinstance(values[0], str)
    for value in values:
        if not (isinstance(value, str) if texts else _is_number(value)):
            raise _mismatch(value, operation, key, texts=texts)
    try:
        result = _OPERATIONS[operation](values)
    except OverflowError:
        raise _beyond(operation) from None
    if not (
        isinstance(result, str)
        or (abs(result) <= _LARGEST if isinstance(result, int) else math.isfinite(result))
    ):
        raise _beyond(operation)
    return result


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mismatch(value: Any, operation: str, key: str | None, *, texts: bool) -> Exception:
    where = "" if key is None else f" at {key!r}"
    wanted = "texts only, as the first value is one," if texts else "numbers"
    return refuse(f"{operation!r} takes {wanted} and found {kind_of(value)}{where}; filter the items first")


def _beyond(operation: str) -> Exception:
    return refuse(f"the {operation!r} of these numbers is larger than JSON numbers of this service may be")


def _sum(values: Sequence[Number]) -> Number:
    return sum(values) if all(isinstance(value, int) for value in values) else math.fsum(values)


_OPERATIONS: Final[Mapping[Operation, Callable[[Sequence[Any]], Any]]] = {
    "sum": _sum,
    "average": statistics.fmean,
    "median": statistics.median,
    "min": min,
    "max": max,
}
