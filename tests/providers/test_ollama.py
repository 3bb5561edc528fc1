"""The Ollama adapter: bytes out, lines in, errors by status and words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from app.ports.models import (
    CallContext,
    ChatDelta,
    ChatRequest,
    ChatResult,
    EmbedRequest,
    Message,
    Usage,
)
from app.providers.json_format import Malformed
from app.providers.ollama import format as fmt
from app.providers.ollama.adapter import Ollama, OllamaConfig
from app.providers.transport import Transport

CANARY = "canary-0123456789abcdef"
PIXEL = "iVBORw0KGgo="
ANSWER = {
    "model": "gemma3:4b",
    "created_at": "2026-10-17T23:14:07.414671Z",
    "message": {"role": "assistant", "content": "Because.", "thinking": "Hm."},
    "done": True,
    "done_reason": "stop",
    "total_duration": 174560334,
    "prompt_eval_count": 11,
    "eval_count": 18,
}
KEYS = (
    *("model", "message", "content", "thinking", "tool_calls", "function", "name", "arguments", "id"),
    *("done", "done_reason", "prompt_eval_count", "eval_count", "embeddings", "error"),
)


def nested() -> st.SearchStrategy[Any]:
    """Any JSON whose objects have Ollama's keys."""
    scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=5)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
        max_leaves=12,
    )


def model(answer: httpx.Response | Callable[[httpx.Request], httpx.Response], **config: Any) -> Ollama:
    handler = answer if callable(answer) else lambda request: answer
    return Ollama(
        OllamaConfig(**{"name": "main", **config}), Transport.over_httpx(httpx.MockTransport(handler))
    )


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


def piece(content: str = "", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more}
    return {"model": "gemma3:4b", "created_at": "2026-10-17T23:14:07Z", "message": message, "done": False}


def ndjson(*lines: Any) -> httpx.Response:
    body = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    return httpx.Response(200, content=body, headers={"content-type": "application/x-ndjson"})


async def collect(
    model: Ollama, request: ChatRequest, context: CallContext
) -> Sequence[ChatDelta | ChatResult]:
    return [item async for item in model.stream(request, context)]


@pytest.fixture
def question() -> ChatRequest:
    return ChatRequest(model="gemma3:4b", messages=[Message(role="user", content="Why?")])


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (404, "model 'gemma9' not found", (PermanentError, "not_found")),
        (400, "registry.ollama.ai/library/x does not support tools", (PermanentError, "invalid_request")),
        (400, "the input length exceeds the context length", (PermanentError, "context_length")),
        (500, "input length exceeds maximum context length", (PermanentError, "context_length")),
        (401, "unauthorized", (PermanentError, "authentication")),
        (429, "too many requests", (TemporaryError, "rate_limit")),
        (500, "model requires more system memory (6.1 GiB)", (TemporaryError, "server_error")),
        (502, "the cloud model cannot be reached", (TemporaryError, "server_error")),
        (503, "server busy, please try again", (TemporaryError, "server_error")),
    ],
)
async def test_statuses_and_words_become_errors_of_their_class(
    question: ChatRequest, context: CallContext, status: int, message: str, expected: tuple[type, str]
) -> None:
    answer = httpx.Response(status, json={"error": message})
    with pytest.raises(CallError) as failed:
        await model(answer).complete(question, context)
    assert (type(failed.value), failed.value.error_class) == expected
    assert "'main'" in str(failed.value)


async def test_a_missing_model_is_named(question: ChatRequest, context: CallContext) -> None:
    with pytest.raises(PermanentError, match="model 'gemma9' not found"):
        await collect(
            model(httpx.Response(404, json={"error": "model 'gemma9' not found"})), question, context
        )


@pytest.mark.parametrize("error", ["it broke", {"message": "it broke", "code": 500}])
async def test_an_error_line_in_mid_stream_is_an_error(
    question: ChatRequest, context: CallContext, error: Any
) -> None:
    stream = model(ndjson(piece("Be"), {"error": error})).stream(question, context)
    assert await anext(stream) == ChatDelta(text="Be")
    with pytest.raises(TemporaryError, match="it broke") as failed:
        await anext(stream)
    assert failed.value.error_class == "server_error"


