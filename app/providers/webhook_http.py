"""HTTP for webhooks: one hop under the egress policy, and no more of the answer than a log needs.

Redirects are answers and are not followed. An answer larger than the cap is cut off and no error, and so is
one that ends too early: its status has come, and that is what tells a delivery from a failure.
"""

from __future__ import annotations

from contextlib import aclosing, suppress
from urllib.parse import urlsplit

from app.ports.errors import CallError
from app.ports.http import HttpRequest, HttpResponse
from app.providers.decoding import ACCEPT_ENCODING
from app.providers.json_api import USER_AGENT
from app.providers.transport import Call, StreamedAnswer, Transport
from app.security.egress import EgressPolicy


class WebhookHttp:
    """`app.ports.http.HttpClient`. `guarded` must enforce the same policy when it connects."""

    def __init__(self, guarded: Transport, policy: EgressPolicy) -> None:
        self._guarded = guarded
        self._policy = policy

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send, and read the answer up to `max_response_bytes`."""
        self._policy.check_url(request.url)
        call = Call(
            method=request.method,
            url=request.url,
            who=f"host {urlsplit(request.url).hostname or ''!r}",
            timeout_seconds=request.timeout_seconds,
            headers={"user-agent": USER_AGENT, "accept-encoding": ACCEPT_ENCODING, **request.headers},
            content=request.content,
        )
        async with self._guarded.stream(call) as answer:
            content = await _beginning(answer, request.max_response_bytes)
        return HttpResponse(status=answer.status, headers=answer.headers, content=content)


async def _beginning(answer: StreamedAnswer, most: int) -> bytes:
    content = b""
    with suppress(CallError):
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                content += chunk
                if len(content) >= most:
                    break
    return content[:most]
