"""Parameters as a log may show them: bounded, and without what their names call secret.

A second line behind the redactor that every log line passes.
"""

from __future__ import annotations

import json
from typing import Any, Final

MASK: Final = "***"
MAX_DEPTH: Final = 6
MAX_ENTRIES: Final = 50

_SECRET_WORDS: Final = (
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "authorization",
    "cookie",
)


def masked(value: Any, *, limit: int) -> str:
    """The value as JSON text of at most `limit` characters, secret-looking texts masked."""
    return json.dumps(_masked(value, 0, limit), ensure_ascii=False, default=str)[:limit]


def _masked(value: Any, depth: int, limit: int) -> Any:
    if isinstance(value, str):
        return value[:limit]
    if isinstance(value, (dict, list)) and depth == MAX_DEPTH:
        return "…"
    if isinstance(value, dict):
        shown = list(value.items())[:MAX_ENTRIES]
        return {
            str(name)[:200]: MASK if _is_secret(str(name), inner) else _masked(inner, depth + 1, limit)
            for name, inner in shown
        }
    if isinstance(value, list):
        return [_masked(inner, depth + 1, limit) for inner in value[:MAX_ENTRIES]]
    return value


def _is_secret(name: str, value: Any) -> bool:
    # Counts such as `tokens: 120` are no secrets.
    return isinstance(value, str) and any(word in name.lower().replace("-", "_") for word in _SECRET_WORDS)
