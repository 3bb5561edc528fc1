"""The Anthropic adapter: bytes out, answers in, errors by type, sentence and status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatRequest, ChatResult, Message, Usage
from app.providers.anthropic import format as fmt
from app.providers.anthropic.adapter import Anthropic, AnthropicConfig
from app.providers.anthropic.schema import native_schema
from app.providers.anthropic.stream import Assembly
from app.providers.json_format import Malformed
from app.providers.transport import Transport

CANARY = "sk-ant-canary-0123456789abcdef"
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "Because."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 12,
        "cache_creation_input_tokens": 5,
        "cache_read_input_tokens": 100,
        "output_tokens": 3,
        "output_tokens_details": {"thinking_tokens": 1},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "a"}'}}
USE = {"type": "tool_use", "id": "c1", "name": "look_up", "input": {"word": "a"}}
KEYS = (
    *("type", "content", "text", "id", "name", "input", "index", "delta", "content_block", "partial_json"),
    *("message", "model", "stop_reason", "usage", "input_tokens", "output_tokens_details", "error"),
)
EVENTS = ("message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop")


def json_of(keys: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """Any JSON whose objects have these keys, with a leaning to what stands there in earnest."""
    words = st.sampled_from((*EVENTS, "text", "tool_use", "text_delta", "input_json_delta", "object", "x"))
    scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | words
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=4),
        max_leaves=12,
    )


def model(answer: httpx.Response | Callable[[httpx.Request], httpx.Response], **config: Any) -> Anthropic:
    handler = answer if callable(answer) else lambda request: answer
    settings: dict[str, Any] = {"name": "main", "api_key": SecretStr(CANARY), **config}
    return Anthropic(AnthropicConfig(**settings), Transport.over_httpx(httpx.MockTransport(handler)))


class Recording:
    """Answers every request alike and keeps them."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json=ANSWER)

    @property
    def body(self) -> Any:
        return orjson.loads(self.requests[-1].content)


async def sent(request: ChatRequest, context: CallContext, **config: Any) -> Any:
    """The body that goes out for a request."""
    server = Recording()
    await model(server, **config).complete(request, context)
    return server.body


def failure(status: int, kind: str, message: str = "no", **headers: str) -> httpx.Response:
    error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return httpx.Response(status, json=error, headers=headers)


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (400, ("invalid_request_error", "max_tokens: too large"), (PermanentError, "invalid_request")),
        (
            400,
            ("invalid_request_error", "prompt is too long: 215001 tokens > 200000 maximum"),
            (PermanentError, "context_length"),
        ),
        (
            400,
            (
                "invalid_request_error",
                "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
            ),
            (PermanentError, "context_length"),
        ),
        (
            400,
            ("invalid_request_error", "Output blocked by content filtering policy"),
            (PermanentError, "content_filter"),
        ),
        (
            400,
            ("invalid_request_error", "Your credit balance is too low to access the API."),
            (PermanentError, "rate_limit"),
        ),
        (
            400,
            ("invalid_request_error", "You have reached your specified API usage limits."),
            (PermanentError, "rate_limit"),
        ),
        (401, ("authentication_error", "invalid x-api-key"), (PermanentError, "authentication")),
        (402, ("billing_error", "pay"), (PermanentError, "rate_limit")),
        (403, ("permission_error", "not yours"), (PermanentError, "permission")),
        (404, ("not_found_error", "model: claude-9"), (PermanentError, "not_found")),
        (413, ("request_too_large", "over 32 MB"), (PermanentError, "too_large")),
        (429, ("rate_limit_error", "the context window of a minute"), (TemporaryError, "rate_limit")),
        (500, ("api_error", "prompt is too long"), (TemporaryError, "server_error")),
        (504, ("timeout_error", "late"), (TemporaryError, "timeout")),
        (529, ("overloaded_error", "Overloaded"), (TemporaryError, "server_error")),
    ],
)
async def test_types_sentences_and_statuses_become_errors_of_their_class(
    question: ChatRequest,
    context: CallContext,
    status: int,
    error: tuple[str, str],
    expected: tuple[type, str],
) -> None:
    with pytest.raises(CallError) as failed:
        await model(failure(status, error[0], f"{error[1]} ({CANARY})")).complete(question, context)
    assert (type(failed.value), failed.value.error_class) == expected
    assert failed.value.status == status
    assert CANARY not in str(failed.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7", "anthropic-ratelimit-tokens-remaining": "0"}, 7.0),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-10-21T07:28:30Z",
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-10-21T07:28:10Z",
            },
            30.0,
        ),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-10-21T09:28:02+02:00",
            },
            2.0,
        ),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-10-21T07:00:00Z",
            },
            0.0,
        ),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "9",
                "anthropic-ratelimit-tokens-reset": "2026-10-21T07:28:30Z",
            },
            None,
        ),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2099-01-01T00:00:00Z",
            },
            3600.0,
        ),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-13-99T07:28:30Z",
            },
            None,
        ),
        ({"anthropic-ratelimit-tokens-remaining": "0"}, None),
    ],
)
async def test_the_vendors_delay_is_passed_on(
    question: ChatRequest, context: CallContext, headers: dict[str, str], seconds: float | None
) -> None:
    headers = {"date": "Wed, 21 Oct 2026 07:28:00 GMT", **headers}
    with pytest.raises(TemporaryError) as failed:
        await model(failure(429, "rate_limit_error", **headers)).complete(question, context)
    assert failed.value.retry_after == seconds


