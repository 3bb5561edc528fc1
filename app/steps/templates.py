"""Finding templates inside the values of a document."""

from __future__ import annotations

from typing import Any

from app.steps.kind import is_template


def holds_template(value: Any) -> bool:
    """Whether a value, or anything inside it, is still to be rendered."""
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            waiting.extend(current.keys())
            waiting.extend(current.values())
        elif isinstance(current, list):
            waiting.extend(current)
        elif is_template(current):
            return True
    return False
