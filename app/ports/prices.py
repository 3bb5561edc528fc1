"""What tokens cost, as engines and services need to know it.

Money is counted in whole picodollars (10⁻¹² US dollars), because sums of them are exact and a list price
of a few cents per million tokens is still a whole number of them per token. What is not known has no
price (None): nothing here takes unknown for free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from app.ports.models import Usage

PICODOLLARS: Final = 10**12
"""In one US dollar."""
MILLION: Final = 10**6


def picodollars(usd: float) -> int:
    """A sum in US dollars, rounded to whole picodollars."""
    return round(usd * PICODOLLARS)


def dollars(amount: int) -> float:
    """An amount of picodollars in US dollars."""
    return amount / PICODOLLARS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Picodollars a token. Cached tokens are input tokens that the vendor read from its cache, written ones
    those that it put there."""

    input: int
    output: int = 0
    cached_input: int
    cache_write: int

    def cost(self, input_tokens: int, output_tokens: int, *, cached: int = 0, written: int = 0) -> int:
        """Picodollars; `cached` and `written` are among the `input_tokens`."""
        cached = min(cached, input_tokens)
        written = min(written, input_tokens - cached)
        fresh = input_tokens - cached - written
        read = fresh * self.input + cached * self.cached_input + written * self.cache_write
        return read + output_tokens * self.output

    @property
    def dearest_input(self) -> int:
        """Whatever the vendor does with its cache."""
        return max(self.input, self.cached_input, self.cache_write)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one model costs. A call with more than `above` input tokens costs `long`, all of it."""

    rate: Rate
    above: int | None = None
    long: Rate | None = None

    def cost(self, usage: Usage) -> int | None:
        """Picodollars of one call; None where the vendor did not say what was used."""
        if usage.input_tokens is None or (usage.output_tokens is None and self._charges_output):
            return None
        rate = self._rate_at(usage.input_tokens)
        return rate.cost(
            usage.input_tokens,
            usage.output_tokens or 0,
            cached=usage.cached_tokens or 0,
            written=usage.cache_write_tokens or 0,
        )

    def at_most(self, input_tokens: int, output_tokens: int) -> int:
        """Picodollars that a call within these bounds can cost at most."""
        rates = [self.rate, self._rate_at(input_tokens)]
        return max(input_tokens * rate.dearest_input + output_tokens * rate.output for rate in rates)

    @property
    def _charges_output(self) -> bool:
        return bool(self.rate.output or (self.long is not None and self.long.output))

    def _rate_at(self, input_tokens: int) -> Rate:
        is_long = self.long is not None and self.above is not None and input_tokens > self.above
        return self.long if is_long and self.long is not None else self.rate


def per_million(
    *,
    input: float,
    output: float = 0.0,
    cached_input: float | None = None,
    cache_write: float | None = None,
) -> Rate:
    """The rate of a list price in US dollars per million tokens. Without prices of their own, what the vendor
    read from its cache and what it wrote there cost as much as other input."""
    return Rate(
        input=_a_token(input),
        output=_a_token(output),
        cached_input=_a_token(input if cached_input is None else cached_input),
        cache_write=_a_token(input if cache_write is None else cache_write),
    )


def _a_token(usd: float) -> int:
    return round(usd * PICODOLLARS / MILLION)


FREE: Final = Price(rate=per_million(input=0.0))


class Prices(Protocol):
    """Knows what models cost."""

    def of(self, provider: str, model: str) -> Price | None:
        """The price of a model at an instance of a provider, by the names that documents use; None where
        it is not known. Never raises."""
        ...
