"""How requests are read: strict JSON bodies, YAML or JSON text for workflow documents, known parameters.

`StrictRoute` is the route class of the API. FastAPI goes on to read, validate and document bodies; it
only gets a request whose `json()` refuses what parsers disagree about, and no body of another media type.
A query parameter that the operation does not have is refused: a misspelt filter must not widen a list.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from fastapi import Depends
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.problems import Refusal, Refused, invalid_request, plain_refusal
from app.api.wording import unknown_parameters
from app.dsl.loader import Format, LoadedDocument
from app.dsl.strict_json import MalformedJson, parse_strict_json
from app.ports.errors import DefinitionInvalid, InputsInvalid
from app.ports.problems import Problem
from app.ports.turns import computed
from app.services.errors import ServiceError, rejection

MAX_DEPTH: Final = 64
LOCATED_BYTES: Final = 256 * 1024
"""Finding lines takes 12 µs for each value of a body; in a larger one only pointers are told."""
SMALL_BODY: Final = 4096
"""Bytes of a body in which they are found on the spot."""
QUICK_JSON: Final = 64 * 1024
"""Bytes of JSON that are parsed on the spot; to find the fault in some MiB takes seconds."""
NULL_BODY: Final = Problem(pointer="", detail="the body is null", hint="send an object, or no body at all")
YAML_TYPES: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})


class StrictRequest(Request):
    """A request whose JSON has one meaning."""

    async def json(self) -> Any:
        """The parsed body. Raises `Refused`: 400 with the first fault's place, 422 for one that is null."""
        try:
            value = await parsed(await self.body())
        except MalformedJson as error:
            raise Refused(malformed(error.problem)) from error
        if value is None:
            raise Refused(invalid_request([NULL_BODY]))
        return value


async def parsed(text: bytes) -> Any:
    """The value of a JSON text. Raises `MalformedJson` with the first fault's place."""
    if len(text) <= QUICK_JSON:
        return parse_strict_json(text, max_depth=MAX_DEPTH)
    return await computed(parse_strict_json, text, max_depth=MAX_DEPTH)


class StrictRoute(APIRoute):
    """A route that takes JSON bodies only, and strict ones, and no query parameter that it does not know."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        declared = [it for it in get_flat_params(self.dependant) if isinstance(it.field_info, Query)]
        documented = (self.openapi_extra or {}).get("parameters", ())
        by_hand = [one["name"] for one in documented if one["in"] == "query"]
        self._query = tuple(dict.fromkeys([*(field.alias for field in declared), *by_hand]))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at the query before anything else reads the request."""
        if scope["query_string"] and scope["method"] in (self.methods or ()):
            unknown = [name for name in _names(scope["query_string"]) if name not in self._query]
            if unknown:
                raise Refused(invalid_request(unknown_parameters(unknown, self._query)))
        await super().handle(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_strictly(request: Request) -> Response:
            require_json(request)
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly


@lru_cache(maxsize=256)
def _names(query_string: bytes) -> tuple[str, ...]:
    """The parameters of a query; kept, for callers ask for the same again."""
    given = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)
    return tuple(name for name, _ in given)


def require_json(request: Request) -> None:
    """Raise `Refused` (415) for a body of another type."""
    if not _is_json(media_type_of(request)) and _has_body(request):
        raise Refused(unsupported("application/json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSource:
    """A workflow document as sent."""

    body: bytes
    format: Format


async def _document_source(request: Request) -> DocumentSource:
    media_type = media_type_of(request)
    if _is_json(media_type):
        return DocumentSource(body=await request.body(), format="json")
    if media_type in YAML_TYPES:
        return DocumentSource(body=await request.body(), format="yaml")
    raise Refused(unsupported("application/yaml or application/json"))


DocumentBody = Annotated[DocumentSource, Depends(_document_source)]
"""A workflow document in the body. OpenAPI does not see it: the route declares its `requestBody`."""


async def located(error: DefinitionInvalid | InputsInvalid, body: bytes) -> ServiceError:
    """The problems of a run request with their places in the JSON body that its author wrote."""
    under = "/workflow" if isinstance(error, DefinitionInvalid) else "/inputs"
    problems = await placed(error.problems, body, under=under)
    if isinstance(error, DefinitionInvalid):
        return rejection(DefinitionInvalid(problems))
    return rejection(InputsInvalid(problems))


async def placed(problems: Sequence[Problem], body: bytes, *, under: str = "") -> list[Problem]:
    """Problems with their places in a JSON body; their pointers are relative to `under`."""
    whole = [replace(problem, pointer=under + problem.pointer) for problem in problems]
    if not whole or len(body) > LOCATED_BYTES:
        return whole
    if len(body) <= SMALL_BODY:
        return _with_lines(whole, body)
    return await computed(_with_lines, whole, body)


def _with_lines(problems: Sequence[Problem], body: bytes) -> list[Problem]:
    document = LoadedDocument(None, text=body.decode(), written_in="json")
    found = []
    for problem in problems:
        line, column = document.locate(problem.pointer) or (None, None)
        found.append(replace(problem, line=line, column=column))
    return found


def media_type_of(request: Request) -> str:
    """Without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )


def _has_body(request: Request) -> bool:
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def malformed(problem: Problem, *further: Problem) -> Refusal:
    """The refusal of JSON that has no or more than one meaning."""
    more = f", and {len(further)} more; each is listed under errors" if further else ""
    return Refusal(
        status=400,
        code="malformed_body",
        title="The body is not acceptable JSON",
        detail=f"the body cannot be read: {problem.detail}{more}",
        errors=[problem, *further],
    )


def unsupported(accepted: str) -> Refusal:
    """The refusal of a body of another type."""
    return plain_refusal(
        415, f"send the body with Content-Type: {accepted}", {"Accept": accepted.replace(" or", ",")}
    )
