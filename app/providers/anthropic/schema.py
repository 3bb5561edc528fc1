"""Answers that have to fit a schema: what of it Anthropic enforces itself.

The vendor enforces a part of JSON Schema (its documentation, "Structured outputs"): closed objects, no
bounds on numbers, texts and lists, no recursion. A schema beyond that goes into the prompt; whoever asked
checks the answer in both cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

KEYWORDS: Final = frozenset(
    {"$defs", "$ref", "additionalProperties", "anyOf", "const", "default", "description", "enum"}
    | {"format", "items", "minItems", "properties", "required", "title", "type"}
)
"""JSON Schema keywords that the vendor takes."""
FORMATS: Final = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"}
)
_TELLING: Final = frozenset({"$ref", "anyOf", "const", "enum", "type"})
"""A schema has one of them, or says nothing that could be enforced."""
_LOCAL: Final = "#/$defs/"
_SCALAR: Final = (str, int, float, bool, type(None))


class _NotTaken(ValueError):
    """The vendor does not take the schema."""


def native_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema as the vendor takes it, its objects closed; None where it would refuse it.

    Whatever fits the closed schema fits the given one.
    """
    try:
        closed = _closed(schema)
        parts = closed.get("$defs", {})
        TopologicalSorter({_LOCAL + name: set(_references(part)) for name, part in parts.items()}).prepare()
    except (_NotTaken, CycleError):
        return None
    return closed


def _closed(schema: object) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or not KEYWORDS.issuperset(schema) or not _TELLING & set(schema):
        raise _NotTaken
    closed = dict(schema)
    for key in ("$defs", "properties"):
        if key in closed:
            closed[key] = {name: _closed(part) for name, part in _expect(closed[key], Mapping).items()}
    if "anyOf" in closed:
        closed["anyOf"] = [_closed(part) for part in _expect(closed["anyOf"], list)]
    if "items" in closed:
        closed["items"] = _closed(closed["items"])
    if "properties" in closed:
        closed.setdefault("additionalProperties", False)
    _check_values(closed)
    return closed


def _check_values(schema: Mapping[str, Any]) -> None:
    kinds = schema.get("type")
    is_object = kinds == "object" or (isinstance(kinds, list) and "object" in kinds)
    # An object without properties is open on purpose; closed it could only be empty.
    of_objects = is_object or "additionalProperties" in schema
    taken = (
        (schema.get("additionalProperties") is False or not of_objects)
        and schema.get("minItems", 0) in (0, 1)
        and str(schema.get("format", "date")) in FORMATS
        and all(isinstance(value, _SCALAR) for value in _expect(schema.get("enum", []), list))
        and isinstance(schema.get("const"), _SCALAR)
        and str(schema.get("$ref", _LOCAL)).startswith(_LOCAL)
    )
    if not taken:
        raise _NotTaken


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise _NotTaken
    return value


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
