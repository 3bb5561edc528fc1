"""One attempt to deliver: what is said, signed and sent, and what came back.

An answer's status is all that counts; of its body a few words are kept for the log. Redirects are answers
too: they are not followed, for the address that was registered is the one that was checked.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from app.ports.clock import Clock
from app.ports.errors import CallError, PermanentError
from app.ports.http import HttpClient, HttpRequest, HttpResponse
from app.ports.retry_after import parse_retry_after
from app.ports.runs import Journal
from app.ports.webhooks import DueDelivery
from app.services.run_events import RunEvent, event_of_row
from app.services.webhook_decisions import DeliveryPolicy, Reply
from app.services.webhook_payloads import TEST_EVENT, needs_event, run_body, test_body
from app.services.webhook_signing import signed_headers

MOST_ANSWER_BYTES: Final = 4096
MOST_SHOWN: Final = 200
"""Characters of an answer that the log keeps."""
UNSIGNED: Final = "there is no secret to sign with; set webhooks.secret"
RUN_GONE: Final = "the run is not stored any more"


class WebhookSender:
    """Sends over `http`, which must obey the egress policy and follow no redirect."""

    def __init__(
        self,
        *,
        http: HttpClient,
        journal: Journal,
        clock: Clock,
        policy: DeliveryPolicy | None = None,
        default_secret: str | None = None,
    ) -> None:
        self._http = http
        self._journal = journal
        self._clock = clock
        self._policy = policy or DeliveryPolicy()
        self._default_secret = default_secret

    async def attempt(self, due: DueDelivery, at: float) -> Reply:
        """Sign and send, now (`at`, epoch seconds). Raises `StoreError` if the run cannot be read."""
        endpoint = due.endpoint
        body = await self._body(due)
        live = [endpoint.secret or self._default_secret]
        if endpoint.old_secret_until is not None and at < endpoint.old_secret_until:
            live.append(endpoint.old_secret)
        signing_secrets = [secret for secret in live if secret is not None]
        if body is None or not signing_secrets:
            error = RUN_GONE if body is None else UNSIGNED
            return Reply(at=at, seconds=0.0, error=error, permanent=body is None)
        headers = signed_headers(due.delivery.id, body, at=at, signing_secrets=signing_secrets)
        request = HttpRequest(
            method="POST",
            url=endpoint.url,
            headers={"content-type": "application/json", **headers},
            content=body,
            timeout_seconds=self._policy.timeout_seconds,
            max_response_bytes=MOST_ANSWER_BYTES,
        )
        started = asyncio.get_running_loop().time()
        try:
            answer = await self._http.send(request)
        except CallError as error:
            seconds = asyncio.get_running_loop().time() - started
            return Reply(
                at=at, seconds=seconds, error=str(error), permanent=isinstance(error, PermanentError)
            )
        seconds = asyncio.get_running_loop().time() - started
        return _reply(answer, at=at, seconds=seconds, now=self._clock.now())

    async def _body(self, due: DueDelivery) -> bytes | None:
        """None: there is nothing left to tell of."""
        delivery, endpoint = due.delivery, due.endpoint
        if delivery.event == TEST_EVENT:
            return test_body(delivery, endpoint)
        if due.run is None or delivery.seq is None:
            return None
        event: RunEvent | None = None
        if needs_event(delivery, endpoint):
            rows = await self._journal.read(due.run.id, after=delivery.seq - 1, limit=1)
            event = event_of_row(rows[0]) if rows else None
        return run_body(delivery, endpoint, due.run, event, max_output_bytes=self._policy.max_output_bytes)


def _reply(answer: HttpResponse, *, at: float, seconds: float, now: float) -> Reply:
    status = answer.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Reply(at=at, seconds=seconds, status_code=status)
    error = f"answered {status}"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        error += "; redirects are not followed, register the address it leads to"
    said = " ".join(answer.content.decode("utf-8", "replace").split())
    return Reply(
        at=at,
        seconds=seconds,
        status_code=status,
        error=f"{error}: {said[:MOST_SHOWN]}" if said else error,
        retry_after=parse_retry_after(answer.headers.get("retry-after"), now=now),
    )
