"""Types of single settings: what a URL, a list or a header has to look like. Messages say what to write."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from app.providers.json_api import BASE_URL_RULE, is_base_url
from app.services.webhook_signing import SECRET_RULE, is_secret

HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]+")
KEY: Final = re.compile(r"[\x21-\x7e]+")
HOST_NAME: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
HOST_PORT: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
OWN_HEADERS: Final = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "expect", "host"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)
"""What the HTTP client and the adapters say themselves."""


_POSTGRESQL_URL: Final = "must look like postgresql://user:password@host:5432/database"
_POSTGRESQL_RULE: Final = (
    f"{_POSTGRESQL_URL}, with '/', '#', '?' and '@' of a password written as %2F, %23, %3F and %40"
)


def base_url(value: str) -> str:
    """A URL that paths can be appended to. Raises `ValueError`."""
    if not is_base_url(value):
        raise ValueError(BASE_URL_RULE)
    return value


def _http_url(value: str) -> str:
    rule = "must look like https://host/path, without credentials"
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:  # it quotes what may be a credential
        raise ValueError(rule) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ValueError(rule)
    return value


def api_key(value: SecretStr) -> SecretStr:
    """A key without the white space around it. Raises `ValueError` for what no header carries."""
    key = value.get_secret_value().strip()
    if key and not KEY.fullmatch(key):
        raise ValueError("must be one line of ASCII text without spaces")
    return SecretStr(key)


def _headers(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, secret in value.items():
        if not HEADER_NAME.fullmatch(name) or name.lower() in OWN_HEADERS:
            raise ValueError(f"{name!r} is no header that can be set")
        if not HEADER_VALUE.fullmatch(secret.get_secret_value()):
            raise ValueError(f"the value of {name!r} must be one line of ASCII text")
    return value


def _host_names(value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        if not HOST_NAME.fullmatch(name):
            raise ValueError(f"{name!r} must be a host name or an address, without scheme and port")
    return value


def _host_port(value: str) -> str:
    if not (found := HOST_PORT.fullmatch(value)) or int(found[1]) > 65_535:  # noqa: PLR2004  the last port
        raise ValueError("must look like host:port, without a scheme")
    return value


def _webhook_secret(value: SecretStr) -> SecretStr:
    if not is_secret(value.get_secret_value()):
        raise ValueError(SECRET_RULE)
    return value


def _listed(value: Any) -> Any:
    """An environment variable holds a list as `a,b`."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _postgresql_url(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        _ = parts.port
    except ValueError:  # it quotes what may be a part of the password
        raise ValueError(_POSTGRESQL_RULE) from None
    if parts.scheme not in {"postgresql", "postgres"} or len(parts.path) < 2:  # noqa: PLR2004  a slash and a name
        raise ValueError(_POSTGRESQL_RULE)
    return value


def _dsn(value: SecretStr) -> SecretStr:
    rule = _POSTGRESQL_URL
    try:
        parts = urlsplit(value.get_secret_value())
        _ = parts.port if "," not in parts.netloc else None  # of several hosts, the driver reads each
    except ValueError:
        raise ValueError(rule) from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise ValueError(rule)
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
BaseUrl = Annotated[str, AfterValidator(base_url)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgresql_url)]
Dsn = Annotated[SecretStr, AfterValidator(_dsn)]
ApiKey = Annotated[SecretStr, AfterValidator(api_key)]
WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]
Headers = Annotated[dict[str, SecretStr], AfterValidator(_headers)]
HostPort = Annotated[str, AfterValidator(_host_port)]
Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_host_names)]