async def test_anthropic_is_not_asked_without_a_key_and_other_servers_are(
    question: ChatRequest, context: CallContext
) -> None:
    server = Recording()
    for key in (None, SecretStr("")):
        with pytest.raises(PermanentError, match="'main' has no API key") as failed:
            await model(server, api_key=key).complete(question, context)
        assert failed.value.error_class == "authentication"
    assert not server.requests
    await model(server, api_key=None, base_url="http://127.0.0.1:8080/").complete(question, context)
    assert str(server.requests[0].url) == "http://127.0.0.1:8080/v1/messages"
    assert "x-api-key" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": 1.5}, "a 'temperature' of 1.5 is too high"),
        ({"extra": {"max_completion_tokens": 5}}, "'max_completion_tokens'.*'max_tokens' only"),
        ({"extra": {"system": "x"}}, "remove 'system'"),
        ({"messages": [Message(role="tool", content="42")]}, "needs the 'tool_call_id'"),
        (
            {"messages": [Message(role="assistant", content="", extra={"tool_calls": ["c1"]})]},
            "write every tool call as",
        ),
        (
            {"messages": [Message(role="assistant", content="", extra={"tool_calls": "c1"})]},
            "must be a list",
        ),
        (
            {
                "messages": [
                    Message(
                        role="assistant",
                        content="",
                        extra={"tool_calls": [{"id": "c7", "function": {"name": "f", "arguments": "{"}}]},
                    )
                ]
            },
            "arguments of the tool call of 'f' must be a JSON object",
        ),
        (
            {"messages": [Message(role="user", content=[{"type": "image_url", "image_url": "a.png"}])]},
            "must begin with https://",
        ),
        ({"tools": [{"name": "f", "input_schema": {1, 2}}]}, "cannot be written as JSON"),
    ],
)
async def test_what_the_api_cannot_carry_is_refused_before_the_call(
    question: ChatRequest, context: CallContext, change: Mapping[str, Any], said: str
) -> None:
    server = Recording()
    with pytest.raises(PermanentError, match=said) as failed:
        await model(server).complete(replace(question, **change), context)
    assert failed.value.error_class == "invalid_request"
    assert not server.requests


def test_a_base_url_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="base URL of instance 'main'"):
        model(httpx.Response(200), base_url="api.anthropic.com")


def test_no_repr_shows_the_key() -> None:
    assert CANARY not in repr(AnthropicConfig(name="main", api_key=SecretStr(CANARY), headers={"a": CANARY}))


