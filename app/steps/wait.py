"""The `wait` kind: nothing, for some time or until a given time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from app.core.plan import Block, Wait
from app.steps.control import BaseControl
from app.steps.fields import Number
from app.steps.kind import StepConfig, Templated

MAX_SECONDS: Final = 366 * 24 * 3600
LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999, where calendars of most systems end."""
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?P<zone>[Zz]|[+-]\d\d:\d\d)?")


def _instant(value: Any) -> Any:
    """Epoch seconds of an RFC 3339 time."""
    if not isinstance(value, str):
        return value
    found = _RFC3339.fullmatch(value.strip())
    if found is None:
        raise PydanticCustomError(
            "no_instant", "Input should be a time such as '2030-01-31T09:00:00Z', or seconds since 1970"
        )
    if found["zone"] is None:
        raise PydanticCustomError(
            "naive_instant",
            "Input should say its time zone: end it with 'Z' or an offset such as '+02:00'",
        )
    try:
        return datetime.fromisoformat(found[0].upper()).timestamp()
    except (ValueError, OverflowError):
        raise PydanticCustomError("no_instant", "Input should be a day and a time that exist") from None


Instant = Annotated[
    Number,
    Field(ge=0, le=LAST_SECOND),
    BeforeValidator(_instant),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number", "minimum": 0}]}),
]


class WaitConfig(StepConfig):
    """Keys of a `wait` step: one of the two. Rendered, `until` is in epoch seconds."""

    seconds: Templated[Annotated[Number, Field(ge=0, le=MAX_SECONDS)]] | None = None
    """How long, at most 366 days. Exactly one of `seconds` and `until`."""
    until: Templated[Instant] | None = None
    """A time with its zone (`2030-01-31T09:00:00Z`), or seconds since 1970; one that is over ends the wait
    at once."""

    @model_validator(mode="after")
    def _one_end(self) -> WaitConfig:
        if (self.seconds is None) == (self.until is None):
            raise PydanticCustomError("one_end", "Give exactly one of 'seconds' and 'until'")
        return self


class WaitKind(BaseControl):
    """Waits at no cost; a time that is over ends it at once. No outputs."""

    name: ClassVar[str] = "wait"
    config_model: ClassVar[type[StepConfig]] = WaitConfig

    def control(self, config: WaitConfig, blocks: Mapping[str | None, Block], *, conditional: bool) -> Wait:
        """A wait."""
        return Wait()
