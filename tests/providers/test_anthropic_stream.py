"""Streaming from Anthropic: events add up to the message, and half a message is never taken for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from app.ports.errors import CallError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, Usage
from app.providers.anthropic.adapter import Anthropic, AnthropicConfig
from app.providers.transport import Transport
from tests.conformance.chat_vendors.anthropic import error, frame

START = {
    "type": "message_start",
    "message": {"model": "m-1", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}},
}
STOP = {"type": "message_stop"}


def begun(index: Any, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: Any, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def ended(reason: Any, **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage}


async def collect(*events: Mapping[str, Any], then: bytes = b"") -> list[ChatDelta | ChatResult]:
    body = b"".join(frame(event) for event in events) + then
    answer = httpx.Response(200, content=body, headers={"content-type": "text/event-stream; charset=utf-8"})
    transport = Transport.over_httpx(httpx.MockTransport(lambda request: answer))
    adapter = Anthropic(AnthropicConfig(name="main", base_url="http://m.test"), transport)
    context = CallContext(run_id="r", path="p", attempt=1, idempotency_key="k", timeout_seconds=5)
    return [item async for item in adapter.stream(ChatRequest(model="m", messages=[]), context)]


@pytest.mark.parametrize(
    ("event", "error_class"),
    [
        (error(529, "Overloaded"), "server_error"),
        (error(429, "Slow down"), "rate_limit"),
        (error(500, "Oh"), "server_error"),
        (error(401, "Who?"), "authentication"),
        (error(400, "prompt is too long: 9 tokens > 8 maximum"), "context_length"),
        ({"type": "error", "error": {"type": "new_error", "message": "?"}}, "server_error"),
        (begun("0", type="tool_use", id="c", name="f", input={}), "invalid_output"),
        (delta(None, type="input_json_delta", partial_json="{"), "invalid_output"),
    ],
)
async def test_an_event_that_breaks_the_stream_has_its_class(
    event: Mapping[str, Any], error_class: str
) -> None:
    with pytest.raises(CallError, match="'main'") as failed:
        await collect(START, begun(0, type="text", text=""), event, ended("end_turn"), STOP)
    assert failed.value.error_class == error_class


async def test_a_stream_that_ends_after_its_blocks_is_not_whole() -> None:
    with pytest.raises(CallError, match="ended early") as failed:
        await collect(
            START, delta(0, type="text_delta", text="So"), {"type": "content_block_stop", "index": 0}
        )
    assert failed.value.error_class == "connection"


async def test_events_add_up_to_the_message_without_its_thoughts() -> None:
    items = await collect(
        START,
        {"type": "ping"},
        begun(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="Hm."),
        delta(0, type="signature_delta", signature="s"),
        begun(1, type="text", text="So"),
        delta(1, type="text_delta", text=" it"),
        delta(1, type="citations_delta", citation={}),
        {"type": "of_a_later_version", "index": 1, "text": "x"},
        begun(2, type="server_tool_use", id="s", name="web_search", input={}),
        delta(2, type="input_json_delta", partial_json='{"query":"a"}'),
        begun(3, type="text", text=""),
        delta(3, type="text_delta", text=" is."),
        ended(
            "stop_sequence",
            input_tokens=None,
            cache_read_input_tokens=4,
            output_tokens=7,
            output_tokens_details={"thinking_tokens": 2},
        ),
        STOP,
    )
    assert items == [
        ChatDelta(text="So"),
        ChatDelta(text=" it"),
        ChatDelta(text=" is."),
        ChatResult(
            text="So it is.",
            model="m-1",
            finish_reason="stop",
            usage=Usage(input_tokens=13, output_tokens=7, cached_tokens=4, reasoning_tokens=2),
            tool_calls=[],
        ),
    ]


@pytest.mark.parametrize(
    ("given", "pieces", "arguments"),
    [
        ({}, ['{"a', '": [1, ', "2]}"], '{"a":[1,2]}'),
        ({}, [], "{}"),
        ({}, [""], "{}"),
        ({"a": 1}, [], '{"a":1}'),
        ({}, ['{"a": "cut of'], '{"a": "cut of'),
    ],
    ids=["pieces", "none", "empty", "at once", "cut off"],
)
async def test_arguments_are_put_together(given: Any, pieces: list[str], arguments: str) -> None:
    deltas = [delta(1, type="input_json_delta", partial_json=piece) for piece in pieces]
    *_, result = await collect(
        START,
        begun(1, type="tool_use", id="c1", name="f", input=given),
        begun(0, type="tool_use", id="c0", name="g", input={}),
        *deltas,
        ended("tool_use"),
        STOP,
    )
    assert isinstance(result, ChatResult)
    assert result.tool_calls == [
        {"id": "c0", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}},
    ]


async def test_nothing_is_read_after_the_end_of_the_message() -> None:
    items = await collect(START, ended("end_turn"), STOP, then=frame(error(500, "late")))
    assert [type(item) for item in items] == [ChatResult]


async def test_a_missing_stop_is_forgiven_and_so_is_a_missing_reason() -> None:
    *_, without_stop = await collect(START, delta(0, type="text_delta", text="So"), ended("end_turn"))
    *_, without_reason = await collect(START, delta(0, type="text_delta", text="So"), STOP)
    assert isinstance(without_stop, ChatResult)
    assert isinstance(without_reason, ChatResult)
    assert (without_stop.finish_reason, without_reason.finish_reason) == ("stop", "unknown")


async def test_a_server_that_does_not_stream_yields_one_delta(
    question: ChatRequest, context: CallContext
) -> None:
    body = {"content": [{"type": "text", "text": "Because."}], "stop_reason": "end_turn"}
    answer = httpx.Response(200, json=body)
    transport = Transport.over_httpx(httpx.MockTransport(lambda request: answer))
    adapter = Anthropic(AnthropicConfig(name="main", base_url="http://m.test"), transport)
    items = [item.text async for item in adapter.stream(question, context)]
    assert items == ["Because.", "Because."]