@given(json_of(KEYS))
def test_any_json_is_read_or_called_malformed(value: Any) -> None:
    answer = value if isinstance(value, dict) else {"content": value, "delta": value, "type": "message_delta"}
    assembly = Assembly("m")
    reads: list[Callable[[], Any]] = [
        lambda: fmt.read_completion(answer, model="m"),
        lambda: fmt.read_error(answer),
        lambda: assembly.add(answer),
        assembly.result,
    ]
    reads += [lambda kind=kind: assembly.add({**answer, "type": kind}) for kind in EVENTS]  # type: ignore[misc]  # mypy types no lambda with a default
    for read in reads:
        with suppress(Malformed):
            read()


# --- requests -----------------------------------------------------------------------------------------


async def test_the_request_is_exactly_this(question: ChatRequest, context: CallContext) -> None:
    server = Recording()
    await model(server, headers={"anthropic-beta": SecretStr("b1")}).complete(question, context)
    request = server.requests[0]
    assert (request.method, str(request.url)) == ("POST", "https://api.anthropic.com/v1/messages")
    assert request.content == (
        b'{"model":"gpt-4o-mini","max_tokens":4096,"messages":[{"role":"user","content":"Why?"}]}'
    )
    assert dict(request.headers) == {
        "host": "api.anthropic.com",
        "user-agent": "llm-orchestrator",
        "accept": "application/json",
        "accept-encoding": "gzip",
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "b1",
        "idempotency-key": "r:answer",
        "x-api-key": CANARY,
        "content-length": str(len(request.content)),
    }


async def test_every_option_has_its_place_and_a_seed_has_none(context: CallContext) -> None:
    request = ChatRequest(
        model="claude-haiku-4-5",
        messages=[Message(role="user", content="Why?")],
        temperature=1,
        top_p=0.9,
        max_tokens=10,
        stop=["END"],
        seed=7,
        extra={"thinking": {"type": "enabled", "budget_tokens": 1024}, "top_k": 5},
    )
    assert await sent(request, context) == {
        "model": "claude-haiku-4-5",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "Why?"}],
        "temperature": 1,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "top_k": 5,
    }


async def test_the_limit_of_the_instance_holds_where_a_request_names_none(
    question: ChatRequest, context: CallContext
) -> None:
    assert (await sent(question, context, default_max_tokens=77))["max_tokens"] == 77
    assert (await sent(replace(question, max_tokens=5), context))["max_tokens"] == 5


