"""An answer that does not fit its schema, asked for again with what is wrong with it.

The conversation goes on: the model's answer is its next turn, and the turn after it says which rules the
answer breaks. Both are data, nothing of them is rendered. An answer that was cut off or refused is not
repaired, for there is nothing wrong with it that the model could mend; neither is one that was streamed,
which cannot be taken back. Each repair is a question of its own, with an idempotency key of its own; asking
the same again is the scheduler's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from app.ports.models import CallContext, ChatRequest, ChatResult, Message
from app.steps.bounds import MESSAGE_TOKENS, CallBound, most_tokens
from app.steps.structured import UnfitAnswer

MOST_REPAIRS: Final = 5
TURN_TOKENS: Final = 768
"""What the turn that asks for a repair has at most."""
READ_AGAIN: Final = 2
"""Tokens of an answer when it is read, to each when it was written: the same text may be cut otherwise."""
LEAST_SECONDS: Final = 0.001
_BEGIN: Final = "Your last answer cannot be used:"
_END: Final = (
    "Answer the same request again, complete and corrected: one JSON value that fits the JSON Schema, "
    "without any other text."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """An answer that fits: its value, the call that brought it, and how many repairs it took."""

    value: Any
    result: ChatResult
    repairs: int


async def fitting(
    request: ChatRequest,
    call: CallContext,
    *,
    repairs: int,
    make: Callable[[ChatRequest, CallContext], Awaitable[ChatResult]],
    read: Callable[[ChatResult], Any],
    streamed: Callable[[], bool],
) -> Fit:
    """Ask until an answer fits, with so many repairs at most, all within the time of `call`.

    `make` makes a call, `read` gives the value of an answer. Raises what these raise; `UnfitAnswer` of the
    last answer.
    """
    now = asyncio.get_running_loop().time
    until = now() + call.timeout_seconds
    own, number = call, 0
    while True:
        result = await make(request, own)
        try:
            return Fit(value=read(result), result=result, repairs=number)
        except UnfitAnswer as error:
            if number == repairs or not repairable(result) or streamed():
                raise _after(error, number) from None
            request = asked_again(request, result, error.faults)
        number += 1
        own = replace(
            call,
            idempotency_key=f"{call.idempotency_key}:repair{number}",
            timeout_seconds=max(until - now(), LEAST_SECONDS),
        )


def repairable(result: ChatResult) -> bool:
    """Whether the model can mend an answer that does not fit."""
    return bool(result.text.strip()) and result.finish_reason not in {"length", "content_filter"}


def asked_again(request: ChatRequest, result: ChatResult, faults: Sequence[str]) -> ChatRequest:
    """The question after an answer with these faults."""
    turns = (
        Message(role="assistant", content=result.text),
        Message(role="user", content=repair_turn(faults)),
    )
    return replace(request, messages=[*request.messages, *turns])


def repair_turn(faults: Sequence[str]) -> str:
    """What the model is told: as many of the faults as there is room for, the first ones first."""
    told = [f"- {fault}" for fault in faults]
    while told:
        turn = "\n".join([_BEGIN, *told, _END])
        if most_tokens(turn) <= TURN_TOKENS:
            return turn
        told.pop()
    return f"{_BEGIN} it does not fit the JSON Schema.\n{_END}"


def repair_bounds(first: CallBound, repairs: int) -> Iterator[CallBound]:
    """The bounds of a call and of so many repairs of its answer. Without a bound on answers there is none
    on what a repair reads, either."""
    yield first
    answer = first.output_tokens
    for number in range(1, repairs + 1):
        turns = None if answer is None else number * (READ_AGAIN * answer + TURN_TOKENS + 2 * MESSAGE_TOKENS)
        known = None if turns is None or first.input_tokens is None else first.input_tokens + turns
        yield replace(first, input_tokens=known, input_estimate=0)


def written_repairs(config: Mapping[str, Any]) -> int:
    """How many repairs a configuration allows that need not be known in full."""
    if "on_invalid" not in config:
        return 0
    asked = config["on_invalid"]
    number = asked.get("repair_attempts") if isinstance(asked, Mapping) else None
    return number if isinstance(number, int) else MOST_REPAIRS


def _after(error: UnfitAnswer, repairs: int) -> UnfitAnswer:
    if not repairs:
        return error
    told = "one repair" if repairs == 1 else f"{repairs} repairs"
    return UnfitAnswer(f"{error}; {told} did not help", error.faults)
