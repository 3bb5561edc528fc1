"""The `http` kind: one request to a host that the egress policy allows.

Redirects, addresses and limits are the HTTP client's; retries are the scheduler's. Requests that change
something and carry no idempotency key are not repeatable. Whether there is a key is decided when the document
is accepted, so a template for one has to yield one: nothing is sent where it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import urlencode

import orjson
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.ports.buffers import trimmed
from app.ports.errors import PermanentError
from app.ports.http import HttpRequest
from app.ports.steps import StepContext, StepOutcome
from app.steps.base import BaseKind
from app.steps.fields import Flag, Int, Text, scalar_text
from app.steps.http_answer import body_value, status_error
from app.steps.kind import Scope, StepConfig, Templated
from app.steps.urls import HeaderNames, HeaderValue, Url, host_of

READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
IDEMPOTENT: Final = READING | {"PUT", "DELETE"}
CLASSES: Final = frozenset({"1xx", "2xx", "3xx", "4xx", "5xx"})
NOT_KEPT: Final = frozenset({"set-cookie", "authorization", "proxy-authenticate", "www-authenticate"})
"""Answer headers that may carry credentials and therefore do not become outputs."""


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _query_value(value: Any) -> Any:
    scalars = value if isinstance(value, list) else [value]
    if all(item is None or isinstance(item, (str, int, float)) for item in scalars):
        return value
    raise PydanticCustomError(
        "query_value", "Input should be text, a number, true, false, null or a list of these"
    )


def _status_class(value: str) -> str:
    if value not in CLASSES:
        raise PydanticCustomError(
            "status_class", "Input should be a status such as 200, or a class such as '2xx'"
        )
    return value


def _still_a_key(value: Any, info: ValidationInfo) -> Any:
    """Refuse a key that its template left empty: the step counts as repeatable because of it."""
    rendered = info.context and info.context.get("rendered")
    empty = value is None or value is False or (isinstance(value, str) and not value.strip())
    if rendered and empty and info.data.get("method") not in IDEMPOTENT:
        raise PydanticCustomError(
            "no_idempotency_key",
            "Its template came out empty, and the step may be repeated only because of its key; make the "
            "template yield true or a text, or remove 'idempotency_key'. Nothing was sent",
        )
    return value


Method = Annotated[
    Literal["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"], BeforeValidator(_upper)
]
StatusCode = Annotated[Int, Field(ge=100, le=599)]
StatusClass = Annotated[str, AfterValidator(_status_class)]
Status = Annotated[
    Annotated[StatusCode, Tag("[code]")] | Annotated[StatusClass, Tag("[class]")],
    Discriminator(lambda value: "[class]" if isinstance(value, str) else "[code]"),
]


class Expect(StepConfig):
    """Which answers count as success: a code, a class such as `2xx`, or a list of both."""

    status: Templated[
        Annotated[
            Annotated[list[Status], Field(min_length=1, max_length=50), Tag("[list]")]
            | Annotated[Status, Tag("[one]")],
            Discriminator(lambda value: "[list]" if isinstance(value, list) else "[one]"),
        ]
    ] = "2xx"
    """A code, a class such as `2xx`, or a list of these."""

    def meets(self, status: int) -> bool:
        """Whether an answer with this status is a success."""
        wanted = self.status if isinstance(self.status, list) else [self.status]
        return status in wanted or f"{status // 100}xx" in wanted


class HttpConfig(StepConfig):
    """Keys of an `http` step."""

    method: Templated[Method] = "GET"
    """The method."""
    url: Templated[Url]
    """Where to. Only hosts that the egress policy of the operator allows are reached."""
    headers: Templated[Annotated[dict[str, Templated[HeaderValue]], Field(max_length=100), HeaderNames]] = (
        Field(default_factory=dict)
    )
    """Headers by name."""
    query: Templated[dict[str, Annotated[Any, AfterValidator(_query_value)]]] = Field(default_factory=dict)
    """Added to the URL; a list repeats the name, null leaves it out."""
    json_body: Any = Field(default=None, alias="json")
    """A value that is sent as JSON. At most one of `json` and `body`."""
    body: Templated[Text] | None = None
    """A text that is sent as it is."""
    expect: Templated[Expect] = Field(default_factory=Expect)
    """Which answers are a success: `{status: …}` with a code, a class such as `2xx`, or a list of these."""
    idempotency_key: Annotated[
        Templated[
            Annotated[
                Annotated[Flag, Tag("[flag]")] | Annotated[HeaderValue, Field(min_length=1), Tag("[text]")],
                Discriminator(lambda value: "[flag]" if isinstance(value, bool) else "[text]"),
            ]
        ],
        BeforeValidator(_still_a_key),
    ] = False
    """`true` for the key of the step, or a text; sent as `Idempotency-Key`, the same in every attempt."""

    @property
    def sends_json(self) -> bool:
        """Whether `json` was given; null is a JSON value too."""
        return "json_body" in self.model_fields_set

    @model_validator(mode="after")
    def _one_body(self) -> HttpConfig:
        if self.sends_json and self.body is not None:
            raise PydanticCustomError("one_body", "Give at most one of 'json' and 'body'")
        if self.method in ("GET", "HEAD") and (self.sends_json or self.body is not None):
            raise PydanticCustomError(
                "no_body",
                "A {method} request has no body; use 'query', or another method",
                {"method": self.method},
            )
        return self


class HttpKind(BaseKind):
    """Sends a request and reads the answer.

    Outputs: `status` (a number), `headers` (names in lower case, without cookies and credentials) and
    `body` (see `app.steps.http_answer.body_value`).

    Raises what the client raises; for a status that `expect` does not name, `TemporaryError` (408, 425,
    429, 5xx; with the callee's `Retry-After`) or `PermanentError`.
    """

    name: ClassVar[str] = "http"
    config_model: ClassVar[type[StepConfig]] = HttpConfig
    outputs: ClassVar[tuple[str, ...]] = ("status", "headers", "body")

    def normalise(self, config: Mapping[str, Any], scope: Scope) -> Mapping[str, Any]:
        """`idempotency_key: false` says what its absence says; a false that is rendered does not."""
        if config.get("idempotency_key") is False:
            return {key: value for key, value in config.items() if key != "idempotency_key"}
        return config

    def repeatable(self, config: HttpConfig) -> bool:
        """Whether the method is idempotent by definition, or a key makes the callee see one request."""
        return config.method in IDEMPOTENT or config.idempotency_key is not False

    async def execute(self, config: HttpConfig, context: StepContext) -> StepOutcome:
        """Send once."""
        whom = f"{config.method} {host_of(config.url)!r}"
        response = await context.services.http.send(_request(config, context))
        if not config.expect.meets(response.status):
            raise status_error(response, whom=whom)
        headers = {name: value for name, value in response.headers.items() if name not in NOT_KEPT}
        body = body_value(response, whom=whom)
        return StepOutcome(outputs={"status": response.status, "headers": headers, "body": body})


def _request(config: HttpConfig, context: StepContext) -> HttpRequest:
    headers = dict(config.headers)
    present = {name.lower() for name in headers}
    content, content_type = _content(config)
    if content_type and "content-type" not in present:
        headers["Content-Type"] = content_type
    key = context.call.idempotency_key if config.idempotency_key is True else config.idempotency_key
    if key and config.method not in IDEMPOTENT and "idempotency-key" not in present:
        headers["Idempotency-Key"] = str(key)
    return HttpRequest(
        method=config.method,
        url=_with_query(config.url, config.query),
        headers=headers,
        content=content,
        timeout_seconds=context.call.timeout_seconds,
    )


def _content(config: HttpConfig) -> tuple[bytes | None, str | None]:
    try:
        if config.sends_json:
            return trimmed(orjson.dumps(config.json_body)), "application/json"
        if config.body is not None:
            return config.body.encode(), "text/plain; charset=utf-8"
    except (TypeError, UnicodeEncodeError) as error:
        raise PermanentError("invalid_request", f"the request's body cannot be encoded: {error}") from None
    return None, None


def _with_query(url: str, query: dict[str, Any]) -> str:
    pairs = [
        (name, scalar_text(item))
        for name, value in query.items()
        for item in (value if isinstance(value, list) else [value])
        if item is not None
    ]
    if not pairs:
        return url
    base, hash_mark, fragment = url.partition("#")
    joint = "&" if "?" in base else "?"
    return f"{base}{joint}{urlencode(pairs)}{hash_mark}{fragment}"
