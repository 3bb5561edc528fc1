"""A circuit breaker as a state machine: whether a call may be made, given how the ones before it went.

Pure: the time (seconds of any clock that never goes back) is handed in and nothing is awaited.

    closed     every call is made; its outcome counts in a rolling window
    open       no call is made until a moment that is known
    half_open  that moment has come: one call at a time probes, the others are refused

    closed ──(enough calls in the window, enough of them failures)──▶ open, for `open_seconds`
    open ──(time)──▶ half_open
    half_open ──(a probe succeeds)──▶ closed, with an empty window
    half_open ──(the probe fails)──▶ open, for twice as long as before, up to `max_open_seconds`

A probe's permission expires after `probe_seconds`, and is given back when it ends without an outcome, so
that no probe can hang the breaker. What calls that were made before the breaker opened come to says
nothing any more. What does not belong here: which errors are failures, and waiting
(`app.providers.guarded`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.ports.provider_status import BreakerState

BUCKETS: Final = 10
"""Parts of the window; outcomes leave it a part at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens and for how long."""

    window_seconds: float = 30.0
    min_calls: int = 10
    failure_ratio: float = 0.5
    open_seconds: float = 5.0
    max_open_seconds: float = 120.0
    probe_seconds: float = 30.0


class Breaker:
    """One breaker, closed at first. `admit` gives a ticket; its outcome is told with it, at most once."""

    __slots__ = (
        "_bucket",
        "_calls",
        "_failures",
        "_policy",
        "_probe",
        "_probe_until",
        "_spell",
        "_until",
        "_width",
        "closed",
        "open_for",
    )

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._width = policy.window_seconds / BUCKETS
        self.closed = True
        self.open_for = 0.0
        """Seconds that it was opened for, last time; 0 while closed."""
        self._until = 0.0
        self._spell = 1
        """Of being closed, or not; outcomes of an earlier one count no more."""
        self._probe = 0
        self._probe_until: float | None = None
        self._forget()

    def state(self, now: float) -> BreakerState:
        """What it is at a moment."""
        if self.closed:
            return "closed"
        return "open" if now < self._until else "half_open"

    def retry_after(self, now: float) -> float:
        """Seconds until a call may be let through; 0 where one would be.

        While a probe is under way that is a guess, for its answer may come at any moment.
        """
        if self.closed:
            return 0.0
        if now < self._until:
            return self._until - now
        if self._probe_until is None:
            return 0.0
        return min(max(0.0, self._probe_until - now), self._policy.open_seconds)

    def admit(self, now: float) -> int | None:
        """A ticket for a call, below zero for a probe; None if the call must not be made."""
        if self.closed:
            return self._spell
        if self.retry_after(now) > 0:
            return None
        self._probe += 1
        self._probe_until = now + self._policy.probe_seconds
        return -self._probe

    def succeeded(self, ticket: int, now: float) -> bool:
        """The call was answered. Says whether that changed the state."""
        if ticket < 0:
            return self._close()
        if ticket == self._spell and self.closed:
            self._calls[self._at(now)] += 1
        return False

    def failed(self, ticket: int, now: float) -> bool:
        """The call met a fault of the callee. Says whether that changed the state."""
        if ticket < 0:
            # A probe whose permission went to another one meanwhile has no say.
            return not self.closed and -ticket == self._probe and self._open(now, self.open_for * 2)
        if ticket != self._spell or not self.closed:
            return False
        place = self._at(now)
        self._calls[place] += 1
        self._failures[place] += 1
        calls = sum(self._calls)
        if calls < self._policy.min_calls or sum(self._failures) < self._policy.failure_ratio * calls:
            return False
        return self._open(now, self._policy.open_seconds)

    def dropped(self, ticket: int) -> None:
        """The call ended in a way that says nothing of the callee: it was cancelled, or never sent."""
        if -ticket == self._probe:
            self._probe_until = None

    def _open(self, now: float, seconds: float) -> bool:
        self.open_for = min(seconds, self._policy.max_open_seconds)
        self._until = now + self.open_for
        self._probe_until = None
        if self.closed:
            self.closed = False
            self._spell += 1
        return True

    def _close(self) -> bool:
        if self.closed:
            return False
        self.closed = True
        self._spell += 1
        self.open_for = 0.0
        self._probe_until = None
        self._forget()
        return True

    def _forget(self) -> None:
        self._calls = [0] * BUCKETS
        self._failures = [0] * BUCKETS
        self._bucket = 0

    def _at(self, now: float) -> int:
        """The place of this moment's part of the window; parts that have left it are emptied."""
        bucket = int(now / self._width)
        gone = bucket - self._bucket
        if gone:
            for passed in range(max(bucket - BUCKETS, self._bucket) + 1, bucket + 1):
                self._calls[passed % BUCKETS] = self._failures[passed % BUCKETS] = 0
            self._bucket = max(bucket, self._bucket)
        return bucket % BUCKETS
