"""Several models for one question: who is asked next, and what it means that nobody answered.

Within one attempt the candidates are asked in order, each at most once, until one answers. The next one is
asked where another model can help: the failure is temporary, the question is too long for the model, its
vendor filtered it, or the instance cannot serve it at all. A question that is wrong is wrong for everybody
and ends the attempt, and so does a failure after a piece of an answer was streamed: what live listeners
have heard is not mixed with another model's words. All candidates share the attempt's time: each may take
an equal part of what is left, so that one which stalls leaves time for the others.

Asking the same model again is not this module's business: retries are the scheduler's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from app.ports.errors import (
    RETRYABLE_CLASSES,
    CallError,
    ErrorClass,
    PermanentError,
    TemporaryError,
)
from app.ports.models import CallContext, ChatRequest

MOST_FALLBACKS: Final = 8
"""Models beside the first one that one step may name."""
MOST_SAID: Final = 200
"""Characters of what a candidate met that are told."""
LEAST_SECONDS: Final = 0.001
FALLS_BACK: Final[frozenset[ErrorClass]] = RETRYABLE_CLASSES | {
    "context_length",
    "content_filter",
    "not_found",
    "authentication",
    "permission",
    "unknown_provider",
}
"""Failures that another model may not meet."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One model to ask, and what."""

    provider: str
    request: ChatRequest
    key: str = ""
    """Ends the idempotency keys of its calls, which are effects of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A candidate that did not answer, and why."""

    candidate: Candidate
    error: CallError

    def as_output(self) -> dict[str, str]:
        """`{provider, model, error_class, detail}`."""
        return {
            "provider": self.candidate.provider,
            "model": self.candidate.request.model,
            "error_class": self.error.error_class,
            "detail": str(self.error)[:MOST_SAID],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[T]):
    """Who answered, and who did not before."""

    answer: T
    candidate: Candidate
    misses: Sequence[Miss]


async def first_answer(
    candidates: Sequence[Candidate],
    call: CallContext,
    ask: Callable[[Candidate, CallContext], Awaitable[T]],
    *,
    streamed: Callable[[], bool],
) -> Found[T]:
    """Ask one candidate after another. Raises what `together` makes of their failures.

    `streamed` says whether a piece of an answer has been passed on already.
    """
    now = asyncio.get_running_loop().time
    until = now() + call.timeout_seconds
    misses: list[Miss] = []
    for place, candidate in enumerate(candidates):
        others = len(candidates) - place - 1
        share = max((until - now()) / (others + 1), LEAST_SECONDS)
        own = replace(call, idempotency_key=call.idempotency_key + candidate.key, timeout_seconds=share)
        try:
            # The call has the same bound; time spent waiting for its turn counts as well here.
            async with asyncio.timeout(share if others else None):
                return Found(answer=await ask(candidate, own), candidate=candidate, misses=misses)
        except TimeoutError:
            error: CallError = TemporaryError("timeout", f"there was no answer within {share:.3g} s")
        except CallError as failed:
            error = failed
        misses.append(Miss(candidate=candidate, error=error))
        if error.error_class not in FALLS_BACK or streamed():
            break
    raise together(misses)


def together(misses: Sequence[Miss]) -> CallError:
    """What it means for the attempt that none of these answered.

    Trying again may help where it may help one of them, and not before the first of these is ready. The
    class is that of the first such failure, or of the first one.
    """
    if len(misses) == 1:
        return misses[0].error
    temporary = [miss.error for miss in misses if isinstance(miss.error, TemporaryError)]
    message = f"none of {len(misses)} models answered: " + "; ".join(map(_told, misses))
    if temporary:
        waits = [error.retry_after or 0.0 for error in temporary]
        error: CallError = TemporaryError(temporary[0].error_class, message, retry_after=min(waits) or None)
    else:
        error = PermanentError(misses[0].error.error_class, message)
    error.unsent = all(miss.error.unsent for miss in misses)
    return error


def _told(miss: Miss) -> str:
    asked = f"{miss.candidate.request.model!r} of {miss.candidate.provider!r}"
    return f"{asked}: {miss.error.error_class} ({str(miss.error)[:MOST_SAID]})"


def written_candidates(config: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """What a configuration that need not be known in full says of each model, the step's own first; None
    where it is not known how many there are."""
    fallbacks = config.get("fallbacks", [])
    if not isinstance(fallbacks, list):
        return None
    return [config, *(one if isinstance(one, Mapping) else {} for one in fallbacks)]
