"""The budget of one run, in terms of its attempts and of the runs it calls.

What an attempt may use is made durable before its call, in an event beside it, so that whoever goes on
after a crash charges an attempt of unknown outcome with it. Calls that a vendor certainly does not bill
are not charged. What does not belong here: the sums (`budget`), the calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.core import events as e
from app.dsl.compiled import Budget, CompiledWorkflow
from app.engines.budget import (
    Amount,
    BudgetBook,
    Exceeded,
    amount_of,
    billed_amount,
    charged_so_far,
    limit_of,
    most_of,
    open_children,
)
from app.engines.history import RESERVED, History
from app.ports.errors import PermanentError
from app.ports.models import Usage
from app.ports.prices import Price, Prices, picodollars
from app.steps.bounds import CallBound
from app.steps.kind import StepKind

UNBILLED: Final = frozenset(
    {
        "rate_limit",
        "authentication",
        "permission",
        "invalid_request",
        "not_found",
        "context_length",
        "egress_denied",
        "unknown_provider",
        "invalid_config",
    }
)
"""Failures of a call that never got to a model."""
PAUSE_REASON: Final = "budget"

Write = Callable[[e.Event, Mapping[str, Any]], Awaitable[bool]]
"""Makes an event durable; False if it can no longer happen."""


CONCERNS: Final[frozenset[type[e.Event]]] = frozenset({e.ChildEnded, e.StepSucceeded, e.RunResumed})
"""What an account wants to hear of."""


class Deferred(Exception):
    """The attempt does not fit into the budget, and the run is to be paused; it took no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """What the accounts of a process share."""

    prices: Prices
    max_tokens: int = 4096
    """Bounds answers in runs with a budget for which the document names no bound."""


@dataclass(slots=True)
class Reservation:
    """What one attempt has set aside. `charged` is None until it is settled."""

    amount: Amount
    bounds: Sequence[CallBound]
    prices: Sequence[Price | None]
    charged: Amount | None = None


class Account:
    """Of one run that has a budget."""

    def __init__(
        self,
        limit: Budget,
        *,
        document: Budget | None,
        history: History,
        accounting: Accounting,
        write: Write,
        now: Callable[[], float],
    ) -> None:
        self._document = document
        self.max_tokens = accounting.max_tokens
        self._prices = accounting.prices
        self._history = history
        self._write = write
        self._now = now
        self._book = BudgetBook(limit, charged_so_far(history))
        self._children: dict[str, Amount] = {}
        """What is set aside for runs that steps have called, by path."""
        self._stopped: set[str] = set()
        self._unknown = set(open_children(history))
        for _ in self._unknown:
            self._book.hold()

    # --- attempts -------------------------------------------------------------------------------------

    async def reserve(self, path: str, attempt: int, bounds: Sequence[CallBound]) -> Reservation | None:
        """Set aside what an attempt may use, durably; None if it calls no model.

        Raises `PermanentError` (`budget_exceeded`, `unknown_price`), and `Deferred`.
        """
        if not bounds:
            return None
        reservation = self._priced(path, bounds)
        try:
            await self._book.reserve(reservation.amount, what=f"step {path!r}")
        except Exceeded as error:
            if self._may_pause():
                raise Deferred(str(error)) from error
            raise PermanentError("budget_exceeded", str(error)) from error
        notice = e.NoticeEmitted(path=path, attempt=attempt, at=self._now())
        try:
            stored = await self._write(notice, {RESERVED: reservation.amount.as_data()})
        except BaseException:
            self.settle(reservation, reservation.amount)
            raise
        if not stored:
            self.settle(reservation, Amount())
            raise PermanentError("internal", f"the attempt at {path!r} was over before its call began")
        return reservation

    def charge(self, reservation: Reservation, billing: Mapping[str, Any] | None) -> Amount:
        """Settle an attempt that was answered. What the vendor did not count is charged as reserved."""
        said = billing or {}
        calls = said.get("calls")
        if calls is None:
            return self.settle(reservation, _used(reservation.bounds[0], reservation.prices[0], said))
        return self.settle(reservation, _used_by(reservation, calls))

    def charge_failed(
        self,
        reservation: Reservation,
        error_class: str,
        billing: Mapping[str, Any] | None,
        *,
        unsent: bool = False,
    ) -> Amount:
        """Settle an attempt that failed: in full, unless it is known that it used less.

        `unsent`: it made no call.
        """
        if reservation.charged is not None:
            return reservation.charged
        if billing is not None:
            return self.charge(reservation, billing)
        single = all(bound.calls == 1 for bound in reservation.bounds)
        unbilled = unsent or (single and error_class in UNBILLED)
        return self.settle(reservation, Amount() if unbilled else reservation.amount)

    def settle(self, reservation: Reservation, charged: Amount) -> Amount:
        """Settle once; harmless when done already."""
        if reservation.charged is None:
            reservation.charged = charged
            self._book.settle(reservation.amount, charged)
        return reservation.charged

    def _priced(self, path: str, bounds: Sequence[CallBound]) -> Reservation:
        prices = [self._prices.of(bound.provider, bound.model) for bound in bounds]
        total = Amount()
        for bound, price in zip(bounds, prices, strict=True):
            if price is None and self._book.limit.max_cost_usd is not None:
                raise PermanentError(
                    "unknown_price",
                    f"nobody knows what {bound.model!r} of {bound.provider!r} costs, so step {path!r} cannot "
                    f"be held to 'max_cost_usd'; have the operator set the price of "
                    f"'{bound.provider}/{bound.model}', or bound the run by 'max_tokens'",
                )
            read, written = bound.input_tokens, bound.output_tokens
            if read is None or written is None:
                raise PermanentError("internal", f"step {path!r} has no bound on what it may use")
            cost = 0 if price is None else price.at_most(read, written)
            total += Amount(read + written, cost)
        return Reservation(total, bounds, prices)

    def _may_pause(self) -> bool:
        # While a run is ending it cannot be paused: a deferred attempt would begin again at once.
        return self._book.limit.on_exceeded == "pause" and self._history.status in {"running", "paused"}

    # --- runs that steps call -------------------------------------------------------------------------

    async def allot(
        self, path: str, known: Budget | None, most: Budget | None, paused: Callable[[str], None]
    ) -> Budget:
        """What a called run may use: all that is left, or what it was given before.

        Where nothing is left, the run is paused (`paused` is told why) until there is more, or
        `PermanentError` is raised, as the budget says.
        """
        if known is not None:
            self._set_aside(path, known)
            return known
        self._forget_unknown(path)
        while path not in self._stopped:
            try:
                budget = self._book.reserve_rest(most, what=f"the run that {path!r} calls")
            except Exceeded as error:
                if not self._may_pause():
                    raise PermanentError("budget_exceeded", str(error)) from error
                paused(str(error))
                budget = None
            if budget is not None:
                self._children[path] = most_of(budget)
                return budget
            await self._book.changed()
        raise PermanentError("budget_exceeded", f"{path!r} was stopped while it waited for the run's budget")

    def stop(self, path: str) -> None:
        """A called run is to end early: it waits for nothing any more."""
        self._stopped.add(path)
        self._book.look_again()

    def _set_aside(self, path: str, budget: Budget) -> None:
        if path not in self._children:
            amount = self._children[path] = most_of(budget)
            self._book.take(amount)
        self._forget_unknown(path)

    def _forget_unknown(self, path: str) -> None:
        if path in self._unknown:
            self._unknown.discard(path)
            self._book.release()

    # --- what happens ---------------------------------------------------------------------------------

    def observe(self, event: e.Event, data: Mapping[str, Any] | None) -> None:
        """A run that was called ended, or this one was resumed with another budget."""
        if isinstance(event, e.ChildEnded):
            if event.path not in self._children:
                self._book.take(Amount())  # it ended before anything was set aside for it
            charged = amount_of((data or {}).get("charged"))
            self._book.settle(self._children.pop(event.path, Amount()), charged)
            self._forget_unknown(event.path)
        elif isinstance(event, e.StepSucceeded):
            if data is not None and "charged" not in data:
                self._book.spent += billed_amount(data.get("billing"))  # it began before there was a budget
        elif isinstance(event, e.RunResumed):
            self._book.change(limit_of(self._document, self._history) or self._book.limit)


class Charge:
    """What one attempt sets aside and is charged with; nothing where its run has no budget."""

    __slots__ = ("_account", "_attempt", "_path", "_reservation")

    def __init__(self, account: Account | None, path: str, attempt: int) -> None:
        self._account = account
        self._path = path
        self._attempt = attempt
        self._reservation: Reservation | None = None

    @property
    def data(self) -> dict[str, Any]:
        """For the journal, beside the outcome."""
        charged = None if self._reservation is None else self._reservation.charged
        return {} if charged is None else {"charged": charged.as_data()}

    async def reserve(self, kind: StepKind, config: Any) -> None:
        """Before the call. Raises as `Account.reserve`."""
        if self._account is not None:
            bounds = kind.bound(config, max_tokens=self._account.max_tokens)
            self._reservation = await self._account.reserve(self._path, self._attempt, bounds)

    def settle(self, billing: Mapping[str, Any] | None) -> None:
        """It was answered."""
        if self._account is not None and self._reservation is not None:
            self._account.charge(self._reservation, billing)

    def failed(self, error_class: str, billing: Mapping[str, Any] | None, *, unsent: bool = False) -> None:
        """It failed; `billing` says what was used all the same, where that is known."""
        if self._account is not None and self._reservation is not None:
            self._account.charge_failed(self._reservation, error_class, billing, unsent=unsent)

    def keep(self) -> None:
        """It was aborted: what it may have used stays charged."""
        if self._account is not None and self._reservation is not None:
            self._account.settle(self._reservation, self._reservation.amount)


UNCHARGED: Final = Charge(None, "", 0)
"""Of every attempt in a run without a budget; it keeps nothing."""


def account_of(
    workflow: CompiledWorkflow,
    history: History,
    accounting: Accounting,
    write: Write,
    now: Callable[[], float],
) -> Account | None:
    """The account of a run; None if it has no budget."""
    limit = limit_of(workflow.budget, history)
    return (
        None
        if limit is None
        else Account(
            limit, document=workflow.budget, history=history, accounting=accounting, write=write, now=now
        )
    )


def _used(bound: CallBound, price: Price | None, said: Mapping[str, Any]) -> Amount:
    """What a call is charged with, by its bill; as bounded where that does not say."""
    read, written = bound.input_tokens or 0, bound.output_tokens or 0
    if "error_class" in said:
        return Amount(read + written, 0 if price is None else price.at_most(read, written))
    usage = Usage(
        input_tokens=_or(said.get("input_tokens"), read),
        output_tokens=_or(said.get("output_tokens"), written),
        cached_tokens=said.get("cached_tokens"),
    )
    tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    told = said.get("cost_usd")
    if told is not None:
        return Amount(tokens, picodollars(told))
    return Amount(tokens, 0 if price is None else price.cost(usage) or 0)


def _used_by(reservation: Reservation, calls: Sequence[Mapping[str, Any]]) -> Amount:
    """The sum over calls: the n-th to a model has the n-th bound of that model."""
    left = list(zip(reservation.bounds, reservation.prices, strict=True))
    used = Amount()
    for call in calls:
        asked = (call["provider"], call["asked_model"])
        places = [place for place, (bound, _) in enumerate(left) if (bound.provider, bound.model) == asked]
        bound, price = left.pop(places[0]) if places else left[-1]
        used += _used(bound, price, call)
    return used


def _or(count: int | None, bound: int) -> int:
    return bound if count is None else count
