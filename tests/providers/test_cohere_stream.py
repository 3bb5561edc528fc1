"""Cohere's streams: events put together, cut anywhere, wrong in every way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.ports.errors import TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, Usage
from app.providers.cohere.adapter import Cohere, CohereConfig
from app.providers.cohere.stream import Assembly
from app.providers.json_format import Malformed
from app.providers.transport import Transport

END = {
    "type": "message-end",
    "delta": {
        "finish_reason": "COMPLETE",
        "usage": {
            "billed_units": {"input_tokens": 5, "output_tokens": 2},
            "tokens": {"input_tokens": 71, "output_tokens": 2},
        },
    },
}


def text(piece: str, kind: str = "content-delta") -> dict[str, Any]:
    return {"type": kind, "index": 0, "delta": {"message": {"content": {"text": piece}}}}


def call(kind: str, index: Any, **call: Any) -> dict[str, Any]:
    return {"type": f"tool-call-{kind}", "index": index, "delta": {"message": {"tool_calls": call}}}


def streamed(*events: Any, kind: str = "text/event-stream") -> Cohere:
    body = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events)
    answer = httpx.Response(200, content=body, headers={"content-type": kind})
    transport = Transport.over_httpx(httpx.MockTransport(lambda _: answer))
    return Cohere(CohereConfig(name="main", api_key=SecretStr("k")), transport)


async def items(model: Cohere, request: ChatRequest, context: CallContext) -> list[ChatDelta | ChatResult]:
    return [item async for item in model.stream(request, context)]


@pytest.mark.parametrize(
    ("delta", "error_class", "words"),
    [
        ({"finish_reason": "ERROR"}, "server_error", "the generation failed"),
        ({"finish_reason": "ERROR", "error": "no GPU"}, "server_error", "no GPU"),
        ({"finish_reason": "TIMEOUT"}, "timeout", "too long"),
    ],
)
async def test_a_generation_that_fails_on_its_way_is_an_error(
    question: ChatRequest, context: CallContext, delta: dict[str, str], error_class: str, words: str
) -> None:
    model = streamed(text("Be"), {"type": "message-end", "delta": delta})
    with pytest.raises(TemporaryError, match=words) as failed:
        await items(model, question, context)
    assert failed.value.error_class == error_class


@pytest.mark.parametrize("events", [[], [text("Be")], [{"type": "message-end"}], [{"type": "content-end"}]])
async def test_a_stream_without_an_end_ended_early(
    question: ChatRequest, context: CallContext, events: list[Any]
) -> None:
    with pytest.raises(TemporaryError, match="ended early") as failed:
        await items(streamed(*events), question, context)
    assert failed.value.error_class == "connection"


@pytest.mark.parametrize("index", [None, "0", True, 1.0])
async def test_a_tool_call_without_an_index_may_be_asked_for_again(
    question: ChatRequest, context: CallContext, index: Any
) -> None:
    with pytest.raises(TemporaryError) as failed:
        await items(streamed(call("start", index, id="c1"), END), question, context)
    assert failed.value.error_class == "invalid_output"


async def test_text_is_what_the_answer_says_and_nothing_of_plans_thoughts_and_citations(
    question: ChatRequest, context: CallContext
) -> None:
    events = [
        {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant"}}},
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"thinking": "Hm."}}}},
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will look."}}},
        text("Be", "content-start"),
        text("cause"),
        text(""),
        {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"text": "cause"}}}},
        {"type": "debug", "prompt": "…"},
        {"type": "something-new", "delta": {"message": {"content": {"text": "no"}}}},
        text("."),
        END,
    ]
    assert await items(streamed(*events), question, context) == [
        ChatDelta(text="Be"),
        ChatDelta(text="cause"),
        ChatDelta(text="."),
        ChatResult(
            text="Because.",
            model=question.model,
            finish_reason="stop",
            usage=Usage(input_tokens=5, output_tokens=2),
            tool_calls=[],
        ),
    ]


async def test_tool_calls_are_put_together_by_their_index(
    question: ChatRequest, context: CallContext
) -> None:
    events = [
        call("start", 1, id="c2", type="function", function={"name": "now", "arguments": ""}),
        call("start", 0, id="c1", type="function", function={"name": "look_up", "arguments": '{"w'}),
        call("delta", 0, function={"arguments": 'ord": 1}'}),
        call("delta", 1, function={"arguments": "{}"}),
        {"type": "tool-call-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
    ]
    [result] = await items(streamed(*events), question, context)
    assert isinstance(result, ChatResult)
    assert result.finish_reason == "tool_calls"
    assert list(result.tool_calls) == [
        {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": 1}'}},
        {"id": "c2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]


async def test_an_answer_is_whole_when_it_says_so_and_not_when_the_connection_ends(
    question: ChatRequest, context: CallContext
) -> None:
    class Open(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for event in (text("Because."), END):
                yield b"data: " + orjson.dumps(event) + b"\n\n"
            await asyncio.Event().wait()

    answer = httpx.Response(200, stream=Open(), headers={"content-type": "text/event-stream"})
    transport = Transport.over_httpx(httpx.MockTransport(lambda _: answer))
    model = Cohere(CohereConfig(name="main", api_key=SecretStr("k")), transport)
    delta, result = await items(model, question, context)
    assert isinstance(result, ChatResult)
    assert (delta, result.text) == (ChatDelta(text="Because."), "Because.")


async def test_a_server_that_does_not_stream_is_read_all_the_same(
    question: ChatRequest, context: CallContext
) -> None:
    answer = {
        "finish_reason": "COMPLETE",
        "message": {"role": "assistant", "content": [{"type": "text", "text": "Because."}]},
    }
    whole = httpx.Response(200, json=answer)
    transport = Transport.over_httpx(httpx.MockTransport(lambda _: whole))
    model = Cohere(CohereConfig(name="main", api_key=SecretStr("k")), transport)
    delta, result = await items(model, question, context)
    assert delta == ChatDelta(text="Because.")
    assert result == await model.complete(question, context)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["message", "content", "text", "tool_calls", "function", "arguments", "id"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
KINDS = st.sampled_from(
    ["content-start", "content-delta", "tool-call-start", "tool-call-delta", "message-end", "debug"]
)


@given(st.lists(st.fixed_dictionaries({"type": KINDS | JSON, "index": JSON, "delta": JSON}), max_size=5))
def test_whatever_is_streamed_is_put_together_or_malformed(events: list[dict[str, Any]]) -> None:
    assembly, texts = Assembly("m"), []
    try:
        for event in events:
            delta = assembly.add(event)
            texts.append(delta.text if delta else "")
        assert assembly.result().text == "".join(texts)
    except Malformed:
        return
    assert assembly.complete
