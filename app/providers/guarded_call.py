"""One guarded call: from the moment it may be made to what its end says of the callee."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal

from app.ports.errors import CallError, ErrorClass, TemporaryError
from app.ports.models import CallContext, Usage

if TYPE_CHECKING:
    from app.providers.guard import Guard, Lane

FAULTS: Final[frozenset[ErrorClass]] = frozenset({"server_error", "timeout", "connection"})
"""Temporary errors that speak against the callee."""
HANGING_SHARE: Final = 0.9
"""A call cancelled after that much of its time was not answered: who cancels it then is its own timer."""

PATIENT_SECONDS: Final = 5.0
"""Time that runs out on a call given less of it says nothing: or one impatient caller could close a model
to all others."""

Verdict = Literal["answered", "fault", "nothing"]


class Call:
    """A context manager around the call; `context` is what the call is to be made with.

    Set `usage` to what was billed. It is an object and not a generator because it is on every call's way.
    """

    __slots__ = ("_began", "_guard", "_lane", "_ticket", "_tokens", "context", "usage")

    def __init__(
        self, guard: Guard, lane: Lane, ticket: int, tokens: int, context: CallContext, *, began: float
    ) -> None:
        self._guard = guard
        self._lane = lane
        self._ticket = ticket
        self._tokens = tokens
        self._began = began
        self.context = context
        self.usage: Usage | None = None

    def __enter__(self) -> Call:
        lane = self._lane
        lane.in_flight += 1
        lane.calls += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lane, guard = self._lane, self._guard
        now = guard.monotonic()
        lane.in_flight -= 1
        if error is None:
            self._judge("answered", now)
        else:
            guard.failed(lane, error)
            self._judge(self._verdict(error, now), now, error)
        used = None
        if guard.counts_tokens and self.usage is not None:
            used = (self.usage.input_tokens or 0) + (self.usage.output_tokens or 0) or None
        if lane.limiter is not None:
            lane.limiter.leave(self._tokens, used)
        if guard.limiter is not None:
            guard.limiter.leave(self._tokens, used)

    def item(self) -> None:
        """A stream brought something: a probe need not wait for its end."""
        breaker = self._lane.breaker
        if self._ticket < 0 and breaker is not None:
            now = self._guard.monotonic()
            self._judge("answered", now)
            self._ticket = breaker.admit(now) or 0

    def _verdict(self, error: BaseException, now: float) -> Verdict:
        patient = self.context.timeout_seconds >= PATIENT_SECONDS
        if isinstance(error, TemporaryError):
            if error.error_class not in FAULTS:
                return "answered"
            ran_out = error.error_class == "timeout" and error.status is None
            return "nothing" if ran_out and not patient else "fault"
        if isinstance(error, CallError):
            return "nothing" if error.status is None else "answered"
        hung = now - self._began >= self.context.timeout_seconds * HANGING_SHARE
        return "fault" if hung and patient and isinstance(error, asyncio.CancelledError) else "nothing"

    def _judge(self, verdict: Verdict, now: float, error: BaseException | None = None) -> None:
        breaker = self._lane.breaker
        if breaker is None:
            return
        if verdict == "answered":
            changed = breaker.succeeded(self._ticket, now)
        elif verdict == "fault":
            self._lane.fault = error.error_class if isinstance(error, CallError) else "timeout"
            changed = breaker.failed(self._ticket, now)
        else:
            breaker.dropped(self._ticket)
            changed = self._ticket < 0
        if changed:
            self._guard.show(self._lane)
