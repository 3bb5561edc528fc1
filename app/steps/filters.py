"""Metadata filters as authors write them, checked when the document is accepted.

Templates are left alone: what they yield is checked with the rest of the filter before a call is made. What
a filter means, and what can be compared, is `app.ports.vector_filters`' business.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from app.ports.problems import Problem, pointer
from app.ports.vector_filters import MAX_DEPTH, OPERATORS, MalformedFilter, check_operand, parse_filter
from app.steps.kind import is_template
from app.steps.suggest import did_you_mean

JUNCTIONS: Final = frozenset({"$and", "$or"})
NEGATION: Final = "$not"
LISTS: Final = frozenset({"$in", "$nin"})
EXAMPLE: Final = 'write {field: value} or {field: {"$gte": 3}}'


def filter_problems(filter: Any, *parts: str | int) -> Iterator[Problem]:
    """What is wrong with a filter that stands at these reference tokens."""
    if filter is None or is_template(filter):
        return
    found = list(_problems(filter, parts, depth=1))
    yield from found
    if not found and not _has_template(filter):
        try:
            parse_filter(filter)
        except MalformedFilter as error:
            yield Problem(pointer=pointer(*parts), detail="the filter is too large", hint=error.advice)


def _problems(filter: Any, parts: tuple[str | int, ...], *, depth: int) -> Iterator[Problem]:
    place = pointer(*parts)
    if is_template(filter):
        return
    if not isinstance(filter, dict):
        yield Problem(pointer=place, detail="a filter is an object", hint=EXAMPLE)
    elif depth > MAX_DEPTH:
        yield Problem(pointer=place, detail=f"a filter nests at most {MAX_DEPTH} levels deep")
    elif depth > 1 and not filter:
        yield Problem(pointer=place, detail="an empty filter has nothing to join", hint="leave it out")
    else:
        for key, value in filter.items():
            yield from _entry_problems(key, value, (*parts, key), depth=depth)


def _entry_problems(key: str, value: Any, parts: tuple[str | int, ...], *, depth: int) -> Iterator[Problem]:
    if key in JUNCTIONS:
        if is_template(value):
            return
        if not isinstance(value, list) or not value:
            yield Problem(pointer=pointer(*parts), detail=f"{key!r} joins a list of at least one filter")
            return
        for number, part in enumerate(value):
            yield from _problems(part, (*parts, number), depth=depth + 1)
    elif key == NEGATION:
        yield from _problems(value, parts, depth=depth + 1)
    elif key.startswith("$"):
        yield _unknown(key, JUNCTIONS | {NEGATION}, *parts)
    elif not isinstance(value, dict):
        yield from _operand_problems("$eq", value, parts, subject=key)
    elif not value:
        yield Problem(pointer=pointer(*parts), detail=f"{key!r} is compared with nothing", hint=EXAMPLE)
    else:
        for operator, operand in value.items():
            place = (*parts, operator)
            if operator in OPERATORS:
                yield from _operand_problems(operator, operand, place, subject=operator)
            else:
                yield _unknown(operator, frozenset(OPERATORS), *place)


def _operand_problems(
    operator: str, operand: Any, parts: tuple[str | int, ...], *, subject: str
) -> Iterator[Problem]:
    if is_template(operand):
        return
    if operator in LISTS and isinstance(operand, list):
        for number, item in enumerate(operand):
            yield from _operand_problems("$eq", item, (*parts, number), subject=f"item {number}")
        return
    try:
        check_operand(operator, operand)
    except MalformedFilter as error:
        detail = f"{subject!r} cannot be compared with what stands here"
        yield Problem(pointer=pointer(*parts), detail=detail, hint=error.advice)


def _has_template(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_template(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_template(item) for item in value)
    return is_template(value)


def _unknown(operator: str, known: frozenset[str], *parts: str | int) -> Problem:
    return Problem(
        pointer=pointer(*parts),
        detail=f"{operator!r} is no filter operator here",
        hint=did_you_mean(operator, known),
    )
