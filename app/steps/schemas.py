"""What is wrong with a JSON Schema that an author wrote, and where in it.

Held against the meta-schema of 2020-12. Whether it describes what it stands for, and what it may cost, is
decided where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote

import jsonschema_rs

from app.ports.problems import Problem, pointer
from app.steps.suggest import did_you_mean
from app.steps.transforms.function import kind_of

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
TYPES: Final = ("string", "number", "integer", "boolean", "array", "object", "null")
MOST_FAULTS: Final = 100
_SHAPES: Final[Mapping[str, str]] = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_MASK: Final = "the value"
"""What the validator says for the value, which may be long."""
_PATTERN_RULE: Final = "patterns are plain regular expressions without look-around and back-references"
_PLAIN_DATA: Final = frozenset({"const", "default", "enum", "examples"})

Parts = tuple[str | int, ...]


def is_current(schema: Mapping[str, Any]) -> bool:
    """Whether a schema says nothing of its dialect, or is of 2020-12."""
    return schema.get("$schema", DIALECT) in (DIALECT, DIALECT + "#")


def malformed(schema: Any) -> Iterator[Problem]:
    """What the meta-schema has against a schema, with pointers into it; at most `MOST_FAULTS`."""
    meta = jsonschema_rs.Draft202012Validator(
        {"$ref": DIALECT}, offline=True, validate_formats=True, mask=_MASK
    )
    if not meta.is_valid(schema):
        for error in islice(meta.iter_errors(schema), MOST_FAULTS):
            yield fault(error)


def lost_references(schema: Mapping[str, Any]) -> Iterator[Problem]:
    """References that lead out of a schema, or nowhere in it."""
    waiting: list[tuple[Any, Parts]] = [(schema, ())]
    while waiting:
        value, parts = waiting.pop()
        if isinstance(value, list):
            waiting.extend((item, (*parts, number)) for number, item in enumerate(value))
        elif isinstance(value, Mapping):
            waiting.extend((item, (*parts, key)) for key, item in value.items() if key not in _PLAIN_DATA)
            if isinstance(value.get("$ref"), str):
                yield from _lost(schema, value["$ref"], (*parts, "$ref"))


def _lost(schema: Mapping[str, Any], reference: str, parts: Parts) -> Iterator[Problem]:
    if not reference.startswith("#"):
        detail = f"{reference[:100]!r} leaves the schema, and nothing is fetched"
        yield Problem(pointer=pointer(*parts), detail=detail, hint="refer to '#/$defs/<name>'")
    elif reference.startswith("#/"):
        target: Any = schema
        for name in reference.split("/")[1:]:
            target = _member(target, unquote(name).replace("~1", "/").replace("~0", "~"))
        if target is None:
            detail = f"{reference[:100]!r} does not exist"
            yield Problem(pointer=pointer(*parts), detail=detail, hint="define it under '$defs'")


def _member(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(value):
        return value[int(key[:9])]
    return None


def fault(error: jsonschema_rs.ValidationError) -> Problem:
    """One thing that is wrong with a schema."""
    path = error.instance_path
    where = pointer(*path)
    subject = _subject(path)
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.AnyOf() if path and path[-1] == "type":
            return _no_type(where, error.instance)
        case jsonschema_rs.ValidationErrorKind.Enum() if "type" in path:
            return _no_type(where, error.instance)
        case jsonschema_rs.ValidationErrorKind.Type(types=types):
            wanted = " or ".join(_SHAPES.get(name, name) for name in types)
            return Problem(
                pointer=where,
                detail=f"{subject} should be {wanted} and is {kind_of(error.instance)}",
                hint=_hint(path, error.instance),
            )
        case jsonschema_rs.ValidationErrorKind.Format(format="regex"):
            return Problem(
                pointer=where, detail=f"{subject} is no regular expression that is taken", hint=_PATTERN_RULE
            )
        case _:
            return Problem(pointer=where, detail=f"{subject} {error.message.removeprefix(_MASK).strip()}")


def _no_type(where: str, value: Any) -> Problem:
    if isinstance(value, list):
        value = next((name for name in value if name not in TYPES), value)
    if isinstance(value, str):
        return Problem(pointer=where, detail="this is no JSON type", hint=did_you_mean(value[:40], TYPES))
    hint = "use one of " + ", ".join(map(repr, TYPES)) + ", or a list of these"
    return Problem(pointer=where, detail="this is no JSON type", hint=hint)


def _hint(path: Sequence[str | int], value: Any) -> str | None:
    """What newcomers mean by the commonest mistakes."""
    last = path[-1] if path else None
    if last == "required" and isinstance(value, bool):
        return "list the names of what is required beside 'properties': required: [a, b]"
    if last in {"required", "enum"}:
        return f"write {last}: [a, b]"
    if last in {"properties", "$defs", "patternProperties"}:
        return f"write {last}: {{name: {{type: string}}}}"
    if len(path) > 1 and path[-2] in {"properties", "$defs"}:
        return f"write {last}: {{type: string}}"
    return None


def _subject(path: Sequence[str | int]) -> str:
    if not path:
        return "the schema"
    return f"item {path[-1]}" if isinstance(path[-1], int) else repr(path[-1])
