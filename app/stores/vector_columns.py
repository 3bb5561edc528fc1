"""One metadata field of many records, dictionary-encoded, so that a filter costs little over many records.

`codes[slot]` is the place of the record's value among the distinct values. A condition is decided once
for each distinct value, and the answers are spread over the records by numpy. The meaning of a
condition is `Condition.passes`; where this module decides without asking it (membership by look-up,
order among numbers in numpy), the outcome is the same, and lists and whatever float64 cannot hold are
asked one by one. Slots are those of the `ResidentVectors` that own the column.
Imports numpy: see `vector_matrix`.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, assert_never

import numpy as np
import numpy.typing as npt

from app.ports.vector_filters import All, AnyOf, Condition, FilterTree, Not, key_of

Mask: TypeAlias = npt.NDArray[np.bool_]

_VALUE_BYTES: Final = 160
"""What a distinct value costs beside its own size: list and dictionary entries, the key."""
_COMPARE: Final[Mapping[str, np.ufunc]] = {
    "$gt": np.greater,
    "$gte": np.greater_equal,
    "$lt": np.less,
    "$lte": np.less_equal,
}


class Column:
    """The values of one field. `nbytes` is an estimate of the memory it holds."""

    __slots__ = ("_codes", "_index", "_numbers", "_odd", "_values", "nbytes")

    def __init__(self, capacity: int) -> None:
        self._codes = np.zeros(capacity, dtype=np.int32)
        self._values: list[Any] = []
        self._index: dict[Any, int] = {}
        self._numbers = array("d")
        """By code: the number a value is, NaN for any other value."""
        self._odd: list[int] = []
        """Codes of the values that only `Condition.passes` can judge."""
        self.nbytes = self._codes.nbytes

    @property
    def distinct(self) -> int:
        """Values seen so far, those of replaced records included."""
        return len(self._values)

    def set(self, slot: int, value: Any) -> None:
        """Put a record's value (None when it has none) into its slot."""
        is_list = isinstance(value, list | tuple)
        key = tuple(key_of(item) for item in value) if is_list else key_of(value)
        code = self._index.get(key)
        if code is None:
            code = self._index[key] = len(self._values)
            self._values.append(value)
            number = _as_float(value)
            self._numbers.append(math.nan if number is None else number)
            if is_list or (number is None and key[0] == "number"):
                self._odd.append(code)
            self.nbytes += _VALUE_BYTES + sys.getsizeof(value)
        self._codes[slot] = code

    def move(self, source: int, target: int) -> None:
        """Copy a slot over another one."""
        self._codes[target] = self._codes[source]

    def reserve(self, capacity: int) -> None:
        """Make room for more slots."""
        if capacity > len(self._codes):
            grown = np.zeros(max(capacity, 2 * len(self._codes)), dtype=np.int32)
            grown[: len(self._codes)] = self._codes
            self.nbytes += grown.nbytes - self._codes.nbytes
            self._codes = grown

    def mask(self, condition: Condition, count: int) -> Mask:
        """Which of the first `count` slots pass."""
        return np.take(self._answers(condition), self._codes[:count])

    def _answers(self, condition: Condition) -> Mask:
        if condition.tests_membership:
            answers = np.full(len(self._values), condition.negated)
            for key in condition.operands:
                code = self._index.get(key)
                if code is not None:
                    answers[code] = not condition.negated
        elif condition.operator in _COMPARE and (bound := _as_float(condition.operand)) is not None:
            answers = _COMPARE[condition.operator](np.frombuffer(self._numbers, dtype=np.float64), bound)
        else:
            return np.fromiter(map(condition.passes, self._values), np.bool_, len(self._values))
        for code in self._odd:
            answers[code] = condition.passes(self._values[code])
        return answers


def _as_float(value: Any) -> float | None:
    """The number, if it is one that float64 holds exactly."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if number == value else None


def mask_of(tree: FilterTree, columns: Mapping[str, Column], count: int) -> Mask:
    """Which of the first `count` slots pass the whole filter; `columns` holds every field it names."""
    match tree:
        case Condition():
            return columns[tree.field].mask(tree, count)
        case All():
            mask = np.ones(count, dtype=np.bool_)
            for part in tree.parts:
                mask &= mask_of(part, columns, count)
            return mask
        case AnyOf():
            mask = np.zeros(count, dtype=np.bool_)
            for part in tree.parts:
                mask |= mask_of(part, columns, count)
            return mask
        case Not():
            return ~mask_of(tree.part, columns, count)
        case _:
            assert_never(tree)
