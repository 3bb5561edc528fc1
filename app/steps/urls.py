"""Addresses and headers that a workflow may name.

Which hosts may be reached is the HTTP client's business.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from app.steps.fields import Text

MAX_URL: Final = 8_192
MAX_HEADER_VALUE: Final = 8_192

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_OWNED_BY_CLIENT: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}
)


def _check_url(url: str) -> str:
    if any(character <= " " or character == "\x7f" for character in url):
        raise _invalid("hold no white space or control characters; write `| urlencode` in the template")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading the port is what checks it
    except ValueError:
        raise _invalid("be a URL like 'https://api.example.com/path'") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _invalid("start with 'http://' or 'https://' and a host name")
    if parts.username is not None or parts.password is not None:
        raise _invalid("carry no credentials; send them in 'headers'")
    return url


def _check_headers(headers: dict[str, Any]) -> dict[str, Any]:
    for name in headers:
        if not _HEADER_NAME.fullmatch(name):
            raise _invalid("have names of letters, digits and '-'")
        if name.lower() in _OWNED_BY_CLIENT:
            raise _invalid(f"leave {name.lower()!r} to the service; remove it")
    return headers


def _check_header_value(value: str) -> str:
    if not value.isascii() or any(character < " " and character != "\t" for character in value):
        raise _invalid("be one line of ASCII text")
    return value


def _invalid(demand: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_http", "Input should {demand}", {"demand": demand})


Url = Annotated[str, Field(min_length=1, max_length=MAX_URL), AfterValidator(_check_url)]
"""An absolute `http` or `https` URL without credentials in it."""

HeaderValue = Annotated[Text, Field(max_length=MAX_HEADER_VALUE), AfterValidator(_check_header_value)]
HeaderNames = AfterValidator(_check_headers)
"""Checks the names of a mapping of headers."""


def host_of(url: str) -> str:
    """The host of a checked URL: what may be shown of it, since paths and queries may hold secrets."""
    return urlsplit(url).hostname or ""
