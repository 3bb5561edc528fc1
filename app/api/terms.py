"""How a submission wants to be answered: idempotency key, patience, and what a disconnect means."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from fastapi import Depends, Header
from fastapi.exceptions import RequestValidationError
from pydantic import Field, TypeAdapter, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import Request

from app.api.negotiation import MAX_WAIT_SECONDS, preferred_wait
from app.api.problems import Refused, plain_refusal
from app.ports.records import record
from app.services.idempotency import IdempotencyKey, fingerprint

T = TypeVar("T")

KEY_DESCRIPTION: Final = "Makes the request safe to repeat: its first answer is given again, for 24 hours"
KEY_PATTERN: Final = r"^[\x20-\x7e]+$"
KEY_LENGTH: Final = 255
OnDisconnect = Literal["continue", "cancel"]
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_LENGTH,
        pattern=KEY_PATTERN,
        description=KEY_DESCRIPTION,
        examples=["order-4711"],
    ),
]


@record
class Terms:
    """Of one submission. `wait_seconds` None: answer at once."""

    key: str | None
    wait_seconds: int | None
    cancel_on_disconnect: bool


async def _terms(request: Request) -> Terms:
    """Read by hand: declared, four parameters that are seldom sent cost some 60 µs."""
    headers = request.headers
    prefer = _PREFER.read(headers.get("prefer"))
    wait, on_disconnect = _asked(request.scope["query_string"])
    return Terms(
        key=_KEY.read(headers.get("idempotency-key")),
        wait_seconds=preferred_wait(prefer) if wait is None else wait,
        cancel_on_disconnect=on_disconnect == "cancel",
    )


class _Parameter(Generic[T]):
    """One optional parameter: how it is read, and how it is documented."""

    def __init__(
        self, place: Literal["header", "query"], name: str, kind: Any, about: dict[str, Any]
    ) -> None:
        self._place = place
        self._name = name
        self._adapter: TypeAdapter[T] = TypeAdapter(kind)
        self.documented = {
            "name": name,
            "in": place,
            "required": False,
            "schema": self._adapter.json_schema(),
            **about,
        }

    def read(self, value: str | None) -> T | None:
        """The checked value. Raises FastAPI's `RequestValidationError`, as a declared parameter would."""
        if value is None:
            return None
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            found = error.errors(include_url=False)
            raise RequestValidationError(
                [{**one, "loc": (self._place, self._name)} for one in found]
            ) from error


_KEY: _Parameter[str] = _Parameter(
    "header",
    "Idempotency-Key",
    Annotated[str, Field(min_length=1, max_length=KEY_LENGTH, pattern=KEY_PATTERN)],
    {"description": KEY_DESCRIPTION, "example": "order-4711"},
)
_PREFER: _Parameter[str] = _Parameter(
    "header",
    "Prefer",
    Annotated[str, Field(max_length=1000)],
    {
        "description": "`wait=30` waits for the end of the run, at most 60 seconds (RFC 7240)",
        "example": "wait=30",
    },
)
_WAIT: _Parameter[int] = _Parameter(
    "query",
    "wait",
    Annotated[int, Field(ge=0, le=MAX_WAIT_SECONDS)],
    {"description": "The same as a parameter; it wins over the header"},
)
_ON_DISCONNECT: _Parameter[OnDisconnect] = _Parameter(
    "query",
    "on_disconnect",
    OnDisconnect,
    {"description": "What happens to the run if a waiting caller goes away; `continue` by default"},
)


@lru_cache(maxsize=256)
def _asked(query_string: bytes) -> tuple[int | None, OnDisconnect | None]:
    """What the query says of waiting and disconnecting; kept, for callers ask for the same again."""
    query = QueryParams(query_string)
    return _WAIT.read(query.get("wait")), _ON_DISCONNECT.read(query.get("on_disconnect"))


SubmissionTerms = Annotated[Terms, Depends(_terms)]
TERMS_PARAMETERS: Final = [it.documented for it in (_KEY, _PREFER, _WAIT, _ON_DISCONNECT)]
"""What an operation that takes `SubmissionTerms` documents, as its `openapi_extra`."""


async def idempotency_of(request: Request, key: str | None) -> IdempotencyKey | None:
    """The key with the fingerprint of its request; None without a key. Raises `Refused` for several."""
    if key is None:
        return None
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise Refused(plain_refusal(400, "there are several Idempotency-Key headers; send one"))
    body = await request.body()
    return IdempotencyKey(key=key, fingerprint=fingerprint(request.method, request.url.path, body))
