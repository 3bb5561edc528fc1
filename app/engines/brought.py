"""What a try asks and what it brought: the words between an attempt and what may stand in for its call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from app.dsl.compiled import CompiledStep
from app.engines.identity import RunIdentity
from app.ports.records import record


@record
class Asked:
    """A step that is rendered and about to make its call."""

    run: RunIdentity
    step: CompiledStep
    path: str
    names: Mapping[str, Any]
    """What the step's templates see."""
    content: str | None
    """The digest of what it is about to do; None where there is none."""


@record
class Brought:
    """What a try brought, by the kind's own output names."""

    outputs: Mapping[str, Any]
    billing: Mapping[str, Any] | None = None
    """Who was called and what was used; None where nobody was."""
    source: Mapping[str, Any] | None = None
    """Where the outputs come from if no call was made: `{run_id, saved}` or `{cache: true, saved}`.

    `saved` is the billing of the call that was not repeated.
    """
    emitted: tuple[Mapping[str, Any], ...] = ()
    """Facts worth an event of their own."""


Call = Callable[[], Awaitable[Brought]]


class OutcomeCache(Protocol):
    """Knows what steps brought before."""

    async def outcome(self, asked: Asked, call: Call, *, fresh: bool) -> Brought:
        """What is known, or what `call` brings. `fresh`: call in any case, and know it from then on."""
        ...
