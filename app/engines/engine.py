"""What services need of whatever executes runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from app.core.scheduler import in_flight
from app.engines.history import History
from app.ports.errors import OrchestratorError
from app.ports.runs import Definition, IdempotencyRecord, RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A run to accept. `run.status` is `pending`; `inputs` were validated and hold their defaults."""

    run: RunRow
    definition: Definition
    inputs: Mapping[str, Any]
    timeout_seconds: float | None = None
    idempotency: IdempotencyRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReceipt:
    """What a cancellation met. Paths name step instances."""

    calls_aborted: Sequence[str] = ()
    """Attempts that were in flight and are being aborted."""
    unknown_effects: Sequence[str] = ()
    """Those among them that must not repeat: whether they took effect is not known."""
    input_tokens: int = 0
    """Tokens that completed steps of the run were billed for."""
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A streamed piece of an answer; no history."""

    path: str
    attempt: int
    text: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """A moment's figures."""

    role: Literal["executor", "standby", "stopped"]
    active: int
    queued: int
    max_active: int
    max_queued: int


class Overloaded(OrchestratorError):
    """Too many runs wait; try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Draining(OrchestratorError):
    """The process is shutting down and takes no new runs."""


class StandingBy(OrchestratorError):
    """Another process executes the runs of this store; only it can control them."""


class CancelPending(OrchestratorError):
    """The cancellation is under way and not stored yet; it takes effect when the store takes writes."""


class HandedOver(OrchestratorError):
    """The process let go of the run before the request was stored; another one goes on with it."""


class RunEnded(OrchestratorError):
    """The run has ended (or is ending), so it cannot be controlled any more."""


class Listener(Protocol):
    """News of one run. It holds no events: it tells that there are some, so a slow reader costs nothing."""

    async def wait(self, *, after: int, seconds: float) -> bool:
        """Wait until the journal holds events past `after`, or deltas came; False if time ran out."""
        ...

    def deltas(self) -> Sequence[Delta]:
        """Take the deltas that came since the last call; the oldest are dropped past a bound."""
        ...


class Engine(Protocol):
    """Places runs and keeps them alive."""

    async def submit(self, submission: Submission) -> None:
        """Accept a run: it is durable on return. Raises `Overloaded`, `Draining`, `StoreError`."""
        ...

    async def cancel(self, run_id: str, *, reason: str | None) -> CancelReceipt:
        """End a run early: on return the request is durable and its calls are being aborted.

        Raises `RunEnded` if it has ended or is being cancelled already, `StandingBy`, `CancelPending`,
        `HandedOver`, `UnreadableRun`.
        """
        ...

    async def wait(self, run_id: str, *, seconds: float) -> History | None:
        """The ended run, or None if it has not ended within that time."""
        ...

    def listen(self, run_id: str) -> AbstractContextManager[Listener]:
        """Hear of a run's new events for as long as the context is open."""
        ...

    def stats(self) -> EngineStats:
        """Figures for readiness and metrics."""
        ...


def receipt_of(history: History) -> CancelReceipt:
    """What a cancellation of this run meets right now."""
    plan = history.state.plan
    flying = [path for path, _ in in_flight(history.state)]
    input_tokens, output_tokens = history.billed_tokens()
    return CancelReceipt(
        calls_aborted=flying,
        unknown_effects=[path for path in flying if not plan.by_id[path].repeatable],
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )
