"""What an HTTP answer means to a step: an error of which kind, and a body as a JSON value."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from app.ports.errors import ErrorClass, PermanentError, TemporaryError
from app.ports.http import HttpResponse
from app.ports.retry_after import http_date, parse_retry_after
from app.steps.charsets import decoded

_TEMPORARY: Final[Mapping[int, ErrorClass]] = {
    408: "timeout",
    425: "server_error",
    429: "rate_limit",
    504: "timeout",
}
_PERMANENT: Final[Mapping[int, ErrorClass]] = {
    401: "authentication",
    403: "permission",
    404: "not_found",
    410: "not_found",
    413: "too_large",
}
_SUCCESS: Final = 2
_SERVER_ERROR: Final = 5
_ADVICE: Final[Mapping[int, str]] = {
    2: "name it in 'expect: {status: …}' if that is right",
    3: "write the URL it redirects to, or name the status in 'expect'",
}
_TEXTUAL: Final = frozenset(
    {"application/xml", "application/javascript", "application/x-www-form-urlencoded", "application/x-ndjson"}
)


def is_success(status: int) -> bool:
    """Whether a status is one of 2xx."""
    return status // 100 == _SUCCESS


def status_error(response: HttpResponse, *, whom: str) -> PermanentError | TemporaryError:
    """The error for a status that was not hoped for; `whom` names the callee in the message.

    408, 425, 429 and every 5xx are temporary and carry the callee's `Retry-After`, the rest is permanent.
    """
    status, family = response.status, response.status // 100
    if status in _TEMPORARY or family == _SERVER_ERROR:
        return TemporaryError(
            _TEMPORARY.get(status, "server_error"),
            f"{whom} answered {status}; try again later",
            status=status,
            retry_after=_retry_after(response),
        )
    error_class = _PERMANENT.get(status, "invalid_output" if family == _SUCCESS else "invalid_request")
    advice = _ADVICE.get(family, "check the URL, the parameters and the credentials")
    return PermanentError(error_class, f"{whom} answered {status}; {advice}", status=status)


def _retry_after(response: HttpResponse) -> float | None:
    # The callee's own clock, where it shows one: a date is meant on that clock, not on ours.
    their_now = http_date(response.headers.get("date", ""))
    now = time.time() if their_now is None else their_now
    return parse_retry_after(response.headers.get("retry-after"), now=now)


def body_value(response: HttpResponse, *, whom: str) -> Any:
    """The body as a JSON value.

    Nothing is null; JSON (by content type) is parsed; text is text in its declared character set, if that
    is one we read (`app.steps.charsets`); everything else is `{"base64": "…"}`. Raises
    `PermanentError("invalid_output")` for a body that claims to be JSON and is not: the request has already
    done its work, and repeating it would do that twice.
    """
    if not response.content:
        return None
    kind, charset = _content_type(response.headers.get("content-type", ""))
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise PermanentError(
                "invalid_output",
                f"{whom} answered with a body that claims to be JSON and is not ({error.msg})",
                status=response.status,
            ) from None
    if kind.startswith("text/") or kind.endswith("+xml") or kind in _TEXTUAL or not kind:
        text = decoded(response.content, charset)
        if text is not None:
            return text
    return {"base64": base64.b64encode(response.content).decode("ascii")}


def _content_type(header: str) -> tuple[str, str]:
    """Media type in lower case, and charset (UTF-8 where none is named)."""
    kind, *parameters = header.split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return kind.strip().lower(), value.strip().strip('"') or "utf-8"
    return kind.strip().lower(), "utf-8"
