"""How long first answers are kept under their idempotency keys."""

from __future__ import annotations


def has_expired(created_at: float, now: float, keep: float) -> bool:
    """Whether an answer created then is of no more use (all epoch seconds)."""
    return created_at <= now - keep
