"""Token counts as step outputs show them, and their sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.ports.models import Usage


def usage_output(usage: Usage) -> dict[str, Any]:
    """`{input_tokens, output_tokens, cached_tokens, reasoning_tokens}`, null where the vendor was silent."""
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def total(usages: Sequence[Usage]) -> Usage:
    """The sum of several calls; a count is None only where no call reported it."""

    def added(counts: Sequence[int | None]) -> int | None:
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    return Usage(
        input_tokens=added([usage.input_tokens for usage in usages]),
        output_tokens=added([usage.output_tokens for usage in usages]),
        cached_tokens=added([usage.cached_tokens for usage in usages]),
        cache_write_tokens=added([usage.cache_write_tokens for usage in usages]),
        reasoning_tokens=added([usage.reasoning_tokens for usage in usages]),
    )
