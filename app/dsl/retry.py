"""How often and when a failed step is tried again, from an author's words to the core's policy."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StrictInt, Tag
from pydantic_core import PydanticCustomError

from app.core.plan import Backoff, Jitter, RetryPolicy
from app.ports.errors import RETRYABLE_CLASSES

NEVER: Final = "never"
MAX_ATTEMPTS: Final = 100
MAX_DELAY_MS: Final = 24 * 3600 * 1000

ONE_TRY: Final = RetryPolicy()
"""No second try."""

SERVICE_RETRY: Final = RetryPolicy(max_attempts=3, retry_on=RETRYABLE_CLASSES)
"""What a step gets whose author says nothing: three tries, 1 s doubling to at most 30 s, full jitter."""

Tries = Annotated[StrictInt, Field(ge=1, le=MAX_ATTEMPTS)]
RetryClass = Literal["rate_limit", "timeout", "server_error", "connection", "invalid_output"]


class RetryDocument(BaseModel):
    """The `retry` key. `max_attempts` counts all tries; delays are milliseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    max_attempts: Tries = SERVICE_RETRY.max_attempts
    """Total tries."""
    backoff: Backoff = SERVICE_RETRY.backoff
    """How the delay grows: it doubles, grows by the initial delay, or stays."""
    initial_delay_ms: Annotated[StrictInt, Field(ge=0, le=MAX_DELAY_MS)] = 1_000
    """Before the second try."""
    max_delay_ms: Annotated[StrictInt, Field(ge=0, le=MAX_DELAY_MS)] | None = None
    """Cap on one delay. If absent: 30 s, or the initial delay where that is longer."""
    jitter: Jitter = SERVICE_RETRY.jitter
    """`full`: a delay between 0 and the backoff."""
    max_duration_seconds: Annotated[float, Field(strict=True, gt=0, le=30 * 24 * 3600)] | None = None
    """No try starts later than this after the first one."""
    retry_on: Annotated[list[RetryClass], Field(min_length=1)] | None = None
    """Classes of errors that are worth another try. If absent: all of these."""

    def policy(self) -> RetryPolicy:
        """The same in the core's words."""
        initial = self.initial_delay_ms / 1000
        return RetryPolicy(
            max_attempts=self.max_attempts,
            backoff=self.backoff,
            initial_delay=initial,
            max_delay=(
                max(SERVICE_RETRY.max_delay, initial)
                if self.max_delay_ms is None
                else self.max_delay_ms / 1000
            ),
            jitter=self.jitter,
            max_duration=self.max_duration_seconds,
            retry_on=RETRYABLE_CLASSES if self.retry_on is None else frozenset(self.retry_on),
        )


def _spelled_out(value: Any) -> Any:
    if value == NEVER or isinstance(value, dict):
        return value
    if type(value) is int and value >= 1:
        return {"max_attempts": value}
    raise PydanticCustomError(
        "retry",
        "This should be an object ({max_attempts: 3}), a total number of tries, or 'never'",
    )


RetryValue = Annotated[
    Annotated[RetryDocument, Tag("object")] | Annotated[Literal["never"], Tag(NEVER)],
    Discriminator(lambda value: NEVER if value == NEVER else "object"),
    BeforeValidator(_spelled_out, json_schema_input_type=RetryDocument | Literal["never"] | Tries),
]
"""The object, `never`, or the total number of tries."""


def policy_of(value: RetryDocument | Literal["never"]) -> RetryPolicy:
    """What an author wrote, as a policy."""
    return ONE_TRY if value == NEVER else value.policy()
