"""`on_invalid` of the `llm` kind: what does not fit is asked for again, with what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.ports.errors import CallError, TemporaryError
from app.ports.models import ChatResult, Message, Usage
from app.ports.steps import StepOutcome
from app.steps.bounds import chat_bound, most_tokens
from app.steps.kind import RENDERED
from app.steps.llm import LlmKind
from app.steps.llm_config import LlmConfig
from app.steps.repair import READ_AGAIN, TURN_TOKENS, repair_turn
from tests.steps.fakes import FakeServices, chat_result, problems, run
from tests.steps.test_fallbacks import Chat

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "maximum": 9}}}
LLM: dict[str, Any] = {
    "provider": "one",
    "model": "m",
    "system": "be brief",
    "prompt": "hi",
    "response_schema": SCHEMA,
    "on_invalid": {"repair_attempts": 2},
}
GOOD = chat_result('{"n": 1}')


async def ask(*answers: ChatResult | CallError, **changes: Any) -> tuple[StepOutcome, Chat]:
    chat = Chat(answers, deltas=("a",))
    return await run(LlmKind(), {**LLM, **changes}, FakeServices(chats={"one": chat})), chat


async def refused(*answers: ChatResult | CallError, **changes: Any) -> tuple[CallError, Chat]:
    chat = Chat(answers, deltas=("a",))
    with pytest.raises(CallError) as raised:
        await run(LlmKind(), {**LLM, **changes}, FakeServices(chats={"one": chat}))
    return raised.value, chat


@pytest.mark.parametrize(
    "on_invalid", [5, {}, {"repair_attempts": 0}, {"repair_attempts": 6}, {"repair_attempts": 1, "x": 1}]
)
def test_a_wrong_rule_is_refused(on_invalid: Any) -> None:
    with pytest.raises(ValidationError, match="on_invalid"):
        LlmConfig.model_validate({**LLM, "on_invalid": on_invalid}, context=RENDERED)


def test_without_a_schema_there_is_nothing_to_repair() -> None:
    document = {key: value for key, value in LLM.items() if key != "response_schema"}
    assert "response_schema" in problems(LlmKind(), document)["/on_invalid"]
    assert problems(LlmKind(), {**LLM, "response_schema": "{{ inputs.schema }}"}) == {}


def test_what_is_streamed_cannot_be_taken_back() -> None:
    assert set(problems(LlmKind(), {**LLM, "stream": True})) == {"/stream"}
    assert problems(LlmKind(), {**LLM, "stream": "{{ inputs.stream }}"}) == {}


# --- what is not repaired -----------------------------------------------------------------------------


async def test_an_answer_that_was_cut_off_is_not_repaired_and_says_what_to_do() -> None:
    error, chat = await refused(chat_result('{"n": ', finish_reason="length"))
    assert "raise 'max_tokens'" in str(error)
    assert len(chat.calls) == 1


@pytest.mark.parametrize(
    "answer", [chat_result("I will not.", finish_reason="content_filter"), chat_result("  ")]
)
async def test_a_refusal_and_an_empty_answer_are_not_repaired(answer: ChatResult) -> None:
    _, chat = await refused(answer)
    assert len(chat.calls) == 1


async def test_an_answer_that_was_streamed_all_the_same_is_not_repaired() -> None:
    _, chat = await refused(chat_result("no"), GOOD, stream=True)
    assert len(chat.calls) == 1


async def test_a_call_that_fails_is_not_made_again() -> None:
    down = TemporaryError("server_error", "down")
    error, chat = await refused(chat_result("no"), down, GOOD)
    assert error is down
    assert len(chat.calls) == 2
    assert error.billed is not None
    assert [call.error_class for call in error.billed.calls] == [None, "server_error"]


async def test_after_so_many_repairs_it_is_the_attempts_failure() -> None:
    error, chat = await refused(*[chat_result('{"n": 10}')] * 3)
    assert isinstance(error, TemporaryError)
    assert error.error_class == "invalid_output"
    assert str(error).endswith("'/n' breaks '/properties/n/maximum'; 2 repairs did not help")
    assert len(chat.calls) == 3
    assert error.billed is not None
    assert len(error.billed.calls) == 3


# --- what is ------------------------------------------------------------------------------------------


async def test_a_good_answer_takes_one_call() -> None:
    outcome, chat = await ask(GOOD)
    assert (outcome.outputs["repairs"], outcome.calls, len(chat.calls)) == (0, (), 1)


async def test_the_conversation_goes_on_with_what_is_wrong() -> None:
    outcome, chat = await ask(chat_result('{"n": "x {{ y }}"}'), chat_result("```\nno"), GOOD)
    assert (outcome.outputs["text"], outcome.outputs["repairs"]) == ({"n": 1}, 2)
    assert outcome.outputs["usage"]["input_tokens"] == 21
    assert (outcome.usage, len(outcome.calls)) == (Usage(input_tokens=21, output_tokens=9), 3)
    asked = [list(request.messages) for request, _ in chat.calls]
    assert asked[1][:2] == asked[0]
    assert asked[1][2] == Message(role="assistant", content='{"n": "x {{ y }}"}')
    assert asked[1][3].role == "user"
    assert "'/n' breaks '/properties/n/type'" in asked[1][3].content
    assert asked[2][:4] == asked[1]
    assert "is no JSON" in asked[2][5].content
    assert {str(request.response_schema) for request, _ in chat.calls} == {str(SCHEMA)}


async def test_each_repair_has_a_key_of_its_own() -> None:
    _, chat = await ask(chat_result("no"), chat_result("no"), GOOD)
    keys = [call.idempotency_key for _, call in chat.calls]
    assert keys == ["key-1", "key-1:repair1", "key-1:repair2"]


async def test_another_model_is_asked_when_repairs_do_not_help_and_repairs_its_own() -> None:
    first, second = Chat([chat_result("no")] * 3), Chat([chat_result("no"), GOOD])
    services = FakeServices(chats={"one": first, "two": second})
    document = {**LLM, "fallbacks": [{"provider": "two", "model": "m2"}]}
    outcome = await run(LlmKind(), document, services)
    assert (outcome.provider, outcome.outputs["repairs"], len(outcome.calls)) == ("two", 1, 5)
    assert len(second.calls[0][0].messages) == 2, "it is asked the question, not the other one's mistakes"
    keys = [call.idempotency_key for _, call in second.calls]
    assert keys == ["key-1:fallback1", "key-1:fallback1:repair1"]


async def test_tool_calls_without_a_text_need_no_repair() -> None:
    outcome, chat = await ask(chat_result("", tool_calls=[{"id": "c"}]))
    assert (outcome.outputs["tool_calls"], len(chat.calls)) == ([{"id": "c"}], 1)


# --- bounds -------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=3000), max_size=5))
def test_the_turn_that_asks_for_a_repair_is_bounded(faults: list[str]) -> None:
    turn = repair_turn(faults)
    assert most_tokens(turn) <= TURN_TOKENS
    assert "one JSON value" in turn


def test_a_repair_reads_the_answers_and_complaints_before_it() -> None:
    config = LlmConfig.model_validate(LLM, context=RENDERED)
    first, second, third = LlmKind().bound(config, max_tokens=100)
    assert first.input_tokens is not None
    assert second.input_tokens is not None
    assert third.input_tokens is not None
    step = second.input_tokens - first.input_tokens
    assert step >= READ_AGAIN * 100 + TURN_TOKENS
    assert third.input_tokens - second.input_tokens == step
    assert [one.output_tokens for one in (first, second, third)] == [100] * 3
    assert [one.input_estimate for one in (second, third)] == [0, 0]


async def test_what_is_asked_is_within_its_bound() -> None:
    answer = "x" * 90
    chat = Chat([chat_result(answer), chat_result(answer), GOOD])
    await run(LlmKind(), LLM, FakeServices(chats={"one": chat}))
    config = LlmConfig.model_validate(LLM, context=RENDERED)
    bounds = LlmKind().bound(config, max_tokens=90)
    for (request, _), bound in zip(chat.calls, bounds, strict=True):
        assert (chat_bound("one", request).input_tokens or 0) <= (bound.input_tokens or 0)


def test_without_a_bound_on_answers_there_is_none_on_what_a_repair_reads() -> None:
    config = LlmConfig.model_validate(LLM, context=RENDERED)
    assert [one.input_tokens is None for one in LlmKind().bound(config, max_tokens=None)] == [
        False,
        True,
        True,
    ]
