"""A model's refusals, in an author's words and with pointers into the document.

Pydantic counts the branches of a union as part of the way to a value; an author's document does not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.dsl.findings import Findings
from app.ports.problems import pointer

MOST_KEYS: Final = 40
"""Keys that one hint lists at most."""
_QUOTED: Final = re.compile(r"'([^']*)'")
_SHAPES: Final[Mapping[str, tuple[str, str]]] = {
    "string_type": ("text", "write it in quotes to make it text"),
    "int_type": ("a whole number", "write a whole number, without quotes"),
    "float_type": ("a number", "write a number, without quotes"),
    "bool_type": ("true or false", "write true or false, without quotes"),
    "list_type": ("a list", "write [a, b], or one item a line with a dash"),
    "dict_type": ("a mapping", "write one 'key: value' a line"),
    "model_type": ("a mapping", "write one 'key: value' a line"),
}
"""Types of errors → what the value should be, and how to write that."""
_PATTERNS: Final[Mapping[str, str]] = {
    "id": "use 1 to 64 letters, digits, '_' and '-'; begin with a letter or '_'",
    "output": "use 1 to 64 letters, digits and '_'; begin with a letter or '_'",
    "name": "use 1 to 128 letters, digits, spaces, '.', '_' and '-'; begin and end with a letter or digit",
    "version": "use 1 to 64 letters, digits, '.', '_', '+' and '-'; begin with a letter or digit",
}


def report(
    error: ValidationError,
    findings: Findings,
    *,
    value: Any,
    under: str,
    model: type[BaseModel],
    further_keys: Collection[str] = (),
) -> None:
    """Add what a model refused. `value` stands at `under`, where `further_keys` are known as well."""
    for wrong in error.errors(include_url=False, include_context=True, include_input=False):
        parts = list(_existing(value, wrong["loc"]))
        where = under + pointer(*parts)
        name = parts[-1] if parts else None
        match wrong["type"]:
            case "missing":
                findings.add(where, f"{wrong['loc'][-1]!r} is missing", f"add {wrong['loc'][-1]!r}")
            case "extra_forbidden":
                known = _keys(model, parts[:-1])
                if len(parts) == 1:
                    known = sorted({*known, *further_keys})
                findings.add(
                    where, f"unknown key {name!r}", findings.spelling.hint(str(name), known, few=MOST_KEYS)
                )
            case "literal_error":
                found, choices = _at(value, parts), _QUOTED.findall(wrong["msg"])
                hint = findings.spelling.hint(found, choices) if isinstance(found, str) else None
                findings.add(where, _detail(name, wrong), hint)
            case kind:
                hint = _SHAPES[kind][1] if kind in _SHAPES else _PATTERNS.get(_last_name(parts))
                findings.add(where, _detail(name, wrong), hint)


def _existing(value: Any, location: tuple[int | str, ...]) -> Iterator[int | str]:
    """The steps of a location that lead somewhere in the value."""
    for step in location:
        if isinstance(value, Mapping) and step in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            continue
        yield step


def _at(value: Any, parts: Sequence[int | str]) -> Any:
    for part in parts:
        value = value[part]
    return value


def _last_name(parts: Sequence[int | str]) -> str:
    return next((part for part in reversed(parts) if isinstance(part, str)), "")


def _detail(name: int | str | None, wrong: ErrorDetails) -> str:
    subject = "this" if name is None else f"item {name}" if isinstance(name, int) else repr(name)
    if wrong["type"] in _SHAPES:
        return f"{subject} should be {_SHAPES[wrong['type']][0]}"
    if wrong["type"] == "string_pattern_mismatch":
        return f"{subject} has characters or a length that are not accepted"
    message = wrong["msg"].removeprefix("Value error, ").partition(" after validation")[0]
    rest = message.partition(" ")[2]
    if rest.startswith("should "):
        return f"{subject} {rest}"
    return message if name is None else f"{subject}: {message}"


def _keys(model: type[BaseModel], parts: list[int | str]) -> list[str]:
    """The keys that a model knows at a place inside it; none where that cannot be told."""
    for part in parts:
        if isinstance(part, int):
            continue
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        inner = list(_models(fields[part].annotation)) if part in fields else []
        if len(inner) != 1:
            return []
        model = inner[0]
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
