"""What servers that speak OpenAI's format say when they fail: read, and put into our classes. No I/O.

OpenAI's own codes are those of its platform documentation ("Error codes"); the others are what servers of
the same format are known to say. Whatever is said by the status alone is not repeated here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from app.ports.errors import ErrorClass
from app.providers.json_format import VendorError

CODES: Final[Mapping[str, ErrorClass]] = {
    "context_length_exceeded": "context_length",
    "exceed_context_size_error": "context_length",
    "string_above_max_length": "context_length",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "invalid_prompt": "content_filter",
    "max_tokens_per_request": "too_large",
    "insufficient_quota": "rate_limit",
    "billing_hard_limit_reached": "rate_limit",
    "billing_not_active": "rate_limit",
    "model_not_found": "not_found",
    "invalid_api_key": "authentication",
    "json_validate_failed": "invalid_output",
    "tool_use_failed": "invalid_output",
}
"""By `code` or `type` of the error. Trying again cannot help, but for what the model itself got wrong."""
ADVICE: Final[Mapping[str, str]] = {
    "max_tokens_per_request": "lower the 'batch_size' of the step",
}
"""What to do about a code whose message does not say it."""

_CONTEXT_WORDS: Final = re.compile(
    r"context[ _](length|window|size)|reduce the length|max_new_tokens\W+must be", re.IGNORECASE
)
_REQUEST_REFUSED: Final = frozenset({400, 413, 422})


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `app.providers.vendor_api.Classify`."""
    error_class = CODES.get(error.code) or CODES.get(error.type)
    if error_class is None and status in _REQUEST_REFUSED and _CONTEXT_WORDS.search(error.message):
        return "context_length"
    return error_class


def read_error(answer: Mapping[str, Any]) -> VendorError | None:
    """The error an answer holds: under `error`, as an object or as text, or where an answer should be."""
    error = answer.get("error")
    if error is None:
        return None if "choices" in answer or "data" in answer else _bare_error(answer)
    if not isinstance(error, dict):
        return VendorError(message=error) if isinstance(error, str) and error else None
    code, kind = _word(error.get("code")), _word(error.get("type"))
    said = _said(error.get("message")) or "no reason was given"
    advice = ADVICE.get(code)
    return VendorError(code=code, type=kind, message=f"{said}; {advice}" if advice else said)


def _bare_error(answer: Mapping[str, Any]) -> VendorError | None:
    """`{object: error, message, type, code}`, or what web frameworks answer themselves, under `detail`."""
    said = _said(answer.get("message")) or _said(answer.get("detail"))
    if not said:
        return None
    return VendorError(code=_word(answer.get("code")), type=_word(answer.get("type")), message=said)


def _said(value: object) -> str:
    """Text, or a list of complaints about the request: where, and what."""
    if isinstance(value, dict):
        return _said(value.get("detail"))
    if isinstance(value, list):
        return "; ".join(_complaint(item) for item in value if isinstance(item, dict))
    return value if isinstance(value, str) else ""


def _complaint(item: Mapping[str, Any]) -> str:
    place = item.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    what = str(item.get("msg") or item.get("type") or "it is not valid")
    return f"{where}: {what}" if where else what


def _word(value: object) -> str:
    return "" if value is None else str(value)
