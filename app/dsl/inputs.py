"""The `inputs` of a workflow: a JSON Schema (2020-12) for an object, and applying it to a run's inputs.

A schema comes from a caller and runs on every submission: patterns have no backtracking, nothing is
fetched, and its cost is bounded (`app.dsl.schema_bounds`). Messages do not repeat the values they refuse.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import jsonschema_rs

from app.dsl.findings import Findings
from app.dsl.schema_bounds import SchemaBounds
from app.dsl.spelling import Speller
from app.ports.errors import InputsInvalid
from app.ports.problems import Problem, pointer
from app.steps.schemas import DIALECT, fault, is_current, malformed

MOST_PROBLEMS: Final = 100
MASK: Final = "the value"
KEYWORDS: Final = frozenset(
    [
        *("$schema", "$id", "$comment", "$defs", "definitions", "$ref"),
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("type", "enum", "const", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
        *("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
        *("minProperties", "maxProperties", "dependentRequired", "dependentSchemas"),
        "unevaluatedProperties",
    ]
)
"""What means something at the top of a schema for an object."""
_DECLARES_MORE: Final = frozenset(
    {"$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas"}
)
"""Keywords that may speak of inputs that `properties` does not name."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a workflow takes. Without a schema it takes any object."""

    schema: Mapping[str, Any] | None = None
    names: frozenset[str] = frozenset()
    """Declared inputs."""
    closed: bool = False
    """Whether a reference to any other input is a mistake."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    validator: jsonschema_rs.Validator | None = None

    def validate(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs with the schema's defaults for those absent. Raises `InputsInvalid`."""
        complete = dict(inputs)
        for name, default in self.defaults.items():
            if name not in complete:
                complete[name] = copy.deepcopy(default)
        if self.validator is not None and not self.validator.is_valid(complete):
            raise InputsInvalid(self.problems(complete))
        return complete

    def problems(self, value: Any) -> list[Problem]:
        """What is wrong with a value, each with its place in it."""
        if self.validator is None:
            return []
        errors = islice(self.validator.iter_errors(value), MOST_PROBLEMS)
        speller = Speller(2 * MOST_PROBLEMS)
        return [problem for error in errors for problem in self._problems(error, speller)]

    def _problems(self, error: jsonschema_rs.ValidationError, speller: Speller) -> Iterator[Problem]:
        where = error.instance_path
        match error.kind:
            case jsonschema_rs.ValidationErrorKind.Required(property=name):
                yield Problem(pointer=pointer(*where), detail=f"{name!r} is missing", hint=f"add {name!r}")
            case jsonschema_rs.ValidationErrorKind.AdditionalProperties(unexpected=names):
                for name in names[:MOST_PROBLEMS]:
                    yield Problem(
                        pointer=pointer(*where, name),
                        detail=f"{name!r} is not declared",
                        hint=None if where else speller.hint(name, self.names),
                    )
            case _:
                yield Problem(pointer=pointer(*where), detail=error.message)


def compile_inputs(schema: Mapping[str, Any] | None, findings: Findings, *, under: str) -> Inputs:
    """A document's `inputs`, checked. `under` is where they stand; problems go to `findings`."""
    if schema is None:
        return Inputs()
    plain = dict(schema)
    validator = (
        compile_schema(plain, findings, under=under) if _check_meaning(plain, findings, under) else None
    )
    return Inputs(schema) if validator is None else _inputs(plain, validator, findings, under)


def plain_inputs(schema: dict[str, Any]) -> Inputs:
    """Inputs by a schema of our own, with `properties` and nothing that speaks of others."""
    validator = jsonschema_rs.Draft202012Validator(schema, offline=True, mask=MASK)
    return Inputs(schema=schema, names=frozenset(schema["properties"]), closed=True, validator=validator)