@pytest.mark.parametrize("body", [{"done": False, "message": {"content": "Be"}}, {"message": {}}, {}])
async def test_an_answer_that_is_not_done_may_be_asked_for_again(
    question: ChatRequest, context: CallContext, body: Any
) -> None:
    with pytest.raises(TemporaryError, match="not done") as failed:
        await model(httpx.Response(200, json=body)).complete(question, context)
    assert failed.value.error_class == "invalid_output"


@given(nested())
def test_any_json_is_read_or_called_malformed(value: Any) -> None:
    answer = value if isinstance(value, dict) else {"message": value, "embeddings": value, "error": value}
    request = EmbedRequest(model="m", texts=["a"])
    for read in (
        lambda: fmt.Assembly("m").add(answer),
        lambda: fmt.read_embeddings(answer, request),
        lambda: fmt.read_error(answer),
    ):
        with suppress(Malformed):
            read()


# --- what is not asked --------------------------------------------------------------------------------


def unasked(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"it must not be sent: {request.url}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": {"max_output_tokens": 5}}, "write 'max_tokens'"),
        ({"extra": {"max_completion_tokens": 5}}, "write 'max_tokens'"),
        ({"extra": {"tool_choice": "required"}}, "the model chooses"),
        ({"extra": {"options": 7}}, "must be an object"),
        (
            {
                "messages": [
                    Message(
                        role="user", content=[{"type": "image_url", "image_url": {"url": "https://h/a.png"}}]
                    )
                ]
            },
            "fetches no images",
        ),
        ({"messages": [Message(role="user", content=[{"type": "video"}])]}, "no part of type 'video'"),
    ],
)
async def test_what_the_format_cannot_carry_is_refused(
    question: ChatRequest, context: CallContext, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PermanentError, match=message) as failed:
        await model(unasked).complete(replace(question, **change), context)
    assert failed.value.error_class == "invalid_request"


async def test_no_texts_are_refused(context: CallContext) -> None:
    with pytest.raises(PermanentError, match="no text to embed"):
        await model(unasked).embed(EmbedRequest(model="m", texts=[]), context)


# --- requests -----------------------------------------------------------------------------------------


async def test_the_request_is_exactly_this(question: ChatRequest, context: CallContext) -> None:
    server = Recording()
    await model(server).complete(question, context)
    request = server.requests[0]
    assert (request.method, str(request.url)) == ("POST", "http://localhost:11434/api/chat")
    assert request.content == (
        b'{"model":"gemma3:4b","messages":[{"role":"user","content":"Why?"}],"stream":false}'
    )
    assert dict(request.headers) == {
        "host": "localhost:11434",
        "user-agent": "llm-orchestrator",
        "accept": "application/json",
        "accept-encoding": "gzip",
        "content-type": "application/json",
        "idempotency-key": "r:answer",
        "content-length": "82",
    }


async def test_a_key_goes_out_as_a_bearer_token(question: ChatRequest, context: CallContext) -> None:
    server = Recording()
    adapter = model(server, base_url="https://ollama.com/", api_key=SecretStr(CANARY))
    await adapter.complete(question, context)
    assert str(server.requests[0].url) == "https://ollama.com/api/chat"
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    assert CANARY not in repr(adapter)


async def test_a_stream_is_asked_for_as_lines(question: ChatRequest, context: CallContext) -> None:
    asked: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return ndjson(ANSWER)

    await collect(model(server), question, context)
    assert asked[0].headers["accept"] == "application/x-ndjson"
    assert orjson.loads(asked[0].content)["stream"] is True


