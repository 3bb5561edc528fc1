"""How a submission wants to be answered: idempotency key, patience, and what a disconnect means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Header, Query
from starlette.requests import Request

from app.api.negotiation import MAX_WAIT_SECONDS, preferred_wait
from app.services.idempotency import IdempotencyKey, fingerprint

OnDisconnect = Literal["continue", "cancel"]
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="Makes the request safe to repeat: its first answer is given again, for 24 hours",
        examples=["order-4711"],
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Of one submission. `wait_seconds` None: answer at once."""

    key: str | None
    wait_seconds: int | None
    cancel_on_disconnect: bool


async def _terms(
    idempotency_key: KeyHeader = None,
    prefer: Annotated[
        str | None,
        Header(
            max_length=1000,
            description="`wait=30` waits for the end of the run, at most 60 seconds (RFC 7240)",
            examples=["wait=30"],
        ),
    ] = None,
    wait: Annotated[
        int | None,
        Query(ge=0, le=MAX_WAIT_SECONDS, description="The same as a parameter; it wins over the header"),
    ] = None,
    on_disconnect: Annotated[
        OnDisconnect, Query(description="What happens to the run if a waiting caller goes away")
    ] = "continue",
) -> Terms:
    return Terms(
        key=idempotency_key,
        wait_seconds=preferred_wait(prefer) if wait is None else wait,
        cancel_on_disconnect=on_disconnect == "cancel",
    )


SubmissionTerms = Annotated[Terms, Depends(_terms)]


async def idempotency_of(request: Request, key: str | None) -> IdempotencyKey | None:
    """The key with the fingerprint of its request; None without a key."""
    if key is None:
        return None
    body = await request.body()
    return IdempotencyKey(key=key, fingerprint=fingerprint(request.method, request.url.path, body))
