"""How the body of a batch is read: one JSON object, or the inputs of one run a line.

Parsed beside the event loop and checked in slices, because a batch is as large as a body may be and the
loop has others to serve. What does not belong here: whether the inputs fit the workflow (services).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import Query
from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from app.api.bodies import malformed, media_type_of, parsed, placed, unsupported
from app.api.problems import ParameterProblem, Refused, invalid_request
from app.api.v1.schemas.batches import BatchRun, SubmitBatch
from app.api.v1.schemas.runs import WorkflowName, WorkflowVersion
from app.api.wording import MAX_ERRORS, body_errors
from app.dsl.strict_json import MalformedJson
from app.engines.pace import Pace
from app.ports.errors import DefinitionInvalid, InputsInvalid
from app.ports.problems import Problem
from app.services import batches
from app.services.batches import MOST_RUNS, BatchRequest
from app.services.errors import ServiceError, rejection
from app.steps.transforms.function import kind_of

LINES_TYPE: Final = "application/x-ndjson"

_OF_RUN: Final = re.compile(r"/runs/([0-9]+)(?:/|$)")


class _Envelope(SubmitBatch):
    """A batch whose runs are checked one by one."""

    runs: Annotated[list[Any], Field(min_length=1, max_length=MOST_RUNS)]


WorkflowOfLines = Annotated[
    WorkflowName | None, Query(description="Name of the registered workflow that lines are inputs of")
]
VersionOfLines = Annotated[
    WorkflowVersion | None, Query(description="Its version, for lines; the newest if absent")
]


async def read_batch(request: Request, workflow: str | None, version: str | None) -> BatchRequest:
    """What is asked for. Raises `Refused` (400, 415, 422) with every fault's place."""
    media_type = media_type_of(request)
    if media_type == LINES_TYPE:
        if workflow is None:
            hint = "name the registered workflow, as in ?workflow=NAME"
            raise Refused(invalid_request([_parameter("workflow", "is missing", hint)]))
        return await _lines(await request.body(), workflow, version)
    if media_type != "application/json":
        raise Refused(unsupported(f"application/json or {LINES_TYPE}"))
    for name, value in (("workflow", workflow), ("version", version)):
        if value is not None:
            hint = f"state it in the body, or send the inputs as {LINES_TYPE}"
            raise Refused(invalid_request([_parameter(name, "belongs to lines", hint)]))
    return await _object(await request.body())


def _parameter(name: str, detail: str, hint: str) -> ParameterProblem:
    return ParameterProblem(parameter=name, location="query", detail=f"{name!r} {detail}", hint=hint)


# --- one object ---------------------------------------------------------------------------------------


async def _object(body: bytes) -> BatchRequest:
    try:
        value = await parsed(body)
    except MalformedJson as error:
        raise Refused(malformed(error.problem)) from error
    try:
        envelope = _Envelope.model_validate(value)
    except ValidationError as error:
        raise Refused(invalid_request(body_errors(_errors(error), value, SubmitBatch))) from error
    runs = await _runs(envelope.runs, value)
    return BatchRequest(
        workflow=envelope.workflow, version=envelope.version, runs=runs, labels=envelope.labels
    )


async def _runs(items: Sequence[Any], value: Any) -> list[batches.BatchRun]:
    pace = Pace()
    errors: list[ErrorDetails] = []
    runs = []
    for position, item in enumerate(items):
        try:
            run = BatchRun.model_validate(item)
        except ValidationError as error:
            errors += [_moved(one, position) for one in _errors(error)]
            if len(errors) >= MAX_ERRORS:
                break
        else:
            runs.append(
                batches.BatchRun(
                    inputs=run.inputs,
                    labels=run.labels,
                    priority=run.priority,
                    timeout_seconds=run.timeout_seconds,
                    budget=run.budget.given() if run.budget else None,
                )
            )
        await pace.keep()
    if errors:
        raise Refused(invalid_request(body_errors(errors, value, SubmitBatch)))
    return runs


def _errors(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False)


def _moved(error: ErrorDetails, position: int) -> ErrorDetails:
    moved = error.copy()
    moved["loc"] = ("runs", position, *error["loc"])
    return moved


# --- lines --------------------------------------------------------------------------------------------


async def _lines(body: bytes, workflow: str, version: str | None) -> BatchRequest:
    """Every line is looked at before any is refused, up to `MAX_ERRORS` that are wrong."""
    pace = Pace()
    position = 0
    runs: list[batches.BatchRun] = []
    unreadable: list[Problem] = []
    problems: list[Problem] = []
    for number, line in enumerate(body.split(b"\n"), start=1):
        if not line.strip():
            continue
        if position == MOST_RUNS:
            detail = f"a batch holds at most {MOST_RUNS:,} runs"
            problems.append(Problem(pointer="/runs", detail=detail, hint="send the rest as another batch"))
            break
        under = f"/runs/{position}/inputs"
        position += 1
        try:
            runs.append(batches.BatchRun(inputs=_object_of(await parsed(line))))
        except MalformedJson as error:
            found = error.problem
            unreadable.append(
                replace(
                    found, pointer=under + found.pointer, detail=f"line {number}: {found.detail}", line=number
                )
            )
        except TypeError as error:
            detail = f"line {number} should be an object and is {error}"
            problems.append(Problem(pointer=under, detail=detail, hint="write {…}", line=number))
        if len(unreadable) + len(problems) >= MAX_ERRORS:
            break
        await pace.keep()
    if not position:
        problems.append(Problem(pointer="/runs", detail="there is no line", hint="send 1 line for each run"))
    if unreadable:
        raise Refused(malformed(*sorted([*unreadable, *problems], key=lambda one: one.line or 0)))
    if problems:
        raise Refused(invalid_request(problems))
    return BatchRequest(workflow=workflow, version=version, runs=runs)


def _object_of(value: Any) -> dict[str, Any]:
    """The value itself. Raises `TypeError`, which says what else it is."""
    if not isinstance(value, dict):
        raise TypeError(kind_of(value))
    return value


# --- places -------------------------------------------------------------------------------------------


async def located_in_batch(
    error: DefinitionInvalid | InputsInvalid, request: Request, body: bytes
) -> ServiceError:
    """The problems of a batch with their places in what its author wrote."""
    defective = isinstance(error, DefinitionInvalid)
    under = "/workflow" if defective else ""
    if media_type_of(request) == LINES_TYPE:
        numbers = [number for number, line in enumerate(body.split(b"\n"), start=1) if line.strip()]
        problems: Sequence[Problem] = [replace(one, line=_line(one, numbers)) for one in error.problems]
    else:
        problems = await placed(error.problems, body, under=under)
    return rejection(DefinitionInvalid(problems) if defective else InputsInvalid(problems))


def _line(problem: Problem, numbers: Sequence[int]) -> int | None:
    """The line of `/runs/N/…`."""
    match = _OF_RUN.match(problem.pointer)
    return None if match is None else numbers[int(match[1])]


def example_content(json_example: Mapping[str, Any], lines_example: str) -> dict[str, Any]:
    """The bodies as OpenAPI documents them."""
    lines = {"type": "string", "description": "The inputs of one run a line"}
    return {
        "application/json": {
            "schema": {"$ref": f"#/components/schemas/{SubmitBatch.__name__}"},
            "example": json_example,
        },
        LINES_TYPE: {"schema": lines, "example": lines_example},
    }
