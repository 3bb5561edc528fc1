"""Metadata filters in Qdrant's words: a tree in, a JSON filter out. Pure, no I/O.

Sources: Qdrant's OpenAPI document (schemas `Filter`, `FieldCondition`, `Range`) and its guide to filtering.
How it differs from `app.ports.vector_filters`, and what is done about it:

- A match knows strings, integers and booleans, and takes 5 and 5.0 for different; numbers are therefore
  compared as ranges, except integers that a double cannot hold.
- Lists match by any element, and `is_empty` is "absent, null or []": as in our language.
- Strings have no order, but dates do: a comparison with an ISO 8601 date or time is one of moments, and
  passes no text that is none; one with any other text is refused.
- Dots and brackets of a key are a path unless the key is quoted, and a quote cannot be in a key.
- An empty `should` lets everything through, so what nothing passes is said by `has_id: []`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias, assert_never

from app.ports.vector_checks import invalid
from app.ports.vector_filters import All, AnyOf, Condition, FilterTree, Key, Not

Json: TypeAlias = dict[str, Any]

NOTHING: Final[Mapping[str, Any]] = {"has_id": []}
_EXACT_IN_DOUBLE: Final = 2**53
_LARGEST_INTEGER: Final = 2**63 - 1
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_MOMENT: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2})?)?"
)


def translate(tree: FilterTree) -> Json:
    """One condition of Qdrant's. Raises `PermanentError` of class `invalid_request` for what it lacks."""
    match tree:
        case Condition():
            return _condition(tree)
        case All():
            return {"must": [translate(part) for part in tree.parts]}
        case AnyOf():
            return _any_of(translate(part) for part in tree.parts)
        case Not():
            return {"must_not": [translate(tree.part)]}
        case _:
            assert_never(tree)


def matches_text(field: str, text: str) -> Json:
    """The field is that text."""
    return {"key": key_path(field), "match": {"value": text}}


def is_empty(field: str) -> Json:
    """The field is absent, null or an empty list."""
    return {"is_empty": {"key": key_path(field)}}


def key_path(field: str) -> str:
    """A metadata name as a path of one part."""
    if _PLAIN_KEY.fullmatch(field):
        return field
    if '"' in field:
        raise invalid(f"Qdrant cannot filter by {field!r}: rename the field so that it holds no double quote")
    return f'"{field}"'


def _condition(condition: Condition) -> Json:
    field = condition.field
    if condition.operator == "$exists":
        return {"must_not": [is_empty(field)]} if condition.operand else is_empty(field)
    if not condition.tests_membership:
        return {"key": key_path(field), "range": {condition.operator[1:]: _bound(condition)}}
    equal = _is_one_of(field, condition.operands)
    return {"must_not": [equal]} if condition.negated else equal


def _is_one_of(field: str, operands: frozenset[Key]) -> Json:
    path = key_path(field)
    texts = sorted(value for kind, value in operands if kind == "string")
    others = sorted((value for kind, value in operands if kind != "string"), key=repr)
    conditions = [_equals(path, value) for value in others]
    if len(texts) == 1:
        conditions.append(matches_text(field, texts[0]))
    elif texts:
        conditions.append({"key": path, "match": {"any": texts}})
    return _any_of(conditions)


def _any_of(conditions: Iterable[Json]) -> Json:
    parts = list(conditions)
    if not parts:
        return dict(NOTHING)
    return parts[0] if len(parts) == 1 else {"should": parts}


def _equals(path: str, value: bool | float) -> Json:
    if isinstance(value, bool):
        return {"key": path, "match": {"value": value}}
    if isinstance(value, int) and _EXACT_IN_DOUBLE < abs(value) <= _LARGEST_INTEGER:
        return {"key": path, "match": {"value": value}}
    return {"key": path, "range": {"gte": value, "lte": value}}


def _bound(condition: Condition) -> str | float:
    operand: str | float = condition.operand
    if isinstance(operand, str) and not _MOMENT.fullmatch(operand):
        raise invalid(
            f"Qdrant orders numbers and dates, and {condition.operator!r} of {condition.field!r} compares "
            f"with {operand!r}; write a number or a date such as '2024-05-01', or use '$in'"
        )
    return operand
