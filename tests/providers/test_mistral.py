"""Mistral: its words for options, its ids of tool calls, its ways to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, TypeAdapter

from app.configuration import instance_config
from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatRequest, ChatResult, EmbedRequest, Message, Usage
from app.providers.mistral import Mistral, MistralConfig, call_id
from app.providers.transport import Transport
from app.settings_providers import ProviderSettings

CANARY: Final = "mistral-canary-0123456789abcdef"
USAGE: Final = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
ANSWER: Final = {
    "id": "cmpl-1",
    "object": "chat.completion",
    "model": "mistral-small-2506",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Because."}, "finish_reason": "stop"}
    ],
    "usage": USAGE,
}
SCHEMA: Final = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}


class Recording:
    """Answers every request alike and keeps them."""

    def __init__(self, body: Any = ANSWER) -> None:
        self.requests: list[httpx.Request] = []
        self._body = body

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json=self._body)

    @property
    def body(self) -> Any:
        return orjson.loads(self.requests[-1].content)


def mistral(answer: httpx.Response | Callable[[httpx.Request], httpx.Response], **config: Any) -> Mistral:
    handler = answer if callable(answer) else lambda request: answer
    settings: dict[str, Any] = {"name": "main", "api_key": SecretStr(CANARY), **config}
    return Mistral(MistralConfig(**settings), Transport.over_httpx(httpx.MockTransport(handler)))


def unasked(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"it must not be sent: {request.url}")


def sse(*pieces: Any) -> httpx.Response:
    body = b"".join(b"data: " + orjson.dumps(item) + b"\n\n" for item in pieces) + b"data: [DONE]\n\n"
    return httpx.Response(200, content=body, headers={"content-type": "text/event-stream"})


def piece(delta: Any, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"model": "m-1", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


# --- errors -------------------------------------------------------------------------------------------

TOO_LONG: Final = (
    "Prompt contains 40001 tokens and 0 draft tokens, too large for model with 32768 maximum context length"
)
BAD_FIELD: Final = {
    "type": "extra_forbidden",
    "loc": ["body", "top_k"],
    "msg": "Extra inputs are not permitted",
}


def said(message: Any, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


@pytest.mark.parametrize(
    ("status", "body", "means"),
    [
        (400, said("Invalid model: x", "invalid_model", "1500"), ("not_found", "Invalid model: x")),
        (400, said(TOO_LONG, code="3051"), ("context_length", "maximum context length")),
        (
            400,
            said("Too many tokens in batch. Max is 16384 got 17555"),
            ("too_large", "lower the 'batch_size'"),
        ),
        (
            400,
            said("Too many inputs in request, split into more batches.", code="3210"),
            ("too_large", "lower the 'batch_size'"),
        ),
        (401, {"message": "Unauthorized", "request_id": "r"}, ("authentication", "credentials")),
        (401, {"detail": "Unauthorized"}, ("authentication", "credentials")),
        (422, {"detail": [BAD_FIELD]}, ("invalid_request", "body.top_k: Extra inputs are not permitted")),
        (
            422,
            said({"detail": [BAD_FIELD]}),
            ("invalid_request", "body.top_k: Extra inputs are not permitted"),
        ),
        (422, {"detail": [{"loc": ["body"]}, "x"]}, ("invalid_request", "body: it is not valid")),
        (429, {"message": "Requests rate limit exceeded"}, ("rate_limit", "rate limit exceeded")),
        (429, said("Service tier capacity exceeded", code="3505"), ("rate_limit", "capacity exceeded")),
        (500, said("Service unavailable.", "internal_server_error", "3000"), ("server_error", "unavailable")),
        (520, said("upstream"), ("server_error", "upstream")),
    ],
)
async def test_each_way_to_fail_has_its_class_and_its_words(
    question: ChatRequest, context: CallContext, status: int, body: Any, means: tuple[str, str]
) -> None:
    error_class, words = means
    with pytest.raises(CallError, match=words) as failed:
        await mistral(httpx.Response(status, json=body)).complete(question, context)
    assert failed.value.error_class == error_class
    assert isinstance(failed.value, TemporaryError) is (status == 429 or status >= 500)
    assert CANARY not in str(failed.value)


async def test_an_answer_that_failed_half_way_is_none(question: ChatRequest, context: CallContext) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Be"}, "finish_reason": "error"}
    streamed = sse(piece({"content": "Be"}), piece({}, "error"))
    with pytest.raises(TemporaryError, match="broke it off"):
        await mistral(Recording({**ANSWER, "choices": [choice]})).complete(question, context)
    with pytest.raises(TemporaryError, match="broke it off"):
        _ = [item async for item in mistral(streamed).stream(question, context)]


@pytest.mark.parametrize(
    ("option", "advice"),
    [
        ({"logit_bias": {"1": 1}}, "leave it out"),
        ({"max_completion_tokens": 5}, "write 'max_tokens'"),
        ({"seed": 1}, "key of the step"),
        ({"stream_options": {}}, "remove 'stream_options'"),
    ],
)
async def test_options_that_it_is_known_to_refuse_are_not_sent(
    question: ChatRequest, context: CallContext, option: dict[str, Any], advice: str
) -> None:
    with pytest.raises(PermanentError, match=advice) as failed:
        await mistral(unasked).complete(replace(question, extra=option), context)
    assert failed.value.error_class == "invalid_request"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (EmbedRequest(model="mistral-embed", texts=["a"], dimensions=512), "always have 1024"),
        (EmbedRequest(model="codestral-embed", texts=["a"], dimensions=4096), "at most 3072"),
        (EmbedRequest(model="mistral-embed", texts=["a", ""]), "text 1 is empty"),
        (EmbedRequest(model="mistral-embed", texts=["a"] * 513), "at most 512 texts"),
    ],
)
async def test_texts_that_it_is_known_to_refuse_are_not_sent(
    context: CallContext, request_: EmbedRequest, message: str
) -> None:
    with pytest.raises(PermanentError, match=message):
        await mistral(unasked).embed(request_, context)


# --- requests -----------------------------------------------------------------------------------------


async def test_the_request_is_exactly_this(question: ChatRequest, context: CallContext) -> None:
    server = Recording()
    request = replace(question, model="mistral-small-latest", seed=7, max_tokens=5, stop=["END"])
    await mistral(server).complete(request, context)
    assert str(server.requests[0].url) == "https://api.mistral.ai/v1/chat/completions"
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    assert server.body == {
        "model": "mistral-small-latest",
        "messages": [{"role": "user", "content": "Why?"}],
        "max_tokens": 5,
        "stop": ["END"],
        "random_seed": 7,
    }


async def test_a_stream_is_asked_for_without_options(question: ChatRequest, context: CallContext) -> None:
    server = Recording()
    _ = [item async for item in mistral(server).stream(question, context)]
    assert server.body["stream"] is True
    assert "stream_options" not in server.body


async def test_a_schema_goes_along(question: ChatRequest, context: CallContext) -> None:
    server = Recording()
    await mistral(server).complete(replace(question, response_schema=SCHEMA), context)
    assert server.body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [("required", "any"), ("any", "any"), ("auto", "auto"), ({"type": "function"}, {"type": "function"})],
)
async def test_a_tool_that_must_be_called_is_any_tool(
    question: ChatRequest, context: CallContext, choice: Any, sent: Any
) -> None:
    server = Recording()
    await mistral(server).complete(replace(question, extra={"tool_choice": choice}), context)
    assert server.body["tool_choice"] == sent


async def test_calls_of_other_vendors_get_ids_that_it_takes(context: CallContext) -> None:
    function = {"name": "f", "arguments": "{}"}
    calls = [
        {"id": "call_PTLP8xhu3uwZk4l3nlnrrJha", "type": "function", "function": function},
        {"id": "D681PevKs", "type": "function", "function": function},
    ]
    turns = [
        Message(role="assistant", content="", extra={"tool_calls": calls}),
        *(Message(role="tool", content="42", extra={"tool_call_id": call["id"]}) for call in calls),
    ]
    server = Recording()
    await mistral(server).complete(ChatRequest(model="m", messages=turns), context)
    asked, first, second = server.body["messages"]
    ids = [call["id"] for call in asked["tool_calls"]]
    assert ids == [first["tool_call_id"], second["tool_call_id"]]
    assert ids[1] == "D681PevKs"
    assert calls[0]["id"] == "call_PTLP8xhu3uwZk4l3nlnrrJha"


@given(st.text())
def test_any_id_becomes_nine_letters_and_digits_and_always_the_same(id: str) -> None:
    made = call_id(id)
    assert len(made) == 9
    assert made.isascii()
    assert made.isalnum()
    assert call_id(made) == made == call_id(id)


async def test_an_embedding_request_is_exactly_this(context: CallContext) -> None:
    server = Recording({"model": "codestral-embed", "data": [{"index": 0, "embedding": [1.0, 2.0]}]})
    request = EmbedRequest(model="codestral-embed", texts=["a"], dimensions=2, input_type="query")
    result = await mistral(server).embed(request, context)
    assert str(server.requests[0].url) == "https://api.mistral.ai/v1/embeddings"
    assert server.body == {
        "model": "codestral-embed",
        "input": ["a"],
        "encoding_format": "float",
        "output_dimension": 2,
    }
    assert result.vectors == [[1.0, 2.0]]


# --- answers ------------------------------------------------------------------------------------------


async def test_what_the_model_thought_is_no_part_of_the_text(
    question: ChatRequest, context: CallContext
) -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}], "closed": True}
    content = [thinking, {"type": "text", "text": "Because."}, {"type": "reference", "reference_ids": [1]}]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content},
        "finish_reason": "model_length",
    }
    result = await mistral(Recording({**ANSWER, "choices": [choice]})).complete(question, context)
    assert (result.text, result.finish_reason) == ("Because.", "length")

    pieces = [piece({"content": [thinking]}), piece({"content": content[1:]}), piece({}, "stop", usage=USAGE)]
    *_, last = [item async for item in mistral(sse(*pieces)).stream(question, context)]
    assert isinstance(last, ChatResult)
    assert (last.text, last.usage) == ("Because.", Usage(input_tokens=12, output_tokens=3))


@pytest.mark.parametrize("arguments", ['{"a":1}', {"a": 1}])
@pytest.mark.parametrize("stream", [False, True])
async def test_arguments_of_calls_are_json_text_however_they_came(
    question: ChatRequest, context: CallContext, arguments: Any, stream: bool
) -> None:
    call = {"id": "D681PevKs", "index": 0, "function": {"name": "f", "arguments": arguments}}
    turn = {"role": "assistant", "content": "", "tool_calls": [call]}
    choice = {"index": 0, "message": turn, "finish_reason": "tool_calls"}
    model = mistral(sse(piece(turn, "tool_calls")) if stream else Recording({**ANSWER, "choices": [choice]}))
    if stream:
        *_, result = [item async for item in model.stream(question, context)]
    else:
        result = await model.complete(question, context)
    assert isinstance(result, ChatResult)
    assert result.tool_calls == [
        {"id": "D681PevKs", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]


def test_settings_become_the_config() -> None:
    settings = TypeAdapter[Any](ProviderSettings).validate_python({"vendor": "mistral", "api_key": CANARY})
    config = instance_config("mistral-eu", settings)
    assert isinstance(config, MistralConfig)
    assert (config.name, config.base_url) == ("mistral-eu", "https://api.mistral.ai")
    assert (config.structured_outputs, config.embedding_format) == ("json_schema", "float")
    assert CANARY not in repr(config)