@pytest.mark.parametrize(
    ("turns", "cached", "expected"),
    [
        ([], True, None),
        ([Message(role="system", content="")], True, None),
        ([Message(role="system", content="A."), Message(role="system", content="B.")], False, "A.\n\nB."),
        (
            [Message(role="system", content="A."), Message(role="system", content="B.")],
            True,
            [
                {"type": "text", "text": "A."},
                {"type": "text", "text": "B.", "cache_control": {"type": "ephemeral"}},
            ],
        ),
        (
            [
                Message(
                    role="system", content="A.", extra={"cache_control": {"type": "ephemeral", "ttl": "1h"}}
                )
            ],
            True,
            [{"type": "text", "text": "A.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        ),
    ],
)
async def test_system_turns_become_the_system_prompt(
    question: ChatRequest, context: CallContext, turns: list[Message], cached: bool, expected: Any
) -> None:
    request = replace(question, messages=[*turns[:1], *question.messages, *turns[1:]])
    body = await sent(request, context, cache_system=cached)
    assert body.get("system") == expected
    assert body["messages"] == [{"role": "user", "content": "Why?"}]


async def test_tool_calls_and_their_results_become_blocks(context: CallContext) -> None:
    other = {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}}
    native = {"type": "tool_use", "id": "c3", "name": "now", "input": {}}
    request = ChatRequest(
        model="m",
        messages=[
            Message(role="user", content="What is a?"),
            Message(role="assistant", content="Let me see.", extra={"tool_calls": [CALL, other]}),
            Message(role="tool", content="A letter.", extra={"tool_call_id": "c1", "name": "look_up"}),
            Message(role="system", content="Be brief."),
            Message(
                role="tool",
                content=[{"type": "image_url", "image_url": {"url": "https://h.example/a.png"}}],
                extra={"tool_call_id": "c2", "is_error": True},
            ),
            Message(role="assistant", content="", extra={"tool_calls": [native]}),
            Message(role="tool", content="Noon.", extra={"tool_call_id": "c3"}),
            Message(role="user", content="Thanks.", extra={"name": "Ada"}),
            Message(role="assistant", content="So", extra={"tool_calls": []}),
        ],
    )
    body = await sent(request, context)
    picture = {"type": "image", "source": {"type": "url", "url": "https://h.example/a.png"}}
    assert body["messages"] == [
        {"role": "user", "content": "What is a?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me see."},
                USE,
                {"type": "tool_use", "id": "c2", "name": "now", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "A letter."},
                {"type": "tool_result", "tool_use_id": "c2", "content": [picture], "is_error": True},
            ],
        },
        {"role": "assistant", "content": [native]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c3", "content": "Noon."}]},
        {"role": "user", "content": "Thanks."},
        {"role": "assistant", "content": "So"},
    ]


async def test_pictures_are_translated_and_other_parts_passed_on(context: CallContext) -> None:
    parts = [
        {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,aGk=", "detail": "low"}},
        {"type": "image_url", "image_url": "HTTPS://h.example/a.png", "cache_control": {"type": "ephemeral"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
    ]
    body = await sent(ChatRequest(model="m", messages=[Message(role="user", content=parts)]), context)
    assert body["messages"][0]["content"] == [
        parts[0],
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {
            "type": "image",
            "source": {"type": "url", "url": "HTTPS://h.example/a.png"},
            "cache_control": {"type": "ephemeral"},
        },
        parts[3],
    ]


async def test_functions_are_translated_and_the_vendors_own_tools_passed_on(
    question: ChatRequest, context: CallContext
) -> None:
    parameters = {"type": "object", "properties": {"word": {"type": "string"}}}
    own: list[dict[str, Any]] = [
        {"name": "h", "input_schema": parameters},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 1},
    ]
    tools = [
        {
            "type": "function",
            "function": {"name": "f", "description": "F.", "parameters": parameters, "strict": True},
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "function", "function": {"name": "g"}},
        *own,
    ]
    assert (await sent(replace(question, tools=tools), context))["tools"] == [
        {
            "name": "f",
            "description": "F.",
            "strict": True,
            "input_schema": parameters,
            "cache_control": {"type": "ephemeral"},
        },
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        *own,
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"type": "any", "disable_parallel_tool_use": True},
        ),
    ],
)
async def test_the_choice_of_tools_is_translated(
    question: ChatRequest, context: CallContext, choice: Any, expected: Any
) -> None:
    body = await sent(replace(question, extra={"tool_choice": choice}), context)
    assert body["tool_choice"] == expected


# --- answers that have to fit a schema ----------------------------------------------------------------


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {**SCHEMA, "additionalProperties": True},
        {**SCHEMA, "patternProperties": {}},
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": "a"},
        {"type": "string", "format": "uri-reference"},
        {"type": "array", "items": {"type": "string"}, "minItems": 2},
        {"type": "array", "items": True},
        {"enum": [{"a": 1}]},
        {"description": "anything"},
        {"$ref": "https://h.example/schema"},
        {"$ref": "#/$defs/node", "$defs": {"node": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}},
        {"anyOf": "x"},
        {"type": "object", "properties": []},
    ],
)
async def test_a_schema_beyond_what_the_vendor_enforces_is_put_into_words(
    question: ChatRequest, context: CallContext, schema: dict[str, Any]
) -> None:
    body = await sent(replace(question, response_schema=schema), context)
    assert "output_config" not in body
    assert body["system"].startswith("Answer with one JSON value")
    assert body["system"].endswith(orjson.dumps(schema).decode())


async def test_models_that_cannot_are_asked_in_words_after_the_system_prompt(
    question: ChatRequest, context: CallContext
) -> None:
    turns = [Message(role="system", content="Be brief."), *question.messages]
    request = replace(question, messages=turns, response_schema=SCHEMA)
    body = await sent(request, context, structured_outputs="prompt")
    assert "output_config" not in body
    assert body["system"].startswith("Be brief.\n\nAnswer with one JSON value")


async def test_a_schema_is_enforced_by_the_vendor_beside_other_wishes_for_its_output(
    question: ChatRequest, context: CallContext
) -> None:
    request = replace(question, response_schema=SCHEMA, extra={"output_config": {"effort": "low"}})
    body = await sent(request, context)
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}
    assert "system" not in body


def test_objects_are_closed_at_every_depth() -> None:
    schema = {
        "type": "object",
        "properties": {
            "all": {"type": "array", "items": {"$ref": "#/$defs/one"}},
            "kind": {"enum": ["a", 1]},
        },
        "$defs": {
            "one": {"anyOf": [{"type": "object", "properties": {"n": {"type": ["integer", "null"]}}}]},
            "two": {"$ref": "#/$defs/one"},
        },
    }
    closed = native_schema(schema)
    assert closed is not None
    assert closed["additionalProperties"] is False
    assert closed["$defs"]["one"]["anyOf"][0]["additionalProperties"] is False
    assert "additionalProperties" not in schema


@given(
    st.dictionaries(
        st.sampled_from(
            ("type", "properties", "items", "anyOf", "$defs", "$ref", "enum", "format", "minItems")
        ),
        json_of(("type", "properties", "items", "anyOf", "$ref", "enum")),
    )
)
def test_any_schema_is_taken_or_not(schema: dict[str, Any]) -> None:
    closed = native_schema(schema)
    assert closed is None or closed.keys() >= schema.keys()


# --- answers ------------------------------------------------------------------------------------------


async def test_an_answer_is_read_with_its_usage_and_all_of_its_input_counted(
    question: ChatRequest, context: CallContext
) -> None:
    assert await model(httpx.Response(200, json=ANSWER)).complete(question, context) == ChatResult(
        text="Because.",
        model="claude-sonnet-4-5-20250929",
        finish_reason="stop",
        usage=Usage(
            input_tokens=117, output_tokens=3, cached_tokens=100, cache_write_tokens=5, reasoning_tokens=1
        ),
        tool_calls=[],
    )


async def test_what_was_not_counted_is_unknown(question: ChatRequest, context: CallContext) -> None:
    for usage in (None, {"input_tokens": None, "cache_read_input_tokens": None}, {"input_tokens": -1}):
        answer = httpx.Response(200, json={"content": [], "usage": usage})
        result = await model(answer).complete(question, context)
        assert (result.usage, result.model, result.finish_reason) == (Usage(), "gpt-4o-mini", "unknown")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "unknown"),
        ("later", "unknown"),
        (["end_turn"], "unknown"),
    ],
)
async def test_stop_reasons_are_translated(
    question: ChatRequest, context: CallContext, reason: Any, expected: str
) -> None:
    answer = httpx.Response(200, json={**ANSWER, "stop_reason": reason})
    assert (await model(answer).complete(question, context)).finish_reason == expected


async def test_thinking_and_the_vendors_own_tools_are_not_part_of_the_answer(
    question: ChatRequest, context: CallContext
) -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "So "},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "a"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
        {"type": "text", "text": "it is."},
        USE,
    ]
    answer = httpx.Response(200, json={**ANSWER, "content": content, "stop_reason": "tool_use"})
    result = await model(answer).complete(question, context)
    assert result.text == "So it is."
    assert result.tool_calls == [
        {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"word":"a"}'}}
    ]
