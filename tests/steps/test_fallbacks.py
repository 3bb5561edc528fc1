"""`fallbacks` of the `llm` kind: when another model is asked, and what is said and billed of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from app.ports.errors import CallError, ErrorClass, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, Usage
from app.ports.steps import ModelCall, StepOutcome
from app.steps.fallbacks import FALLS_BACK
from app.steps.kind import RENDERED
from app.steps.llm import LlmKind
from app.steps.llm_config import LlmConfig
from tests.steps.fakes import FakeServices, chat_result, problems, run

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
LLM: dict[str, Any] = {
    "provider": "one",
    "model": "m",
    "prompt": "hi",
    "fallbacks": [{"provider": "two", "model": "m2"}, {"provider": "three", "model": "m3"}],
}
USED = Usage(input_tokens=7, output_tokens=3)


@dataclass
class Chat:
    """Answers its calls with these in turn; `deltas` are streamed before whatever follows."""

    answers: Sequence[ChatResult | CallError] = field(default_factory=lambda: [chat_result()])
    deltas: Sequence[str] = ()
    stalls: bool = False
    calls: list[tuple[ChatRequest, CallContext]] = field(default_factory=list)

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        self.calls.append((request, context))
        if self.stalls:
            await asyncio.Event().wait()
        answer = self.answers[len(self.calls) - 1]
        if isinstance(answer, CallError):
            raise answer
        return answer

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        for text in self.deltas:
            yield ChatDelta(text=text)
        yield await self.complete(request, context)


def failing(error_class: ErrorClass, **more: Any) -> Chat:
    kind = TemporaryError if error_class in {"rate_limit", "timeout", "connection"} else PermanentError
    return Chat([kind(error_class, f"it is {error_class}", **more)])


async def ask(
    *chats: Chat, heard: list[str] | None = None, **changes: Any
) -> tuple[StepOutcome, Sequence[Chat]]:
    services = FakeServices(chats=dict(zip(("one", "two", "three"), chats, strict=False)))
    return await run(LlmKind(), {**LLM, **changes}, services, heard), chats


async def failure(*chats: Chat, **changes: Any) -> CallError:
    with pytest.raises(CallError) as raised:
        await ask(*chats, **changes)
    return raised.value


# --- what a document may say --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fallbacks",
    [
        "two",
        [{}],
        [{"provider": "two"}],
        [{"provider": "two", "model": "m", "temperature": 0}],
        [{"provider": "two", "model": "m", "max_tokens": 0}],
        [{"provider": "two", "model": f"m{number}"} for number in range(9)],
    ],
)
def test_wrong_fallbacks_are_refused(fallbacks: Any) -> None:
    with pytest.raises(ValidationError, match="fallbacks"):
        LlmConfig.model_validate({**LLM, "fallbacks": fallbacks}, context=RENDERED)


@pytest.mark.parametrize(
    ("fallbacks", "places"),
    [
        ([{"provider": "one", "model": "m"}], {"/fallbacks/0"}),
        ([*LLM["fallbacks"], {"provider": "two", "model": "m2", "max_tokens": 5}], {"/fallbacks/2"}),
        ([{"provider": "one", "model": "other"}, {"provider": "two", "model": "m"}], set()),
        ([{"provider": "{{ inputs.p }}", "model": "m"}, {"provider": "{{ inputs.p }}", "model": "m"}], set()),
        ("{{ inputs.fallbacks }}", set()),
        (["{{ inputs.fallback }}"], set()),
    ],
)
def test_the_same_model_twice_is_a_problem(fallbacks: Any, places: set[str]) -> None:
    assert set(problems(LlmKind(), {**LLM, "fallbacks": fallbacks})) == places


# --- whether another model is asked -------------------------------------------------------------------


@pytest.mark.parametrize("error_class", sorted(set(get_args(ErrorClass)) - FALLS_BACK))
async def test_what_no_other_model_can_help_with_ends_the_attempt(error_class: ErrorClass) -> None:
    first, second = failing(error_class), Chat()
    error = await failure(first, second)
    assert error is first.answers[0]
    assert second.calls == []


@pytest.mark.parametrize("error_class", sorted(FALLS_BACK))
async def test_what_another_model_may_not_meet_has_it_asked(error_class: ErrorClass) -> None:
    outcome, chats = await ask(failing(error_class), Chat(), Chat())
    assert (outcome.provider, outcome.asked_model, outcome.model) == ("two", "m2", "model-0613")
    assert chats[2].calls == []
    detail = f"it is {error_class}"
    assert outcome.outputs["tried"] == [
        {"provider": "one", "model": "m", "error_class": error_class, "detail": detail}
    ]


async def test_an_instance_that_is_not_configured_is_passed_over() -> None:
    outcome, _ = await ask(Chat(), provider="nowhere", fallbacks=[{"provider": "one", "model": "m"}])
    assert (outcome.provider, outcome.outputs["tried"][0]["error_class"]) == ("one", "unknown_provider")


async def test_an_answer_that_was_filtered_away_counts_as_a_failure() -> None:
    filtered = chat_result("", finish_reason="content_filter")
    outcome, _ = await ask(Chat([filtered]), Chat())
    assert outcome.outputs["tried"][0]["error_class"] == "content_filter"
    assert outcome.outputs["usage"]["input_tokens"] == 14
    error = await failure(Chat([filtered]), Chat([filtered]), fallbacks=LLM["fallbacks"][:1])
    assert isinstance(error, PermanentError)
    assert error.error_class == "content_filter"


async def test_an_answer_outside_its_schema_has_the_next_one_asked() -> None:
    outcome, _ = await ask(Chat([chat_result("no")]), Chat([chat_result('{"n": 1}')]), response_schema=SCHEMA)
    assert outcome.outputs["text"] == {"n": 1}
    assert outcome.outputs["tried"][0]["error_class"] == "invalid_output"


async def test_the_first_answer_is_the_answer_and_billed_as_ever() -> None:
    outcome, chats = await ask(Chat(), Chat())
    assert (outcome.outputs["tried"], outcome.calls, outcome.usage) == ([], (), USED)
    assert chats[1].calls == []


async def test_one_that_stalls_leaves_time_for_the_others() -> None:
    stalled = Chat(stalls=True)
    services = FakeServices(chats={"one": stalled, "two": Chat()})
    outcome = await asyncio.wait_for(run(LlmKind(), LLM, services, timeout_seconds=0.3), 5)
    assert outcome.outputs["tried"][0]["error_class"] == "timeout"
    assert stalled.calls[0][1].timeout_seconds == pytest.approx(0.1, abs=0.01)
    assert outcome.calls[0].error_class == "timeout"


async def test_a_cancelled_attempt_asks_nobody_else() -> None:
    second = Chat()
    services = FakeServices(chats={"one": Chat(stalls=True), "two": second})
    task = asyncio.ensure_future(run(LlmKind(), LLM, services))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert second.calls == []


# --- what they are asked ------------------------------------------------------------------------------


async def test_each_is_asked_the_same_under_a_key_of_its_own() -> None:
    named = [{"provider": "two", "model": "m2", "max_tokens": 9}, {"provider": "three", "model": "m3"}]
    outcome, chats = await ask(
        failing("rate_limit"), failing("timeout"), Chat(), fallbacks=named, max_tokens=5, temperature=0
    )
    requests = [chat.calls[0][0] for chat in chats]
    assert [(request.model, request.max_tokens) for request in requests] == [("m", 5), ("m2", 9), ("m3", 5)]
    assert {(request.temperature, request.messages[0].content) for request in requests} == {(0, "hi")}
    keys = [chat.calls[0][1].idempotency_key for chat in chats]
    assert keys == ["key-1", "key-1:fallback1", "key-1:fallback2"]
    assert [miss["provider"] for miss in outcome.outputs["tried"]] == ["one", "two"]


async def test_templates_that_give_the_same_model_ask_it_once() -> None:
    first = failing("rate_limit")
    await failure(first, fallbacks=[{"provider": "one", "model": "m"}])
    assert len(first.calls) == 1


# --- streams ------------------------------------------------------------------------------------------


async def test_a_stream_that_fails_before_its_first_piece_is_taken_over() -> None:
    heard: list[str] = []
    outcome, _ = await ask(failing("connection"), Chat(deltas=["a", "b"]), heard=heard, stream=True)
    assert (heard, outcome.provider) == (["a", "b"], "two")


async def test_what_was_streamed_is_not_mixed_with_another_models_words() -> None:
    heard: list[str] = []
    broken = Chat([TemporaryError("connection", "the line broke")], deltas=["a"])
    second = Chat(deltas=["b"])
    with pytest.raises(TemporaryError, match="the line broke"):
        await ask(broken, second, heard=heard, stream=True)
    assert (heard, second.calls) == (["a"], [])


# --- nobody answers -----------------------------------------------------------------------------------


async def test_if_one_may_answer_later_the_attempt_is_worth_another_try() -> None:
    error = await failure(
        failing("authentication"), failing("rate_limit", retry_after=9), failing("timeout", retry_after=3)
    )
    assert isinstance(error, TemporaryError)
    assert (error.error_class, error.retry_after) == ("rate_limit", 3)
    for said in (
        "none of 3 models",
        "'m' of 'one'",
        "authentication (it is authentication)",
        "'m3' of 'three'",
    ):
        assert said in str(error)


async def test_one_that_may_answer_at_once_sets_no_floor() -> None:
    error = await failure(failing("rate_limit", retry_after=9), failing("connection"), failing("permission"))
    assert isinstance(error, TemporaryError)
    assert error.retry_after is None


async def test_if_nobody_ever_will_the_first_ones_reason_counts() -> None:
    error = await failure(failing("context_length"), failing("authentication"), failing("not_found"))
    assert isinstance(error, PermanentError)
    assert error.error_class == "context_length"


@pytest.mark.parametrize("asked", [(), (1,), (0, 1, 2)])
async def test_nothing_was_sent_if_nobody_was_sent_anything(asked: Sequence[int]) -> None:
    errors = [TemporaryError("connection", "resting") for _ in range(3)]
    for place, met in enumerate(errors):
        met.unsent = place not in asked
    error = await failure(*(Chat([met]) for met in errors))
    assert error.unsent is (not asked)


async def test_a_question_that_is_wrong_for_the_second_ends_the_chain() -> None:
    third = Chat()
    error = await failure(failing("rate_limit"), failing("invalid_request"), third)
    assert (error.error_class, third.calls) == ("rate_limit", [])
    assert "it is invalid_request" in str(error)


# --- the bill -----------------------------------------------------------------------------------------


async def test_every_call_is_told_for_the_bill() -> None:
    outcome, _ = await ask(
        failing("timeout"), Chat([chat_result("no")]), Chat([chat_result("{}")]), response_schema={}
    )
    assert outcome.calls == (
        ModelCall(provider="one", asked_model="m", error_class="timeout"),
        ModelCall(provider="two", asked_model="m2", model="model-0613", usage=USED),
        ModelCall(provider="three", asked_model="m3", model="model-0613", usage=USED),
    )
    assert outcome.outputs["usage"]["output_tokens"] == 6


async def test_what_was_billed_is_told_where_nobody_answered() -> None:
    error = await failure(
        Chat([chat_result("no")]), failing("timeout"), Chat([chat_result("no")]), response_schema=SCHEMA
    )
    assert error.billed is not None
    assert [(call.provider, call.usage) for call in error.billed.calls] == [
        ("one", USED),
        ("two", None),
        ("three", USED),
    ]


def test_the_bound_is_that_of_all_calls_together() -> None:
    def bounds(**changes: Any) -> list[tuple[str, int | None, int | None, int]]:
        config = LlmConfig.model_validate({**LLM, **changes}, context=RENDERED)
        found = LlmKind().bound(config, max_tokens=50)
        return [(one.model, one.input_tokens, one.output_tokens, one.input_estimate) for one in found]

    plain = bounds(fallbacks=[])
    (_, read, _, estimate) = plain[0]
    assert len(plain) == 1
    named = [{"provider": "two", "model": "m2", "max_tokens": 9}]
    assert bounds(fallbacks=named) == [("m", read, 50, estimate), ("m2", read, 9, 0)]
