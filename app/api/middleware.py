"""What happens to every request before routing and to every response after it. Plain ASGI, no tasks.

Order, outermost first: `Identified` names the request and adds the security headers, `Guarded` turns
faults into problems, `Admitted` refuses whom nobody let in, `Bounded` refuses bodies that are too large or
encoded before anything reads them. What only looks hands the awaitable of the next on: a coroutine of its
own would be one more for every request and message.
What does not belong here: routes, permissions, metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import uuid_utils
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.callers import Callers
from app.api.problems import Refusal, Refused, plain_refusal, problem_response
from app.observability import log_context

log = structlog.get_logger(__name__)

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
"""Sent with every response; one that sets a header of these itself keeps its own."""
DISCARDED_BYTES: Final = 32 * 1024 * 1024
DISCARDING_SECONDS: Final = 1.0
"""How much of a refused body is read and thrown away, at most."""


class Identified:
    """Gives every request an id: the caller's `X-Request-ID` if it is a plain token, else a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = _header(scope, b"x-request-id")
        request_id = given if given and REQUEST_ID.fullmatch(given) else str(uuid_utils.uuid7()).encode()
        named = request_id.decode()
        scope.setdefault("state", {})["request_id"] = named

        def send_named(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", ()))
                set_already = {name for name, _ in headers}
                headers.extend(header for header in SECURITY_HEADERS if header[0] not in set_already)
                headers.append((b"x-request-id", request_id))
            return send(message)

        bound = log_context.bind(request_id=named)
        try:
            await self.app(scope, receive, send_named)
        finally:
            log_context.reset(bound)


class Guarded:
    """Turns what nobody expected into a problem that tells nothing but the request's id."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        def send_noting(message: Message) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        try:
            await self.app(scope, receive, send_noting)
        except ClientDisconnect:
            log.info("request.abandoned", method=scope["method"], path=scope["path"])
            if not started:
                detail = "the body ended before its Content-Length; send all of it"
                await problem_response(plain_refusal(400, detail), scope)(scope, receive, send)
        except Exception:
            log.exception("request.crashed", method=scope["method"], path=scope["path"])
            if started:
                raise
            detail = "the service hit an internal error; report the request_id to its operator"
            await problem_response(plain_refusal(500, detail), scope)(scope, receive, send)


class Admitted:
    """Refuses who may not call at all: see `app.api.callers`."""

    def __init__(self, app: ASGIApp, *, callers: Callers) -> None:
        self.app = app
        self._callers = callers

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one connection."""
        if scope["type"] == "http":
            refusal = self._callers.refusal(scope.get("server"), _header(scope, b"host"))
            if refusal is not None:
                return problem_response(refusal, scope)(scope, receive, send)
        return self.app(scope, receive, send)


class Bounded:
    """Refuses request bodies beyond a size (413) and encoded ones (415) before they are read.

    What a caller goes on to send is thrown away for a moment before the answer ends: a connection that is
    closed while it still writes loses the answer, and most clients read only after the last byte.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self.app = app
        self._max = max_body_bytes

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one connection."""
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        refusal = self._refusal(scope)
        if refusal is not None:
            answer = problem_response(refusal, scope)
            if _header(scope, b"expect") is not None:
                return answer(scope, receive, send)  # the caller has not begun to send
            return answer(scope, receive, _ending_late(receive, send))
        received = 0
        if _header(scope, b"transfer-encoding") is not None:
            send = _ending_late(receive, send, where=lambda: received > self._max)

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._max:
                    raise Refused(self._too_large())
            return message

        return self.app(scope, receive_bounded, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        encoding = _header(scope, b"content-encoding")
        if encoding is not None and encoding.strip().lower() != b"identity":
            return plain_refusal(415, "encoded bodies are not accepted; send it without Content-Encoding")
        length = _header(scope, b"content-length")
        if length is None:
            return None
        if not length.isdigit():
            return plain_refusal(400, "Content-Length must be a whole number of bytes")
        return self._too_large() if int(length[:20]) > self._max else None

    def _too_large(self) -> Refusal:
        return Refusal(
            status=413,
            code="content_too_large",
            title="The body is too large",
            detail=f"bodies may have at most {self._max:,} bytes; send less",
        )


def _ending_late(receive: Receive, send: Send, *, where: Callable[[], bool] = lambda: True) -> Send:
    """A `send` that has the whole answer out, and then reads on for a moment before it ends it."""

    def send_and_read(message: Message) -> Awaitable[None]:
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        return _end(message, receive, send) if last and where() else send(message)

    return send_and_read


async def _end(message: Message, receive: Receive, send: Send) -> None:
    await send({**message, "more_body": True})
    left = DISCARDED_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARDING_SECONDS):
            while left > 0:
                part = await receive()
                if part["type"] != "http.request" or not part.get("more_body", False):
                    break
                left -= len(part.get("body", b""))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None
