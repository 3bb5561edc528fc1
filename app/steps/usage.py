"""Token counts as step outputs show them, and their sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.ports.models import Usage, counted


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
    return Usage(
        input_tokens=counted(usage.input_tokens for usage in usages),
        output_tokens=counted(usage.output_tokens for usage in usages),
        cached_tokens=counted(usage.cached_tokens for usage in usages),
        cache_write_tokens=counted(usage.cache_write_tokens for usage in usages),
        reasoning_tokens=counted(usage.reasoning_tokens for usage in usages),
    )
