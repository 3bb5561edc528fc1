"""Metadata filters as authors write them, checked when the document is accepted.

The grammar is that of `app.ports.vectors.Filter`; what a filter means is the vector store's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from app.ports.problems import Problem, pointer
from app.steps.kind import is_template
from app.steps.suggest import did_you_mean

COMPARISONS: Final = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists"})
JUNCTIONS: Final = frozenset({"$and", "$or"})
NEGATION: Final = "$not"
MAX_DEPTH: Final = 16


def filter_problems(filter: Any, *parts: str | int) -> Iterator[Problem]:
    """What is wrong with a filter that stands at these reference tokens; templates are left alone."""
    if filter is None or is_template(filter):
        return
    if len(parts) > MAX_DEPTH:
        yield Problem(pointer=pointer(*parts), detail=f"a filter nests at most {MAX_DEPTH} levels deep")
        return
    if not isinstance(filter, dict):
        yield Problem(
            pointer=pointer(*parts),
            detail="a filter is an object",
            hint='write {field: value} or {field: {"$gte": 3}}',
        )
        return
    for key, value in filter.items():
        yield from _entry_problems(key, value, *parts, key)


def _entry_problems(key: str, value: Any, *parts: str | int) -> Iterator[Problem]:
    if key in JUNCTIONS:
        if is_template(value):
            return
        if not isinstance(value, list) or not value:
            yield Problem(pointer=pointer(*parts), detail=f"{key!r} joins a list of at least one filter")
            return
        for number, part in enumerate(value):
            yield from filter_problems(part, *parts, number)
    elif key == NEGATION:
        yield from filter_problems(value, *parts)
    elif key.startswith("$"):
        yield _unknown(key, JUNCTIONS | {NEGATION}, *parts)
    elif isinstance(value, dict):
        for operator in value:
            if operator not in COMPARISONS:
                yield _unknown(operator, COMPARISONS, *parts, operator)


def _unknown(operator: str, known: frozenset[str], *parts: str | int) -> Problem:
    return Problem(
        pointer=pointer(*parts),
        detail=f"{operator!r} is no filter operator here",
        hint=did_you_mean(operator, known),
    )
