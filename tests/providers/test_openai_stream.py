"""Streaming: the pieces add up to the whole, and a half answer is never taken for one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import orjson
import pytest

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, Usage
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.transport import Transport
from tests.simulator.process import Simulator


def piece(delta: Any = None, *, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"model": "m-1", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": reason}], **more}


def sse(*pieces: Any, done: bool = True) -> httpx.Response:
    lines = b"".join(b"data: " + orjson.dumps(item) + b"\n\n" for item in pieces)
    body = lines + (b"data: [DONE]\n\n" if done else b"")
    return httpx.Response(200, content=body, headers={"content-type": "text/event-stream"})


def model(answer: httpx.Response, requests: list[httpx.Request] | None = None) -> OpenAI:
    def handler(request: httpx.Request) -> httpx.Response:
        if requests is not None:
            requests.append(request)
        return answer

    config = OpenAIConfig(name="main", base_url="http://m.test/v1")
    return OpenAI(config, Transport.over_httpx(httpx.MockTransport(handler)))


def simulated(simulator: Simulator, transport: Transport) -> OpenAI:
    return OpenAI(OpenAIConfig(name="sim", base_url=simulator.base_url), transport)


async def collect(
    model: OpenAI, request: ChatRequest, context: CallContext
) -> Sequence[ChatDelta | ChatResult]:
    return [item async for item in model.stream(request, context)]


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((piece({"content": "Be"}),), "ended early"),
        ((), "ended early"),
        ((piece({"content": "Be"}), {"error": {"message": "busy", "code": 503}}), "busy"),
        ((piece({"tool_calls": [{"index": "x"}]}),), "no index"),
        (("text",), "not a JSON object"),
    ],
)
async def test_a_stream_that_breaks_is_a_temporary_error(
    question: ChatRequest, context: CallContext, pieces: Any, message: str
) -> None:
    with pytest.raises(TemporaryError, match=message):
        await collect(model(sse(*pieces, done=False)), question, context)


async def test_a_stream_that_says_done_without_a_reason_is_not_whole(
    question: ChatRequest, context: CallContext
) -> None:
    with pytest.raises(TemporaryError, match="ended early"):
        await collect(model(sse(piece({"content": "Be"}))), question, context)


async def test_a_status_is_an_error_before_anything_is_streamed(
    question: ChatRequest, context: CallContext
) -> None:
    with pytest.raises(PermanentError, match="refused its credentials"):
        await collect(model(httpx.Response(401, json={"error": {"message": "x"}})), question, context)


async def test_pieces_add_up_to_the_result(question: ChatRequest, context: CallContext) -> None:
    requests: list[httpx.Request] = []
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    answer = sse(
        piece({"role": "assistant", "content": ""}),
        piece({"content": "Be"}),
        piece({"content": "cause."}),
        piece(reason="length"),
        {"model": "m-1", "choices": [], "usage": usage},
    )
    items = await collect(model(answer, requests), question, context)
    assert items == [
        ChatDelta(text="Be"),
        ChatDelta(text="cause."),
        ChatResult(
            text="Because.",
            model="m-1",
            finish_reason="length",
            usage=Usage(input_tokens=5, output_tokens=2),
            tool_calls=[],
        ),
    ]
    assert orjson.loads(requests[0].content)["stream_options"] == {"include_usage": True}
    assert requests[0].headers["accept"] == "text/event-stream"


async def test_tool_calls_are_put_together(question: ChatRequest, context: CallContext) -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        return {"index": index, "function": function}

    answer = sse(
        piece({"tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": {"name": "f"}}]}),
        piece({"tool_calls": [call(0, arguments='{"a"')]}),
        piece({"tool_calls": [{"id": "c1", **call(1, name="g", arguments="{}")}]}),
        piece({"tool_calls": [call(0, arguments=":1}")]}, reason="tool_calls"),
    )
    result = (await collect(model(answer), question, context))[-1]
    assert isinstance(result, ChatResult)
    assert result.finish_reason == "tool_calls"
    assert result.tool_calls == [
        {"id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


async def test_a_server_that_does_not_stream_yields_one_delta(
    question: ChatRequest, context: CallContext
) -> None:
    body = {"choices": [{"message": {"content": "Because."}, "finish_reason": "stop"}]}
    items = await collect(model(httpx.Response(200, json=body)), question, context)
    assert [item.text for item in items] == ["Because.", "Because."]


async def test_a_missing_done_is_forgiven(question: ChatRequest, context: CallContext) -> None:
    answer = sse(piece({"content": "x"}, reason="stop"), done=False)
    assert len(await collect(model(answer), question, context)) == 2


@pytest.mark.parametrize(
    ("fault", "error_class"),
    [
        ("stream_cut", "connection"),
        ("stream_error", "server_error"),
        ("stream_stall", "timeout"),
        ("stall", "timeout"),
        ("reset_body", "connection"),
        ("rate_limit", "rate_limit"),
    ],
)
async def test_faults_of_a_real_stream_are_classified(
    simulator: Simulator, transport: Transport, context: CallContext, fault: str, error_class: str
) -> None:
    request = ChatRequest(model=f"fault:{fault}", messages=[])
    config = OpenAIConfig(name="sim", base_url=simulator.base_url, timeout_seconds=0.5)
    with pytest.raises(CallError) as failed:
        await collect(OpenAI(config, transport), request, context)
    assert failed.value.error_class == error_class


async def test_a_stream_whose_end_never_comes_is_whole_at_done(
    simulator: Simulator, transport: Transport, context: CallContext
) -> None:
    request = ChatRequest(model="fault:stream_open", messages=[])
    items = await asyncio.wait_for(collect(simulated(simulator, transport), request, context), 5)
    assert items[-1].text == "The simulated answer."


async def test_a_real_stream_comes_piece_by_piece_and_keeps_its_connection(
    simulator: Simulator, transport: Transport, question: ChatRequest, context: CallContext
) -> None:
    model = simulated(simulator, transport)
    for _ in range(3):
        items = await collect(model, question, context)
        assert [item.text for item in items] == ["The", " simulated", " answer.", "The simulated answer."]
    assert simulator.stats().open_sockets == 2


async def test_leaving_a_stream_aborts_the_call(
    simulator: Simulator, transport: Transport, question: ChatRequest, context: CallContext
) -> None:
    simulator.control(stream_gap_ms=50)
    stream = simulated(simulator, transport).stream(question, context)
    assert await anext(stream) == ChatDelta(text="The")
    await stream.aclose()  # type: ignore[attr-defined]  # the port promises an iterator, this one is a generator
    stats = await asyncio.to_thread(simulator.wait, aborted=1)
    assert stats.answered == 0


async def test_cancelling_a_stream_aborts_the_call(
    simulator: Simulator, transport: Transport, context: CallContext
) -> None:
    request = ChatRequest(model="fault:stream_stall", messages=[])
    task = asyncio.create_task(collect(simulated(simulator, transport), request, context))
    await asyncio.to_thread(simulator.wait, in_flight=1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(simulator.wait, aborted=1, open_at_most=1)
