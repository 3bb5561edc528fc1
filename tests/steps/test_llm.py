"""The `llm` kind."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import Message
from app.steps.kind import RENDERED
from app.steps.llm import LlmKind
from app.steps.llm_config import LlmConfig
from tests.steps.fakes import FakeChat, FakeServices, chat_result, problems, run

LLM = {"provider": "own", "model": "m", "prompt": "hi"}
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


async def asked(document: dict[str, Any], chat: FakeChat | None = None) -> tuple[Any, FakeChat]:
    chat = chat or FakeChat()
    outcome = await run(LlmKind(), document, FakeServices(chat_model=chat))
    return outcome, chat


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": []}, "stop"),
        ({"seed": 2**63}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"tools": "x"}, "tools"),
        ({"prompt": ""}, "prompt"),
        ({"provider": ""}, "provider"),
        ({"model": 5}, "model"),
    ],
)
def test_a_wrong_value_is_refused_where_it_stands(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError) as refused:
        LlmConfig.model_validate({**LLM, **changes})

    assert {error["loc"][0] for error in refused.value.errors()} == {key}


@pytest.mark.parametrize("changes", [{"messages": [{"role": "user", "content": "hi"}]}, {"prompt": None}])
def test_both_or_neither_of_prompt_and_messages_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="exactly one of 'prompt' and 'messages'"):
        LlmConfig.model_validate({**LLM, **changes})


@pytest.mark.parametrize("value", [["a"], {"a": 1}, None])
def test_a_prompt_that_renders_to_a_structure_is_refused_with_a_hint(value: object) -> None:
    document = {"provider": "own", "model": "m", "prompt": value, "system": value}
    with pytest.raises(ValidationError, match=r"tojson|exactly one"):
        LlmConfig.model_validate(document, context=RENDERED)


@pytest.mark.parametrize(
    "message",
    [{"role": "robot", "content": "x"}, {"role": "user"}, {"role": "user", "content": [{"text": "no type"}]}],
)
def test_a_turn_without_role_or_content_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LlmConfig.model_validate({"provider": "own", "model": "m", "messages": [message]})


def test_extra_cannot_smuggle_in_the_keys_of_the_step() -> None:
    assert set(problems(LlmKind(), {**LLM, "extra": {"messages": [], "logit_bias": {}}})) == {
        "/extra/messages"
    }


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "objekt"}, "/type"),
        ({"$ref": "http://example.com/schema"}, "/$ref"),
        ({"$ref": "file:///x"}, "/$ref"),
        ({"pattern": "(?=a)"}, "/pattern"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "objekt"}, "/type"),
        ({"$schema": "x://nope"}, ""),
    ],
)
def test_a_schema_that_cannot_be_compiled_or_leaves_the_document_is_refused_at_its_place(
    schema: dict[str, Any], place: str
) -> None:
    assert set(problems(LlmKind(), {**LLM, "response_schema": schema})) == {f"/response_schema{place}"}


def test_templates_stand_for_any_value_in_a_document_and_are_text_afterwards() -> None:
    document = {
        **LLM,
        "temperature": "{{ inputs.t }}",
        "stop": "{{ inputs.s }}",
        "response_schema": "{{ x }}",
    }

    assert problems(LlmKind(), document) == {}
    assert problems(LlmKind(), {**LLM, "response_schema": {"type": "{{ inputs.type }}"}}) == {}
    with pytest.raises(ValidationError):
        LlmConfig.model_validate(document, context=RENDERED)


async def test_an_unknown_provider_fails_for_good() -> None:
    with pytest.raises(PermanentError, match="'elsewhere'"):
        await asked({**LLM, "provider": "elsewhere"})


async def test_a_failing_provider_fails_the_step_as_it_failed() -> None:
    failure = TemporaryError("rate_limit", "slow down", retry_after=3)
    with pytest.raises(TemporaryError) as raised:
        await asked(LLM, FakeChat(result=failure))
    assert raised.value is failure


async def test_the_request_holds_what_the_document_says_and_nothing_else() -> None:
    _, chat = await asked(
        {
            **LLM,
            "system": "be brief",
            "temperature": 0,
            "top_p": 1,
            "max_tokens": 10,
            "stop": "END",
            "seed": 7,
            "extra": {"user": "u", "a": 1},
            "a": 2,
            "reasoning_effort": "low",
        }
    )
    request = chat.requests[0]

    assert request.messages == [
        Message(role="system", content="be brief"),
        Message(role="user", content="hi"),
    ]
    assert (request.temperature, request.top_p, request.max_tokens, request.stop, request.seed) == (
        0,
        1,
        10,
        ["END"],
        7,
    )
    assert request.extra == {"user": "u", "a": 2, "reasoning_effort": "low"}
    assert request.tools is None


async def test_turns_keep_their_order_parts_and_further_keys() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    _, chat = await asked(
        {
            "provider": "own",
            "model": "m",
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "content": 42, "tool_call_id": "c1"},
            ],
        }
    )

    assert chat.requests[0].messages == [
        Message(role="user", content=[{"type": "text", "text": "hi"}]),
        Message(role="assistant", content="", extra={"tool_calls": [call]}),
        Message(role="tool", content="42", extra={"tool_call_id": "c1"}),
    ]


async def test_the_outputs_show_the_answer_and_what_was_billed() -> None:
    outcome, _ = await asked(LLM)

    assert set(outcome.outputs) == set(LlmKind.outputs)
    assert outcome.outputs["text"] == "hello"
    assert outcome.outputs["usage"]["output_tokens"] == 3
    assert outcome.outputs["tool_calls"] == []
    assert (outcome.outputs["repairs"], outcome.outputs["tried"]) == (0, [])
    assert (outcome.provider, outcome.model, outcome.calls) == ("own", "model-0613", ())


async def test_an_answer_with_braces_stays_text() -> None:
    outcome, _ = await asked({**LLM, "prompt": "{{ not.rendered }}"}, FakeChat(chat_result("{{ secrets }}")))

    assert outcome.outputs["text"] == "{{ secrets }}"


async def test_a_stream_that_ends_early_is_worth_another_try() -> None:
    with pytest.raises(TemporaryError) as raised:
        await asked({**LLM, "stream": True}, FakeChat(result=None, deltas=["a"]))
    assert raised.value.error_class == "connection"


async def test_streaming_hands_every_delta_to_the_listeners_and_returns_the_whole() -> None:
    heard: list[str] = []
    chat = FakeChat(result=chat_result("ab"), deltas=["a", "b"])
    outcome = await run(LlmKind(), {**LLM, "stream": True}, FakeServices(chat_model=chat), heard)

    assert heard == ["a", "b"]
    assert outcome.outputs["text"] == "ab"


async def test_without_stream_nothing_is_streamed() -> None:
    _, chat = await asked(LLM)

    assert not chat.streamed


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no JSON"),
        ("Sure! {}", "no JSON"),
        ('{"n": 1', "no JSON"),
        ("{}", "breaks '/required'"),
        ('{"n": "1"}', "'/n' breaks"),
        ("```json\n```json\n{}\n```\n```", "no JSON"),
    ],
)
async def test_an_answer_outside_its_schema_is_worth_another_try(text: str, complaint: str) -> None:
    with pytest.raises(TemporaryError, match=complaint) as raised:
        await asked({**LLM, "response_schema": SCHEMA}, FakeChat(chat_result(text)))
    assert raised.value.error_class == "invalid_output"


async def test_an_answer_that_was_cut_off_says_so() -> None:
    with pytest.raises(TemporaryError, match="max_tokens"):
        await asked({**LLM, "response_schema": SCHEMA}, FakeChat(chat_result('{"n"', finish_reason="length")))


async def test_a_schema_rendered_to_nonsense_fails_for_good() -> None:
    with pytest.raises(PermanentError, match="response_schema"):
        await asked({**LLM, "response_schema": {"type": 5}}, FakeChat(chat_result("{}")))


@pytest.mark.parametrize("text", ['{"n": 1}', ' {"n": 1}\n', '```json\n{"n": 1}\n```', '```\n{"n": 1}```'])
async def test_a_structured_answer_is_parsed_with_or_without_a_fence(text: str) -> None:
    outcome, chat = await asked({**LLM, "response_schema": SCHEMA}, FakeChat(chat_result(text)))

    assert outcome.outputs["text"] == {"n": 1}
    assert chat.requests[0].response_schema == SCHEMA


async def test_an_answer_of_tool_calls_alone_is_not_held_against_the_schema() -> None:
    calls = [{"id": "c1"}]
    outcome, _ = await asked({**LLM, "response_schema": SCHEMA}, FakeChat(chat_result("", tool_calls=calls)))

    assert outcome.outputs["tool_calls"] == calls
