"""Whether a call to an instance may be made now: its bounds, and a circuit breaker for each model.

A call is begun in one step where there is room, and waits otherwise. The breaker is asked first, so that
nobody waits in vain, and once more when the wait is over. Models are known as they are called; past
`MOST_MODELS` of them the rest share one breaker and one line of the status, because a document may name
any model.

What does not belong here: the ports (`app.providers.guarded`), and how limits and breakers work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from app.ports.errors import CallError, ErrorClass, TemporaryError
from app.ports.models import CallContext
from app.ports.provider_status import Bounds, BreakerState, BreakerStatus, CallsStatus, LastFailure
from app.providers.breaker import Breaker, BreakerPolicy
from app.providers.guarded_call import Call
from app.providers.limits import Limiter

MOST_MODELS: Final = 100
OTHER: Final = "other"
"""Stands for every model past the first ones."""
LONGEST_NAME: Final = 200
GIVE_UP_SHARE: Final = 0.05
GIVE_UP_SECONDS: Final = 1.0
"""A wait ends so much before the call's time does: its reason is to be told, and not that time was up."""
NO_BOUNDS: Final = Bounds()


class GuardRecorder(Protocol):
    """What is counted; a part of `app.observability.recorder.Recorder`."""

    def breaker_state(self, provider: str, model: str, state: BreakerState) -> None:
        """A breaker changed."""
        ...

    def calls_waiting(self, provider: str, delta: int) -> None:
        """A call began (+1) or ceased (-1) to wait."""
        ...

    def call_refused(self, provider: str, model: str, reason: str) -> None:
        """A call was not made: reason `breaker` or `limit`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """`monotonic` never goes back; `now` is in epoch seconds and is only told."""

    monotonic: Callable[[], float]
    now: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardTerms:
    """What is to hold. `breaker` None: there is none."""

    bounds: Bounds = NO_BOUNDS
    models: Mapping[str, Bounds] = field(default_factory=dict)
    breaker: BreakerPolicy | None = None


class Lane:
    """The calls to one model."""

    __slots__ = (
        "bounds",
        "breaker",
        "calls",
        "failed_as",
        "failed_at",
        "fault",
        "in_flight",
        "limiter",
        "name",
        "waiting",
    )

    def __init__(self, name: str, bounds: Bounds, limiter: Limiter | None, breaker: Breaker | None) -> None:
        self.name = name
        self.bounds = bounds
        self.limiter = limiter
        self.breaker = breaker
        self.in_flight = 0
        self.waiting = 0
        self.calls = 0
        self.fault: ErrorClass = "server_error"
        """Class of the latest failure that the breaker counted."""
        self.failed_as: ErrorClass | None = None
        self.failed_at = 0.0


class Guard:
    """Stands before one instance. `what` is what messages call it, such as `instance 'openai'`."""

    def __init__(
        self, name: str, terms: GuardTerms, recorder: GuardRecorder, clocks: Clocks, *, what: str = ""
    ) -> None:
        """Raises `ValueError` for bounds that cannot work."""
        self.name = name
        self.bounds = terms.bounds
        self._what = what or f"instance {name!r}"
        self._terms = terms
        self._recorder = recorder
        self._clocks = clocks
        self.monotonic = clocks.monotonic
        self.counts_tokens = any(
            bounds.tokens_per_minute is not None for bounds in (terms.bounds, *terms.models.values())
        )
        _check_bounds(terms.bounds, self._what)
        for model, bounds in terms.models.items():
            _check_bounds(bounds, f"model {model!r} of {self._what}")
        self._lanes: dict[str, Lane] = {}
        self.limiter = self._limiter(terms.bounds)
        for model in terms.models:
            self._make(model)

    def lane(self, model: str) -> Lane:
        """Where the calls to a model go."""
        return self._lanes.get(model) or self._new(model)

    def begin(self, lane: Lane, tokens: int, context: CallContext) -> Call | None:
        """Begin a call, if there is room; None if it has to wait. Raises `TemporaryError`."""
        if lane.breaker is not None and not lane.breaker.closed:
            self._check(lane)
        if lane.limiter is not None and not lane.limiter.enter_now(tokens):
            return None
        if self.limiter is not None and not self.limiter.enter_now(tokens):
            if lane.limiter is not None:
                lane.limiter.undo(tokens)
            return None
        return self._begun(lane, tokens, context)

    async def wait(self, lane: Lane, tokens: int, context: CallContext) -> Call:
        """Wait for room and begin the call, with what is left of its time. Raises `TemporaryError`."""
        began = self.monotonic()
        seconds = context.timeout_seconds
        give_up = began + seconds - min(seconds * GIVE_UP_SHARE, GIVE_UP_SECONDS)
        lane.waiting += 1
        self._recorder.calls_waiting(self.name, +1)
        try:
            # The narrower bound first: who waits for that one keeps nothing of the instance's from others.
            await self._enter(lane, lane.limiter, tokens, context.tenant, give_up)
            try:
                await self._enter(lane, self.limiter, tokens, context.tenant, give_up)
            except BaseException:
                if lane.limiter is not None:
                    lane.limiter.undo(tokens)
                raise
        finally:
            lane.waiting -= 1
            self._recorder.calls_waiting(self.name, -1)
        left = seconds - (self.monotonic() - began)
        return self._begun(lane, tokens, replace(context, timeout_seconds=left))

    def failed(self, lane: Lane, error: BaseException) -> None:
        """Note how a call failed."""
        if isinstance(error, CallError):
            lane.failed_as, lane.failed_at = error.error_class, self._clocks.now()

    def show(self, lane: Lane) -> None:
        """Report the state of a breaker that may have changed."""
        if lane.breaker is not None:
            self._recorder.breaker_state(self.name, lane.name, lane.breaker.state(self.monotonic()))

    def status(self) -> list[CallsStatus]:
        """How the calls to each model fare."""
        now = self.monotonic()
        return [
            CallsStatus(
                name=lane.name,
                breaker=None
                if (breaker := lane.breaker) is None
                else BreakerStatus(state=breaker.state(now), retry_after=breaker.retry_after(now)),
                bounds=lane.bounds,
                in_flight=lane.in_flight,
                waiting=lane.waiting,
                calls=lane.calls,
                last_failure=None
                if lane.failed_as is None
                else LastFailure(error_class=lane.failed_as, at=lane.failed_at),
            )
            for lane in self._lanes.values()
        ]

    def _begun(self, lane: Lane, tokens: int, context: CallContext) -> Call:
        """Every limiter has been entered."""
        now = self.monotonic()
        ticket = 0
        if lane.breaker is not None:
            admitted = lane.breaker.admit(now)
            if admitted is None:
                for limiter in (lane.limiter, self.limiter):
                    if limiter is not None:
                        limiter.undo(tokens)
                raise self._refusal(lane, lane.breaker)
            ticket = admitted
            if ticket < 0:
                self.show(lane)
        return Call(self, lane, ticket, tokens, context, began=now)

    async def _enter(
        self, lane: Lane, limiter: Limiter | None, tokens: int, tenant: str, give_up: float
    ) -> None:
        if limiter is None or limiter.enter_now(tokens) or await limiter.enter(tenant, tokens, give_up):
            return
        self._recorder.call_refused(self.name, lane.name, "limit")
        bounds = lane.bounds if limiter is lane.limiter else self.bounds
        error = TemporaryError(
            "rate_limit",
            f"{self._of(lane)} is at its limit ({_told(bounds)}) and the call's time was up before its turn; "
            "ask the operator to raise the limit, call it less at once, or raise timeout_seconds",
            retry_after=limiter.retry_after(tokens),
        )
        error.unsent = True
        raise error

    def _check(self, lane: Lane) -> None:
        if lane.breaker is not None and lane.breaker.retry_after(self.monotonic()) > 0:
            raise self._refusal(lane, lane.breaker)

    def _refusal(self, lane: Lane, breaker: Breaker) -> TemporaryError:
        self._recorder.call_refused(self.name, lane.name, "breaker")
        seconds = breaker.retry_after(self.monotonic())
        until = datetime.fromtimestamp(self._clocks.now() + seconds, UTC)
        error = TemporaryError(
            lane.fault,
            f"{self._of(lane)} was not called: too many calls to it failed, the last with {lane.fault!r}, "
            f"and it rests until {until:%Y-%m-%dT%H:%M:%SZ}; GET /v1/providers shows its circuit breaker",
            retry_after=seconds,
        )
        error.unsent = True
        return error

    def _of(self, lane: Lane) -> str:
        return f"model {lane.name!r} of {self._what}" if lane.name else self._what

    def _new(self, model: str) -> Lane:
        if len(self._lanes) < max(MOST_MODELS, len(self._terms.models)) and len(model) <= LONGEST_NAME:
            return self._make(model)
        return self._lanes.get(OTHER) or self._make(OTHER)

    def _make(self, model: str) -> Lane:
        bounds = self._terms.models.get(model, NO_BOUNDS)
        policy = self._terms.breaker
        lane = Lane(model, bounds, self._limiter(bounds), None if policy is None else Breaker(policy))
        self._lanes[model] = lane
        self.show(lane)
        return lane

    def _limiter(self, bounds: Bounds) -> Limiter | None:
        return None if bounds == NO_BOUNDS else Limiter(bounds, self.monotonic)


def _check_bounds(bounds: Bounds, of: str) -> None:
    for name, value in _set(bounds):
        if value < 1:
            raise ValueError(f"{name} of {of} must be at least 1, or left out")


def _told(bounds: Bounds) -> str:
    return ", ".join(f"{name} {value}" for name, value in _set(bounds))


def _set(bounds: Bounds) -> list[tuple[str, int]]:
    named = ((field.name, getattr(bounds, field.name)) for field in fields(bounds))
    return [(name, value) for name, value in named if value is not None]
