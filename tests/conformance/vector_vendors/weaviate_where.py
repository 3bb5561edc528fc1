"""What Weaviate's `where` filters let through, as its documentation has it: for the server of the tests.

Text is compared by its tokens. Of the tokenization `field` there is one for each string, without the white
space around it, and none for an empty string.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "Equal": operator.eq,
    "GreaterThan": operator.gt,
    "GreaterThanEqual": operator.ge,
    "LessThan": operator.lt,
    "LessThanEqual": operator.le,
}
_VALUES: Final[Mapping[str, str]] = {"number": "valueNumber", "text": "valueText", "boolean": "valueBoolean"}


class Refused(Exception):
    """What the server does not take; the text is its message."""


def passes(where: Mapping[str, Any], schema: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    """Whether an object passes. `held` is the object as it was written, of a class with this schema."""
    name = where["operator"]
    if name in {"And", "Or", "Not"}:
        if set(where) != {"operator", "operands"} or not where["operands"]:
            raise Refused(f"invalid where filter: operator {name} needs operands")
        parts = [passes(part, schema, held) for part in where["operands"]]
        if name == "Not":
            [part] = parts
            return not part
        return all(parts) if name == "And" else any(parts)
    [path] = where["path"]
    if path == "id":
        return name == "ContainsAny" and held["id"] in _operands(where, "text", many=True)
    return _property_passes(where, path, _property(schema, path), held)


def _property_passes(
    where: Mapping[str, Any], path: str, declared: Mapping[str, Any], held: Mapping[str, Any]
) -> bool:
    if declared.get("indexFilterable") is False:
        raise Refused(f"Filtering by property '{path}' requires inverted index")
    kind = declared["dataType"][0].removesuffix("[]")
    tokens = _tokens(held["properties"].get(path), kind)
    many = where["operator"] == "ContainsAny"
    wanted = [token for value in _operands(where, kind, many=many) for token in _tokens(value, kind)]
    if not wanted:
        raise Refused("invalid search term, only stopwords provided")
    compare = _COMPARE["Equal" if many else where["operator"]]
    return any(compare(token, value) for token in tokens for value in wanted)


def _property(schema: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    for declared in schema["properties"]:
        if declared["name"] == path:
            found: Mapping[str, Any] = declared
            return found
    raise Refused(f"no such prop with name '{path}' found in class '{schema['class']}' in the schema")


def _operands(where: Mapping[str, Any], kind: str, *, many: bool) -> list[Any]:
    key = _VALUES[kind] + ("Array" if many else "")
    if set(where) != {"operator", "path", key}:
        raise Refused(f"invalid where filter: data type filter cannot use {sorted(set(where))} on {kind}")
    return list(where[key]) if many else [where[key]]


def _tokens(value: Any, kind: str) -> list[Any]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if kind != "text":
        return values
    return [item.strip() for item in values if item.strip()]
