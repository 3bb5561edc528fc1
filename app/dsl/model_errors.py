"""A model's refusals, in an author's words and with pointers into what was sent.

Pydantic counts the branches of a union as part of the way to a value; an author's text does not. What each
branch has against one value is one problem.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from app.dsl.findings import Findings
from app.dsl.spelling import Speller
from app.ports.problems import Problem, pointer
from app.steps.faults import worded

MOST_KEYS: Final = 40
"""Keys that one hint lists at most."""
_QUOTED: Final = re.compile(r"'([^']*)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """How one kind of text is spoken of to its author."""

    shapes: Mapping[str, tuple[str, str]]
    """Types of errors → what the value should be, and how to write that."""
    patterns: Mapping[str, str] = field(default_factory=dict)
    """Patterns, and names of fields that have one → what they ask for."""
    whole: str = "this"
    """What the value itself is called."""


DOCUMENT: Final = Wording(
    shapes={
        "string_type": ("text", "write it in quotes to make it text"),
        "int_type": ("a whole number", "write a whole number, without quotes"),
        "int_from_float": ("a whole number", "write it without a fraction"),
        "float_type": ("a number", "write a number, without quotes"),
        "finite_number": ("a finite number", "write a number, without quotes"),
        "bool_type": ("true or false", "write true or false, without quotes"),
        "list_type": ("a list", "write [a, b], or one item a line with a dash"),
        "dict_type": ("a mapping", "write one 'key: value' a line"),
        "model_type": ("a mapping", "write one 'key: value' a line"),
    },
    patterns={
        "id": "use 1 to 64 letters, digits, '_' and '-'; begin with a letter or '_'",
        "output": "use 1 to 64 letters, digits and '_'; begin with a letter or '_'",
        "name": (
            "use 1 to 128 letters, digits, spaces, '.', '_' and '-'; begin and end with a letter or digit"
        ),
        "version": "use 1 to 64 letters, digits, '.', '_', '+' and '-'; begin with a letter or digit",
    },
)
"""Workflow documents, which are YAML more often than JSON."""


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
    errors = error.errors(include_url=False, include_context=True, include_input=False)
    found = explained(errors, value=value, model=model, spelling=findings.spelling, further_keys=further_keys)
    findings.extend(found, under=under)


def explained(
    errors: Iterable[ErrorDetails],
    *,
    value: Any,
    model: type[BaseModel],
    spelling: Speller,
    wording: Wording = DOCUMENT,
    further_keys: Collection[str] = (),
) -> Iterator[Problem]:
    """What a model has against `value`, with pointers into it."""
    by_place: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for wrong in errors:
        by_place.setdefault(tuple(_existing(value, wrong["loc"])), []).append(wrong)
    # a value that something is wrong within has the shape that one branch of its union wants
    within = {place[:length] for place in by_place for length in range(len(place))}
    for parts, found in by_place.items():
        shapes = [wrong for wrong in found if wrong["type"] in wording.shapes]
        others = [wrong for wrong in found if wrong["type"] not in wording.shapes]
        if shapes and not others and parts not in within:
            yield _misshapen(parts, shapes, wording, _meaning(model, parts))
        for wrong in others:
            match wrong["type"]:
                case "missing":
                    yield _missing(parts, wrong, wording)
                case "extra_forbidden":
                    known = _keys(model, parts[:-1])
                    if len(parts) == 1:
                        known = sorted({*known, *further_keys})
                    hint = spelling.hint(str(parts[-1]), known, few=MOST_KEYS)
                    yield Problem(pointer=pointer(*parts), detail=f"unknown key {parts[-1]!r}", hint=hint)
                case _:
                    yield _unfit(parts, wrong, wording, spelling, _at(value, parts))


def _misshapen(
    parts: Sequence[int | str], found: Sequence[ErrorDetails], wording: Wording, meaning: str | None
) -> Problem:
    """Where several shapes are possible, what the field is for says more than how to write each."""
    wanted = dict.fromkeys(wording.shapes[wrong["type"]] for wrong in found)
    shapes = " or ".join(shape for shape, _ in wanted)
    hint = ", or ".join(hint for _, hint in wanted)
    if meaning and len(wanted) > 1:
        hint = "give " + meaning[:1].lower() + meaning[1:]
    return Problem(
        pointer=pointer(*parts), detail=f"{_subject(parts, wording)} should be {shapes}", hint=hint
    )


def _missing(parts: Sequence[int | str], wrong: ErrorDetails, wording: Wording) -> Problem:
    if not wrong["loc"]:
        hint = wording.shapes["model_type"][1]
        return Problem(pointer="", detail=f"{wording.whole} is missing", hint=hint)
    name = wrong["loc"][-1]
    return Problem(pointer=pointer(*parts), detail=f"{name!r} is missing", hint=f"add {name!r}")


def _unfit(
    parts: Sequence[int | str], wrong: ErrorDetails, wording: Wording, spelling: Speller, value: Any
) -> Problem:
    if wrong["type"] == "literal_error":
        choices = _QUOTED.findall(wrong["msg"])
        near = spelling.nearest(value, choices) if isinstance(value, str) else None
        hint = None if near is None else f"did you mean {near!r}?"
    else:
        pattern = str(wrong.get("ctx", {}).get("pattern"))
        # a name says what its pattern asks for only where a pattern refused it: records have an 'id' as well
        by_name = _last_name(parts) if wrong["type"] == "string_pattern_mismatch" else ""
        hint = wording.patterns.get(pattern) or wording.patterns.get(by_name)
    return Problem(pointer=pointer(*parts), detail=_detail(parts, wrong, wording), hint=hint)


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


def _subject(parts: Sequence[int | str], wording: Wording) -> str:
    name = parts[-1] if parts else None
    return wording.whole if name is None else f"item {name}" if isinstance(name, int) else repr(name)


def _detail(parts: Sequence[int | str], wrong: ErrorDetails, wording: Wording) -> str:
    subject = _subject(parts, wording)
    if wrong["type"] == "string_pattern_mismatch":
        return f"{subject} has characters or a length that are not accepted"
    said = worded(wrong["msg"], subject)
    return said if parts else said.removeprefix(f"{subject}: ")


def _keys(model: type[BaseModel], parts: Sequence[int | str]) -> list[str]:
    """The keys that a model knows at a place inside it; none where that cannot be told."""
    inner = _model_at(model, parts)
    return sorted(_fields(inner)) if inner is not None else []


def _meaning(model: type[BaseModel], parts: Sequence[int | str]) -> str | None:
    """What the field at a place is described as."""
    inner = _model_at(model, parts[:-1])
    known = _fields(inner).get(str(parts[-1])) if inner is not None and parts else None
    return known.description if known is not None else None


def _model_at(model: type[BaseModel], parts: Sequence[int | str]) -> type[BaseModel] | None:
    for part in parts:
        if isinstance(part, int):
            continue
        fields = _fields(model)
        inner = list(models_in(fields[part].annotation)) if part in fields else []
        if len(inner) != 1:
            return None
        model = inner[0]
    return model


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)
