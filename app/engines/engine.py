"""What services need of whatever executes runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from app.core.scheduler import in_flight
from app.dsl.compiled import Budget
from app.engines.history import History
from app.ports.errors import OrchestratorError
from app.ports.records import record
from app.ports.runs import Definition, IdempotencyRecord, RunRow
from app.ports.webhooks import Endpoint


@record
class Submission:
    """A run to accept. `run.status` is `pending`; `inputs` were validated and hold their defaults."""

    run: RunRow
    definition: Definition
    inputs: Mapping[str, Any]
    timeout_seconds: float | None = None
    idempotency: IdempotencyRecord | None = None
    depth: int = 0
    """How many runs call each other down to this one."""
    caller: tuple[str, str] | None = None
    """The run and the path of the `workflow` step that calls it."""
    item: bool = False
    """That step is an item of a distributed map."""
    awaited_by: tuple[str, ...] = ()
    """Runs that cannot end before this one has: its caller if that waits, that one's caller, and so on."""
    reuse: str | None = None
    """An earlier run whose outcomes stand in for steps that would do the same again."""
    fresh: frozenset[str] = frozenset()
    """Steps (keys) that run again whatever the earlier run brought."""
    budget: Budget | None = None
    """Bounds the run beside its document's own."""
    webhook: Endpoint | None = None
    """To be told of this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReceipt:
    """What a cancellation met. Paths name step instances."""

    calls_aborted: Sequence[str] = ()
    """Attempts that were in flight and are being aborted."""
    unknown_effects: Sequence[str] = ()
    """Those among them that must not repeat: whether they took effect is not known."""
    input_tokens: int | None = 0
    """Tokens that completed steps of the run were billed for; None where nobody counted them."""
    output_tokens: int | None = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A streamed piece of an answer; no history."""

    path: str
    attempt: int
    text: str
    at: float
    after: int
    """Its place: the `seq` of the run's last event when it came, stored already or about to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """A moment's figures."""

    role: Literal["executor", "standby", "gateway", "stopped"]
    """`gateway`: accepts and controls runs that workers execute, while another process leads."""
    active: int
    queued: int
    max_active: int
    max_queued: int


class Overloaded(OrchestratorError):
    """Too many runs wait; try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LimitReached(Overloaded):
    """As many runs of the workflow's concurrency key are under way as may be."""


class Draining(OrchestratorError):
    """The process is shutting down and takes no new runs."""


class StandingBy(OrchestratorError):
    """Another process executes the runs of this store: what it does to one cannot be done here."""


class CancelPending(OrchestratorError):
    """What was asked is kept and has not happened yet: the store takes no writes, or nobody took it up."""


class HandedOver(OrchestratorError):
    """The process let go of the run before the request was stored; another one goes on with it."""


class NotPossible(OrchestratorError):
    """The run is in no state for what was asked of it: paused already, not paused, answered already."""


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

    def horizon(self) -> int | None:
        """Events past this one are to wait: deltas from before them may be on their way. None: no event is.

        `wait` sees to it that none waits for long.
        """
        ...


class Engine(Protocol):
    """Places runs and keeps them alive."""

    async def submit(self, submission: Submission) -> None:
        """Accept a run: it is durable on return. Raises `Overloaded`, `Draining`, `StoreError`."""
        ...

    async def submit_many(self, submissions: Sequence[Submission]) -> None:
        """Accept runs of one definition into the queue: all are durable on return, or none is stored.

        The first one's `idempotency` is stored with them. Raises as `submit`, and `InputsInvalid` with
        pointers that begin with a position.
        """
        ...

    async def cancel(self, run_id: str, *, reason: str | None, request: str | None = None) -> CancelReceipt:
        """End a run early: on return it is durable and its calls are being aborted.

        `request` is the id of whoever wants to know later whether this happened: it stands beside the event
        (`app.engines.asked_before`), as it does for what is asked by the other three.

        Raises `RunEnded` if it has ended or is being cancelled already, `CancelPending`,
        `HandedOver`, `Draining`, `UnreadableRun`.
        """
        ...

    async def pause(self, run_id: str, *, reason: str | None, request: str | None = None) -> None:
        """Start nothing further of a run; durable on return. Raises as `cancel`, and `NotPossible`."""
        ...

    async def resume(
        self, run_id: str, *, budget: Mapping[str, Any] | None = None, request: str | None = None
    ) -> None:
        """Go on with a paused run; durable on return. Raises as `cancel`, and `NotPossible`.

        `budget`: fields of `app.dsl.compiled.Budget` that hold from here on instead of the given ones.
        """
        ...

    async def answer(
        self,
        run_id: str,
        path: str,
        *,
        action: str,
        data: Any,
        by: str | None,
        request: str | None = None,
    ) -> None:
        """Answer an approval; durable on return. Raises as `cancel`, and `NotPossible`."""
        ...

    async def wait(self, run_id: str) -> History:
        """The ended run, once it has ended; how long to wait for that is the caller's."""
        ...

    def listen(self, run_id: str) -> AbstractContextManager[Listener]:
        """Hear of a run's new events for as long as the context is open."""
        ...

    def stats(self) -> EngineStats:
        """Figures for readiness and metrics."""
        ...


class PlacingEngine(Engine, Protocol):
    """An engine as whoever starts and stops a process knows it."""

    async def start(self) -> None:
        """Begin to place runs. Raises `StoreError`, and `CallError` where it can never work."""
        ...

    def look(self) -> None:
        """Look at the store soon: another process may have stored something to do."""
        ...

    async def drain(self, grace_seconds: float) -> None:
        """Take nothing new, let runs end for that long, then let go of the rest. Harmless twice."""
        ...


def receipt_of(history: History) -> CancelReceipt:
    """What a cancellation of this run meets right now."""
    steps = history.state.steps
    flying = [path for path, _ in in_flight(history.state)]
    input_tokens, output_tokens = history.billed_tokens()
    return CancelReceipt(
        calls_aborted=flying,
        unknown_effects=[path for path in flying if not steps[path].node.repeatable],
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )
