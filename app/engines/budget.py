"""What one run may use, has used and has set aside: the arithmetic of budgets.

The most that a call can use is set aside before it starts, and what it did use is charged when it ends, so
calls that run side by side cannot overspend together. Between two awaits the book is consistent, and
spent plus set aside never exceeds the limit, unless a vendor bills more than the bound it was sent.

What does not belong here: prices and bounds of calls (`account`), the journal, what an exceeded budget
leads to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from app.dsl.compiled import Budget
from app.engines.history import AttemptRecord, History
from app.ports.prices import dollars, picodollars


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens, in and out together, and picodollars."""

    tokens: int = 0
    cost: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.cost + other.cost)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.tokens - other.tokens, self.cost - other.cost)

    def as_data(self) -> dict[str, int]:
        """As the journal keeps it."""
        return {"tokens": self.tokens, "cost": self.cost}


NOTHING = Amount()


def amount_of(data: Mapping[str, Any] | None) -> Amount:
    """What `Amount.as_data` made; nothing where there is nothing."""
    return NOTHING if data is None else Amount(data["tokens"], data["cost"])


class Exceeded(Exception):
    """What is to be used does not fit into what is left. `str(error)` names both."""


class BudgetBook:
    """The account of one run. `reserve` waits; everything else happens at once."""

    def __init__(self, limit: Budget, spent: Amount = NOTHING) -> None:
        self.limit = limit
        self.spent = spent
        self.reserved = NOTHING
        self._open = 0
        """Reservations that are not settled, and holds that are not released."""
        self._held = 0
        """Holds: amounts that are set aside and not known yet."""
        self._news: asyncio.Future[None] | None = None

    # --- what there is --------------------------------------------------------------------------------

    @property
    def left(self) -> Budget:
        """What is neither spent nor set aside; never below zero."""
        used = self.spent + self.reserved
        limit = self.limit
        return Budget(
            max_cost_usd=None
            if limit.max_cost_usd is None
            else dollars(max(0, picodollars(limit.max_cost_usd) - used.cost)),
            max_tokens=None if limit.max_tokens is None else max(0, limit.max_tokens - used.tokens),
            on_exceeded=limit.on_exceeded,
        )

    def fits(self, need: Amount) -> bool:
        """Whether so much can be set aside now."""
        if self._held:
            return False
        used = self.spent + self.reserved + need
        limit = self.limit
        return (limit.max_tokens is None or used.tokens <= limit.max_tokens) and (
            limit.max_cost_usd is None or used.cost <= picodollars(limit.max_cost_usd)
        )

    # --- setting aside and settling -------------------------------------------------------------------

    async def reserve(self, need: Amount, *, what: str) -> None:
        """Set an amount aside, once it fits.

        As long as others have set something aside it waits for them, for they may need less than they
        reserved. Raises `Exceeded` when nobody has and it still does not fit.
        """
        while not self.fits(need):
            if not self._open:
                raise Exceeded(self._refusal(need, what))
            await self.changed()
        self.take(need)

    def reserve_rest(self, most: Budget | None, *, what: str) -> Budget | None:
        """Set aside all that is left, or as much of it as `most` allows; how much that is.

        None where something may be left once others have settled. Raises `Exceeded` where nobody will.
        """
        left = self.left
        if self._held or left.max_tokens == 0 or left.max_cost_usd == 0:
            if not self._open:
                raise Exceeded(self._refusal(Amount(tokens=1), what))
            return None
        rest = tightened(left, most) or left
        self.take(most_of(rest))
        return rest

    def take(self, amount: Amount) -> None:
        """Set an amount aside whatever is left: it was promised before."""
        self.reserved += amount
        self._open += 1

    def settle(self, reserved: Amount, charged: Amount) -> None:
        """What was set aside is no longer; this much of it was used."""
        self.reserved -= reserved
        self.spent += charged
        self._open -= 1
        self.look_again()

    def hold(self) -> None:
        """Something is set aside, and how much will be known in a moment; nothing fits meanwhile."""
        self._held += 1
        self._open += 1

    def release(self) -> None:
        """It is known now, and taken."""
        self._held -= 1
        self._open -= 1
        self.look_again()

    def change(self, limit: Budget) -> None:
        """Another limit holds from here on."""
        self.limit = limit
        self.look_again()

    async def changed(self) -> None:
        """Wait until something is settled or the limit is another one."""
        if self._news is None or self._news.done():
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)

    def look_again(self) -> None:
        """Have whoever waits look at what there is."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _refusal(self, need: Amount, what: str) -> str:
        left, limit = self.left, self.limit
        tokens = (
            limit.max_tokens is not None
            and self.spent.tokens + self.reserved.tokens + need.tokens > limit.max_tokens
        )
        needed = f"{need.tokens:,} tokens" if tokens else f"{dollars(need.cost):.6f} USD"
        there_is = f"{left.max_tokens:,} tokens" if tokens else f"{left.max_cost_usd or 0:.6f} USD"
        return (
            f"{what} may use up to {needed}, and {there_is} are left of the run's budget; "
            "ask for less with 'max_tokens' or a shorter prompt, or raise the budget"
        )


def tightened(*budgets: Budget | None) -> Budget | None:
    """The smaller bound of each sort; the last word on what an exceeded budget leads to."""
    given = [budget for budget in budgets if budget is not None]
    if not given:
        return None
    return Budget(
        max_cost_usd=min((one.max_cost_usd for one in given if one.max_cost_usd is not None), default=None),
        max_tokens=min((one.max_tokens for one in given if one.max_tokens is not None), default=None),
        on_exceeded=given[-1].on_exceeded,
    )


def asked_budget(asked: Mapping[str, Any] | None, document: Budget | None) -> Budget | None:
    """A budget of which only some fields were given, on top of a document's."""
    if asked is None:
        return None
    default = "fail" if document is None else document.on_exceeded
    return Budget(**{"on_exceeded": default, **asked})


