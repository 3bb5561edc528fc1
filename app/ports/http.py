"""Outgoing HTTP for steps and webhooks: one small request and answer, whatever the client behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Protocol

from app.ports.records import record


@record
class HttpRequest:
    """`content` is sent as it is. `max_response_bytes` caps the decoded answer."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    timeout_seconds: float = 30.0
    max_response_bytes: int = 10 * 1024 * 1024


@record
class HttpResponse:
    """Header names are lower-case; repeated ones are joined by `", "`. `content` is decoded (gzip)."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class HttpClient(Protocol):
    """Sends to hosts that the egress policy allows.

    Any status is an answer, not an error. Raises `PermanentError` (egress_denied, too_large,
    invalid_request) or `TemporaryError` (connection, timeout). It never retries and never follows
    a redirect to a place the policy forbids.
    """

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send and read the whole answer."""
        ...