def validate_answer(form: Mapping[str, Any], data: Any) -> None:
    """Hold data against a form, a JSON Schema that was checked with its document. Raises `InputsInvalid`."""
    validator = jsonschema_rs.Draft202012Validator(
        dict(form),
        offline=True,
        validate_formats=True,
        mask=MASK,
        pattern_options=jsonschema_rs.RegexOptions(),
    )
    if not validator.is_valid(data):
        if data is None and form.get("type") == "object":
            raise InputsInvalid([_no_data(form)])
        shape = Inputs(form, frozenset(form.get("properties", ())), validator=validator)
        raise InputsInvalid(shape.problems(data))


def _no_data(form: Mapping[str, Any]) -> Problem:
    """The problem of an answer that fills nothing in."""
    wanted = [str(name) for name in form.get("required", ())][:MOST_PROBLEMS]
    fields = ", ".join(f'"{name}": …' for name in wanted)
    listed = f"; the form requires {', '.join(map(repr, wanted))}" if wanted else ""
    return Problem(pointer="", detail="the form is not filled in", hint=f'add "data": {{{fields}}}{listed}')


def compile_schema(
    schema: dict[str, Any], findings: Findings, *, under: str
) -> jsonschema_rs.Validator | None:
    """A caller's JSON Schema of anything. None, and problems in `findings`, for one that cannot be used."""
    if not _check_form(schema, findings, under):
        return None
    bounds = SchemaBounds(schema)
    findings.extend(bounds.problems, under=under)
    if bounds.problems:
        return None
    try:
        return jsonschema_rs.Draft202012Validator(
            schema,
            offline=True,
            validate_formats=True,
            mask=MASK,
            pattern_options=jsonschema_rs.RegexOptions(),
        )
    except jsonschema_rs.ValidationError as error:
        findings.extend([fault(error)], under=under)
        return None


def _check_meaning(schema: dict[str, Any], findings: Findings, under: str) -> bool:
    """What a valid schema may still get wrong as a description of inputs."""
    fine = True
    if schema.get("type", "object") not in ("object", ["object"]):
        findings.add(f"{under}/type", "inputs are always an object", "write 'type: object' and 'properties'")
        fine = False
    for keyword in schema:
        if keyword not in KEYWORDS and not keyword.startswith("x-"):
            near = findings.spelling.nearest(keyword, KEYWORDS, likeness=0.75)
            hint = f"did you mean {near!r}?" if near else None
            findings.add(
                under + pointer(keyword),
                f"{keyword!r} is no keyword of a JSON Schema for an object",
                hint or f"declare an input as 'properties: {{{keyword[:40]}: {{type: string}}}}'",
            )
            fine = False
    return fine


def _check_form(schema: dict[str, Any], findings: Findings, under: str) -> bool:
    """Hold the schema against the meta-schema."""
    if not is_current(schema):
        findings.add(f"{under}/$schema", "only JSON Schema 2020-12 is understood", f"write {DIALECT!r}")
        return False
    faults = list(malformed(schema))
    findings.extend(faults, under=under)
    return not faults


def _inputs(
    schema: dict[str, Any], validator: jsonschema_rs.Validator, findings: Findings, under: str
) -> Inputs:
    properties = schema.get("properties", {})
    defaults = {
        name: member["default"]
        for name, member in properties.items()
        if isinstance(member, Mapping) and "default" in member
    }
    for error in islice(validator.iter_errors(defaults), MOST_PROBLEMS):
        if error.instance_path:
            name = str(error.instance_path[0])
            findings.add(
                f"{under}/properties{pointer(name)}/default",
                f"the default does not fit: {error.message}",
                "change the default or the schema",
            )
    more = schema.get("additionalProperties", schema.get("unevaluatedProperties"))
    closed = more is False or (more is None and bool(properties))
    return Inputs(
        schema=schema,
        names=frozenset(properties),
        closed=closed and not (_DECLARES_MORE & schema.keys()),
        defaults=defaults,
        validator=validator,
    )
