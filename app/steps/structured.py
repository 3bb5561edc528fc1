"""Structured answers: the JSON Schema of a step, and a model's text read and checked against it.

Schemas come from workflow documents, so compiling one fetches nothing (references stay inside the
document) and its patterns run on an engine without backtracking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import orjson

from app.ports.errors import PermanentError, TemporaryError
from app.ports.problems import Problem, pointer
from app.steps.schemas import fault, is_current, lost_references, malformed

MOST_FAULTS: Final = 3
"""Of one answer."""
MOST_SAID: Final = 160
"""Characters of what the validator says of one of them."""
_FENCE: Final = "```"


class UnfitAnswer(TemporaryError):
    """A model's answer is no JSON, or does not fit the schema; asked again, it may answer better.

    `faults` say what is wrong, at more length than the message: they may repeat parts of the answer.
    """

    def __init__(self, message: str, faults: Sequence[str]) -> None:
        super().__init__("invalid_output", message)
        self.faults = tuple(faults)


def schema_problems(schema: Mapping[str, Any]) -> list[Problem]:
    """Why a schema cannot be used, with pointers into it; empty if it can."""
    found = [*malformed(schema), *lost_references(schema)] if is_current(schema) else []
    if found:
        return found
    try:
        _validator(schema)
    except jsonschema_rs.ValidationError as error:
        return [fault(error)]
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        return [
            Problem(
                pointer="",
                detail=f"this is no usable JSON Schema: {_first_line(error)}",
                hint="references must stay inside the schema",
            )
        ]
    return []


def unfenced(text: str) -> str:
    """The text without surrounding white space and without one Markdown code fence around all of it."""
    stripped = text.strip()
    language, newline, rest = stripped.removeprefix(_FENCE).partition("\n")
    fenced = stripped.startswith(_FENCE) and newline and rest.endswith(_FENCE) and " " not in language.strip()
    return rest.removesuffix(_FENCE).strip() if fenced else stripped


def parse_answer(text: str, schema: Mapping[str, Any], *, cut_off: bool) -> Any:
    """The value that a model's answer holds, valid under the schema.

    Raises `UnfitAnswer` when the text is no JSON or does not fit, and `PermanentError("invalid_config")`
    for an unusable schema.
    """
    try:
        validator = _validator(schema)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        raise PermanentError(
            "invalid_config", f"'response_schema' is no usable JSON Schema: {_first_line(error)}"
        ) from None
    try:
        value = orjson.loads(unfenced(text))
    except orjson.JSONDecodeError as error:
        fault = f"{error.msg}, position {error.pos}"
        advice = "it was cut off: raise 'max_tokens'" if cut_off else fault
        raise UnfitAnswer(f"the model's answer is no JSON ({advice})", [f"it is no JSON ({fault})"]) from None
    failures = list(islice(validator.iter_errors(value), MOST_FAULTS))
    if not failures:
        return value
    broken = [_broken(failure) for failure in failures]
    said = [_first_line(failure)[:MOST_SAID] for failure in failures]
    raise UnfitAnswer(
        f"the model's answer does not fit 'response_schema': {broken[0]}",
        [f"{rule}: {reason}" for rule, reason in zip(broken, said, strict=True)],
    )


def _broken(failure: jsonschema_rs.ValidationError) -> str:
    where = pointer(*failure.instance_path) or "the answer"
    rule = pointer(*failure.schema_path) or "the schema"
    return f"{where!r} breaks {rule!r}"


def _validator(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(
        dict(schema), offline=True, pattern_options=jsonschema_rs.RegexOptions()
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
