"""How an answer is held to a JSON Schema, as OpenAI and servers of its format do it. No I/O.

Strict mode ("Structured Outputs" of OpenAI's documentation) refuses requests whose schema is beyond its
subset. So it is asked for only where the schema is surely within; elsewhere the schema guides the model,
and whoever asked checks the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.ports.models import Message
from app.providers.openai.dialect import StructuredOutputs
from app.providers.prompted_schema import with_schema

STRICT_KEYWORDS: Final = frozenset(
    {"$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "items"}
    | {"properties", "required", "title", "type"}
)
"""JSON Schema keywords that the strict mode is sure to take."""
MOST_LEVELS: Final = 10
"""Objects within objects."""


def held_to(
    schema: Mapping[str, Any], messages: Sequence[Message], way: StructuredOutputs
) -> tuple[Sequence[Message], dict[str, Any] | None]:
    """The turns to send and the `response_format`, if there is one."""
    match way:
        case "json_schema":
            return messages, response_format(schema)
        case "json_object":
            return with_schema(messages, schema), {"type": "json_object"}
        case "prompt":
            return with_schema(messages, schema), None
        case "none":
            return messages, None


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What asks for an answer that fits, strictly if that is possible."""
    named = {"name": "answer", "schema": schema}
    strict = "anyOf" not in schema and schema.get("type") == "object" and _is_strict(schema)
    return {"type": "json_schema", "json_schema": {**named, "strict": True} if strict else named}


def _is_strict(schema: object, level: int = 0) -> bool:
    """Closed objects, every property required, simple keywords, and no value of just any type."""
    if not isinstance(schema, Mapping) or not STRICT_KEYWORDS.issuperset(schema):
        return False
    if "$ref" in schema:
        return len(schema) == 1
    kinds, choices = _kinds(schema), schema.get("anyOf", [])
    properties, definitions = schema.get("properties", {}), schema.get("$defs", {})
    if not isinstance(choices, list) or not isinstance(properties, dict) or not isinstance(definitions, dict):
        return False
    level += "object" in kinds or bool(properties)
    fits = (
        bool(kinds or choices)
        and level <= MOST_LEVELS
        and ("array" not in kinds or "items" in schema)
        and (not ("object" in kinds or properties) or _is_closed(schema, properties))
    )
    inner = [*properties.values(), *choices, *([schema["items"]] if "items" in schema else [])]
    return (
        fits and all(_is_strict(part, level) for part in inner) and all(map(_is_strict, definitions.values()))
    )


def _kinds(schema: Mapping[str, Any]) -> Sequence[Any]:
    kind = schema.get("type", [])
    return kind if isinstance(kind, list) else [kind]


def _is_closed(schema: Mapping[str, Any], properties: Mapping[str, Any]) -> bool:
    required = schema.get("required", [])
    names = set(map(str, required)) if isinstance(required, list) else None
    return schema.get("additionalProperties") is False and names == set(properties)