def budget_data(budget: Budget) -> dict[str, Any]:
    """A budget as the journal keeps it."""
    return {
        "max_cost_usd": budget.max_cost_usd,
        "max_tokens": budget.max_tokens,
        "on_exceeded": budget.on_exceeded,
    }


def budget_of(data: Mapping[str, Any] | None) -> Budget | None:
    """What `budget_data` made."""
    if data is None:
        return None
    on_exceeded: Literal["fail", "pause"] = data["on_exceeded"]
    return Budget(max_cost_usd=data["max_cost_usd"], max_tokens=data["max_tokens"], on_exceeded=on_exceeded)


def most_of(budget: Budget) -> Amount:
    """All that a budget allows."""
    return Amount(
        budget.max_tokens or 0, 0 if budget.max_cost_usd is None else picodollars(budget.max_cost_usd)
    )


def limit_of(document: Budget | None, history: History) -> Budget | None:
    """What holds for a run: its document and its submission, or what a resume set instead."""
    given = tightened(document, budget_of(history.submitted.get("budget")))
    return given if history.budget is None else replace(given or Budget(), **history.budget)


def charged_so_far(history: History) -> Amount:
    """What a run was charged for, the runs it called included, by its journal alone.

    An attempt whose outcome is not known is charged with what was set aside for it: it may have been billed.
    """
    total = NOTHING
    for step in history.steps.values():
        total += amount_of(step.charged)
        for attempt in step.attempts:
            total += attempt_charge(attempt)
    return total


def attempt_charge(attempt: AttemptRecord) -> Amount:
    """What a budget was charged for one attempt."""
    if attempt.charged is not None or attempt.reserved is not None:
        return amount_of(attempt.reserved if attempt.charged is None else attempt.charged)
    return billed_amount(attempt.billing)


def billed_amount(billing: Mapping[str, Any] | None) -> Amount:
    """What the vendor counted."""
    if billing is None:
        return NOTHING
    tokens = (billing.get("input_tokens") or 0) + (billing.get("output_tokens") or 0)
    costs = (bill.get("cost_usd") or 0.0 for bill in bills_of(billing))
    return Amount(tokens, sum(map(picodollars, costs)))


def bills_of(billing: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The calls that were answered, each by itself."""
    if billing is not None:
        calls = billing.get("calls")
        yield from (billing,) if calls is None else (call for call in calls if "error_class" not in call)


def open_children(history: History) -> Iterator[str]:
    """Paths of steps whose runs are under way, or about to be."""
    for path, step in history.state.steps.items():
        if step.control is not None and step.control.child_open:
            yield path
