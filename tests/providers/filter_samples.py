"""Filters and records to try translations of filters on. Few values, so that many filters find something."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

FIELDS: Final = st.sampled_from(["a", "b.c"])
SCALARS: Final = st.sampled_from([True, False, 0, 1, 1.0, 2.5, "x", "y"])
ORDERS: Final = st.sampled_from(["$gt", "$gte", "$lt", "$lte"])
RECORDS: Final = st.dictionaries(
    FIELDS, st.one_of(st.none(), SCALARS, st.lists(st.sampled_from(["x", "y"]), max_size=2))
)


def filters(
    *,
    negations: bool = True,
    exists: bool = True,
    ordered: st.SearchStrategy[Any] = st.sampled_from([1, 2.5, "x"]),  # noqa: B008  a constant
) -> st.SearchStrategy[dict[str, Any]]:
    """Filters over `RECORDS`, in the language or in a part of it. `ordered` are operands of orders."""
    one, many = st.sampled_from(["$eq", "$ne"]), st.sampled_from(["$in", "$nin"])
    conditions = [
        st.builds(_test, FIELDS, one, SCALARS),
        st.builds(_test, FIELDS, many, st.lists(SCALARS, max_size=2)),
        st.builds(_test, FIELDS, ORDERS, ordered),
    ]
    if exists:
        conditions.append(st.builds(_test, FIELDS, st.just("$exists"), st.booleans()))

    def joined(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        parts = st.lists(inner, min_size=1, max_size=3)
        joins = st.builds(_join, st.sampled_from(["$and", "$or"]), parts)
        return st.one_of(joins, st.builds(_join, st.just("$not"), inner)) if negations else joins

    return st.recursive(st.one_of(conditions), joined, max_leaves=6)


def _test(field: str, operator: str, operand: Any) -> dict[str, Any]:
    return {field: {operator: operand}}


def _join(operator: str, parts: Any) -> dict[str, Any]:
    return {operator: parts}