async def test_every_option_has_its_place(context: CallContext) -> None:
    server = Recording()
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    request = ChatRequest(
        model="gemma3:4b",
        messages=[Message(role="system", content="Be brief."), Message(role="user", content="Why?")],
        temperature=0.5,
        top_p=0.9,
        max_tokens=10,
        stop=["END"],
        seed=7,
        response_schema=schema,
        tools=tools,
        extra={"think": "low", "keep_alive": "10m", "options": {"num_ctx": 8192, "num_predict": 999}},
    )
    await model(server).complete(request, context)
    assert server.body == {
        "model": "gemma3:4b",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?"},
        ],
        "stream": False,
        "tools": tools,
        "format": schema,
        "think": "low",
        "keep_alive": "10m",
        "options": {
            "num_ctx": 8192,
            "num_predict": 10,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 7,
            "stop": ["END"],
        },
    }


async def test_images_stand_beside_the_text(question: ChatRequest, context: CallContext) -> None:
    server = Recording()
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        {"type": "text", "text": "Be brief."},
    ]
    turn = Message(role="user", content=content)
    await model(server).complete(replace(question, messages=[turn]), context)
    assert server.body["messages"] == [
        {"role": "user", "content": "What is it?\nBe brief.", "images": [PIXEL]}
    ]


async def test_calls_have_their_arguments_as_objects_and_results_name_their_function(
    question: ChatRequest, context: CallContext
) -> None:
    server = Recording()
    call = {"id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    conversation = [
        *question.messages,
        Message(role="assistant", content="", extra={"tool_calls": [call], "thinking": "Hm."}),
        Message(role="tool", content="A letter.", extra={"tool_call_id": "c0"}),
        Message(role="tool", content="Another.", extra={"tool_name": "g"}),
    ]
    await model(server).complete(replace(question, messages=conversation), context)
    assert server.body["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "thinking": "Hm.",
            "tool_calls": [{"id": "c0", "function": {"name": "f", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "A letter.", "tool_call_id": "c0", "tool_name": "f"},
        {"role": "tool", "content": "Another.", "tool_name": "g"},
    ]


# --- answers ------------------------------------------------------------------------------------------


async def test_an_answer_is_read_with_its_usage(question: ChatRequest, context: CallContext) -> None:
    assert await model(httpx.Response(200, json=ANSWER)).complete(question, context) == ChatResult(
        text="Because.",
        model="gemma3:4b",
        finish_reason="stop",
        usage=Usage(input_tokens=11, output_tokens=18),
        tool_calls=[],
    )


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("stop", "stop"), ("length", "length"), ("load", "unknown"), ("unload", "unknown"), (None, "unknown")],
)
async def test_finish_reasons_are_translated(
    question: ChatRequest, context: CallContext, reason: Any, expected: str
) -> None:
    body = {**ANSWER, "done_reason": reason}
    assert (await model(httpx.Response(200, json=body)).complete(question, context)).finish_reason == expected


async def test_calls_without_an_id_get_one(question: ChatRequest, context: CallContext) -> None:
    calls = [{"function": {"name": "f", "arguments": {"a": "ü"}}}, {"function": {"name": "g"}}]
    done = {**piece(), "done": True, "done_reason": "stop"}
    answer = ndjson(piece(thinking="Hm."), piece(tool_calls=calls[:1]), piece(tool_calls=calls[1:]), done)
    items = await collect(model(answer), question, context)
    assert items == [
        ChatResult(
            text="",
            model="gemma3:4b",
            finish_reason="tool_calls",
            usage=Usage(),
            tool_calls=[
                {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a":"ü"}'}},
                {"id": "call_1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        )
    ]


# --- embeddings ---------------------------------------------------------------------------------------


async def test_an_embedding_request_is_exactly_this(context: CallContext) -> None:
    server = Recording(
        {"model": "embeddinggemma:300m", "embeddings": [[1.0, 0.5], [0, 1]], "prompt_eval_count": 4}
    )
    request = EmbedRequest(model="embeddinggemma", texts=["a", "b"], dimensions=2, input_type="query")
    result = await model(server).embed(request, context)
    assert str(server.requests[0].url) == "http://localhost:11434/api/embed"
    assert server.requests[0].content == b'{"model":"embeddinggemma","input":["a","b"],"dimensions":2}'
    assert result.vectors == [[1.0, 0.5], [0, 1]]
    assert (result.model, result.usage) == ("embeddinggemma:300m", Usage(input_tokens=4))
