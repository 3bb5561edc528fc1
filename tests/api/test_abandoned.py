"""A caller that hangs up in the middle of its body is no defect of the service."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from app.api.middleware import Guarded


async def test_a_body_that_ends_early_is_answered_as_the_callers_fault_and_logged_as_no_crash() -> None:
    async def reads_on(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/runs",
        "headers": [],
        "state": {},
    }
    with capture_logs() as lines:
        await Guarded(reads_on)(scope, receive, send)
    assert sent[0]["status"] == 400
    assert [line["event"] for line in lines] == ["request.abandoned"]
