"""What the adapters of vendors with a JSON API share: one instance's address, credentials and limits.

Nothing here knows a vendor. Credentials are asked for when a request is sent, go to the instance's own
origin only (redirects are not followed), and are cut out of every text that comes back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.ports.http import HttpResponse
from app.providers.decoding import ACCEPT_ENCODING
from app.providers.transport import MAX_ANSWER_BYTES, Call, StreamedAnswer, Transport

USER_AGENT: Final = "llm-orchestrator"
LONGEST_QUOTE: Final = 300
"""Characters of a vendor's own message that are passed on."""


Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
BASE_URL_RULE: Final = "must look like https://host/path, without credentials or a query"


def is_base_url(url: str) -> bool:
    """Whether paths can be appended to it."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # looked at only when asked for
    except ValueError:
        return False
    return (
        parts.scheme in {"http", "https"}
        and bool(parts.hostname)
        and parts.username is None
        and not {"?", "#"} & set(url)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A secret header: `prefix` and the secret make its value (`Authorization: Bearer …`)."""

    header: str
    secret: SecretStr
    prefix: str = ""


def is_set(key: SecretStr | None) -> bool:
    """Whether there is a key."""
    return key is not None and bool(key.get_secret_value())


def key_in(header: str, key: SecretStr | None, *, prefix: str = "") -> Credential | None:
    """An instance's key in a header of its vendor's; None where it has no key."""
    return None if key is None else Credential(header=header, secret=key, prefix=prefix)


def bearer(key: SecretStr | None) -> Credential | None:
    """An instance's key as a bearer token (RFC 6750); None where it has no key."""
    return key_in("authorization", key, prefix="Bearer ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an instance is and what every request to it carries. `timeout_seconds` caps each call's own."""

    instance: str
    base_url: str
    timeout_seconds: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    credentials: tuple[Credential, ...] = ()

    def __post_init__(self) -> None:
        if not is_base_url(self.base_url):
            raise ValueError(f"the base URL of instance {self.instance!r} {BASE_URL_RULE}")


class EndpointConfig(Protocol):
    """What the config of every vendor has that is reached over HTTP."""

    @property
    def name(self) -> str:
        """What workflows call the instance."""
        ...

    @property
    def base_url(self) -> str:
        """What paths are appended to."""
        ...

    @property
    def timeout_seconds(self) -> float:
        """The longest that one call may take."""
        ...


def endpoint_of(
    config: EndpointConfig,
    credential: Credential | None,
    headers: Mapping[str, str | SecretStr] | None = None,
) -> Endpoint:
    """Where a configured instance is, with its key and its headers; secret headers are credentials too.

    Raises `ValueError` for a base URL that is none.
    """
    given = headers or {}
    secret = [
        Credential(header=name, secret=value) for name, value in given.items() if isinstance(value, SecretStr)
    ]
    return Endpoint(
        instance=config.name,
        base_url=config.base_url,
        timeout_seconds=config.timeout_seconds,
        headers={name: value for name, value in given.items() if isinstance(value, str)},
        credentials=tuple(secret) if credential is None else (*secret, credential),
    )


class JsonApi:
    """Sends JSON to one instance."""

    def __init__(self, transport: Transport, endpoint: Endpoint) -> None:
        self.instance = endpoint.instance
        self._transport = transport
        self._endpoint = endpoint
        self._who = f"instance {endpoint.instance!r}"
        self._base = endpoint.base_url.rstrip("/")
        self._headers = {
            "user-agent": USER_AGENT,
            "accept": "application/json",
            "accept-encoding": ACCEPT_ENCODING,
            "content-type": "application/json",
            **{name.lower(): value for name, value in endpoint.headers.items()},
        }

    def request(
        self,
        method: Method,
        path: str,
        body: bytes | None,
        *,
        headers: Mapping[str, str],
        timeout_seconds: float,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Awaitable[HttpResponse]:
        """Send to `base_url + path` and read the whole answer, whatever its status.

        Raises `PermanentError` (too_large) or `TemporaryError` (connection, timeout, server_error).
        """
        call = self._call(method, path, body, headers, timeout_seconds, max_bytes=max_bytes)
        return self._transport.exchange(call)

    def stream(
        self, path: str, body: bytes, *, headers: Mapping[str, str], timeout_seconds: float
    ) -> AbstractAsyncContextManager[StreamedAnswer]:
        """Post, and read the answer as it arrives; leaving the context aborts what is left of it."""
        wanted = {"accept": "text/event-stream", **headers}
        return self._transport.stream(self._call("POST", path, body, wanted, timeout_seconds))

    def quote(self, text: object) -> str:
        """A vendor's own words, fit to be shown: short, on one line and without our credentials."""
        words = " ".join(str(text).split())
        for credential in self._endpoint.credentials:
            secret = credential.secret.get_secret_value()
            if secret:
                words = words.replace(secret, "[secret]")
        return words if len(words) <= LONGEST_QUOTE else words[:LONGEST_QUOTE] + "…"

    def _call(
        self,
        method: Method,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_seconds: float,
        *,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Call:
        sent = {**self._headers, **headers}
        for credential in self._endpoint.credentials:
            sent[credential.header.lower()] = credential.prefix + credential.secret.get_secret_value()
        return Call(
            method=method,
            url=self._base + path,
            who=self._who,
            timeout_seconds=min(timeout_seconds, self._endpoint.timeout_seconds),
            headers=sent,
            content=body,
            max_bytes=max_bytes,
        )
