"""How bodies are read: strict JSON for requests, YAML or JSON text for workflow documents.

`StrictRoute` is the route class of the API. FastAPI goes on to read, validate and document bodies; it
only gets a request whose `json()` refuses what parsers disagree about, and no body of another media type.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from app.api.problems import Refusal, Refused, plain_refusal
from app.dsl.loader import Format, LoadedDocument
from app.dsl.strict_json import MalformedJson, parse_strict_json
from app.ports.errors import DefinitionInvalid, InputsInvalid
from app.ports.problems import Problem
from app.services.errors import ServiceError, rejection

MAX_DEPTH: Final = 64
YAML_TYPES: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})


class StrictRequest(Request):
    """A request whose JSON has one meaning."""

    async def json(self) -> Any:
        """The parsed body. Raises `Refused` (400) with the first fault's place."""
        try:
            return parse_strict_json(await self.body(), max_depth=MAX_DEPTH)
        except MalformedJson as error:
            raise Refused(_malformed(error.problem)) from error


class StrictRoute(APIRoute):
    """A route that takes JSON bodies only, and strict ones."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_strictly(request: Request) -> Response:
            require_json(request)
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly


def require_json(request: Request) -> None:
    """Raise `Refused` (415) for a body of another type."""
    if not _is_json(_media_type(request)) and _has_body(request):
        raise Refused(_unsupported("application/json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSource:
    """A workflow document as sent."""

    body: bytes
    format: Format


async def _document_source(request: Request) -> DocumentSource:
    media_type = _media_type(request)
    if _is_json(media_type):
        return DocumentSource(body=await request.body(), format="json")
    if media_type in YAML_TYPES:
        return DocumentSource(body=await request.body(), format="yaml")
    raise Refused(_unsupported("application/yaml or application/json"))


DocumentBody = Annotated[DocumentSource, Depends(_document_source)]
"""A workflow document in the body. OpenAPI does not see it: the route declares its `requestBody`."""


def located(error: DefinitionInvalid | InputsInvalid, body: bytes) -> ServiceError:
    """The problems of a run request with their places in the JSON body that its author wrote."""
    under = "/workflow" if isinstance(error, DefinitionInvalid) else "/inputs"
    whole = LoadedDocument(None, text=body.decode(), written_in="json")
    problems = []
    for problem in error.problems:
        pointer = under + problem.pointer
        line, column = whole.locate(pointer) or (None, None)
        problems.append(replace(problem, pointer=pointer, line=line, column=column))
    if isinstance(error, DefinitionInvalid):
        return rejection(DefinitionInvalid(problems))
    return rejection(InputsInvalid(problems))


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )


def _has_body(request: Request) -> bool:
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _malformed(problem: Problem) -> Refusal:
    return Refusal(
        status=400,
        code="malformed_body",
        title="The body is not acceptable JSON",
        detail=f"the body cannot be read: {problem.detail}",
        errors=[problem],
    )


def _unsupported(accepted: str) -> Refusal:
    return plain_refusal(
        415, f"send the body with Content-Type: {accepted}", {"Accept": accepted.replace(" or", ",")}
    )
