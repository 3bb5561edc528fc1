"""Servers that speak OpenAI's API in their own way: Google's and Ollama's, as they answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import orjson
import pytest

from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, Usage
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.transport import Transport

GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai/"
OLLAMA = "http://localhost:11434/v1"
SIGNED = {"extra_content": {"google": {"thought_signature": "c2ln"}}}


def model(base_url: str, answer: httpx.Response) -> OpenAI:
    return OpenAI(
        OpenAIConfig(name="main", base_url=base_url),
        Transport.over_httpx(httpx.MockTransport(lambda request: answer)),
    )


def sse(*pieces: Any) -> httpx.Response:
    body = b"".join(b"data: " + orjson.dumps(piece) + b"\n\n" for piece in pieces)
    return httpx.Response(
        200, content=body + b"data: [DONE]\n\n", headers={"content-type": "text/event-stream"}
    )


def chunk(delta: Any, reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": reason}
    return {"id": "x", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice], **more}


def call(id: str, name: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": '{"a":1}'}, **more}


async def collect(
    model: OpenAI, request: ChatRequest, context: CallContext
) -> Sequence[ChatDelta | ChatResult]:
    return [item async for item in model.stream(request, context)]


async def test_googles_errors_come_in_a_list(question: ChatRequest, context: CallContext) -> None:
    error = {"code": 404, "message": "models/x is not found", "status": "NOT_FOUND"}
    with pytest.raises(PermanentError, match="models/x is not found") as failed:
        await model(GOOGLE, httpx.Response(404, json=[{"error": error}])).complete(question, context)
    assert failed.value.error_class == "not_found"


async def test_ollamas_errors_are_read(question: ChatRequest, context: CallContext) -> None:
    error = {"message": "model 'x' not found", "type": "not_found_error", "param": None, "code": None}
    with pytest.raises(PermanentError, match="model 'x' not found") as failed:
        await model(OLLAMA, httpx.Response(404, json={"error": error})).complete(question, context)
    assert failed.value.error_class == "not_found"


@pytest.mark.parametrize("places", [{}, {"index": 0}])
async def test_calls_that_google_counts_alike_stay_apart_and_keep_their_signature(
    question: ChatRequest, context: CallContext, places: dict[str, int]
) -> None:
    answer = sse(
        chunk({"tool_calls": [call("c0", "f", **SIGNED, **places)]}),
        chunk({"tool_calls": [call("c1", "f", **places)]}, "tool_calls"),
    )
    result = (await collect(model(GOOGLE, answer), question, context))[-1]
    assert isinstance(result, ChatResult)
    assert result.tool_calls == [call("c0", "f", **SIGNED), call("c1", "f")]


async def test_a_server_that_gives_every_piece_of_a_call_an_id_makes_one_call(
    question: ChatRequest, context: CallContext
) -> None:
    def piece(id: str, **function: str | None) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": 0, "id": id, "type": "function", "function": function}]})

    answer = sse(
        piece("c0", name="f", arguments=""),
        piece("c1", name=None, arguments='{"a"'),
        piece("c2", arguments=":1}"),
        chunk({}, "tool_calls"),
    )
    result = (await collect(model(OLLAMA, answer), question, context))[-1]
    assert isinstance(result, ChatResult)
    assert [made["function"] for made in result.tool_calls] == [{"name": "f", "arguments": '{"a":1}'}]


async def test_ollamas_stream_is_read_with_its_usage(question: ChatRequest, context: CallContext) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    answer = sse(
        chunk({"content": "", "reasoning": "Hm."}, system_fingerprint="fp_ollama"),
        chunk({"content": "Because."}, system_fingerprint="fp_ollama"),
        chunk({"content": ""}, "stop", system_fingerprint="fp_ollama"),
        {"id": "x", "object": "chat.completion.chunk", "model": "m-1", "choices": [], "usage": usage},
    )
    assert await collect(model(OLLAMA, answer), question, context) == [
        ChatDelta(text="Because."),
        ChatResult(
            text="Because.",
            model="m-1",
            finish_reason="stop",
            usage=Usage(input_tokens=5, output_tokens=2),
            tool_calls=[],
        ),
    ]


@pytest.mark.parametrize("base_url", [GOOGLE, OLLAMA])
async def test_vectors_that_come_as_numbers_are_read(context: CallContext, base_url: str) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [1.0, 0.5]}]
    body = {"object": "list", "data": data, "model": "m-1", "usage": {"prompt_tokens": 2, "total_tokens": 2}}
    adapter = model(base_url, httpx.Response(200, json=body))
    result = await adapter.embed(EmbedRequest(model="m-1", texts=["a"]), context)
    assert result.vectors == [[1.0, 0.5]]
