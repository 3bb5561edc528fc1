"""Contract: what we send, and what the suite's fake answers, is valid under the types of Anthropic's client.

The vendor publishes no OpenAPI document; the types of its own client are the nearest to one. That client
is asked as well: it sends what we send, and reads out of the fake what we read. It speaks a later version
of the API (2026-10-21) than we do, whose requests are a part of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx
import httpx2
import jsonschema_rs
import orjson
import pytest
from anthropic.types import Message as MessageType
from anthropic.types import MessageParam, RawMessageStreamEvent
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from anthropic.types.shared import ErrorResponse
from pydantic import SecretStr, TypeAdapter

from app.ports.models import CallContext, ChatRequest, Message
from app.providers.anthropic import format as fmt
from app.providers.anthropic.adapter import Anthropic, AnthropicConfig
from app.providers.anthropic.stream import Assembly
from app.providers.transport import Transport
from tests.conformance.chat_vendors.anthropic import ERROR_TYPES, answer, error, events, frame
from tests.conformance.chat_vendors.vendor import Said, SaidCall
from tests.simulator import messages as simulated

SAID = Said(
    pieces=("So ", "it is."),
    calls=[SaidCall(id="c1", name="look_up", arguments={"word": "a"})],
    finish_reason="tool_calls",
)
MANNER = fmt.Manner(default_max_tokens=4096, cache_system=False, native_schemas=True)
QUESTION = [Message(role="system", content="Be brief."), Message(role="user", content="Why?")]
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
TOOL = {
    "type": "function",
    "function": {"name": "look_up", "description": "Looks a word up.", "parameters": SCHEMA, "strict": True},
}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"word":"a"}'}}
PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
]
UNLISTED = ("temperature", "top_p", "top_k")
"""Options of our version of the API that the later one has no more."""

Check = Callable[[Any], None]


def check_of(kind: Any) -> Check:
    """Validates a value against a type of the client, unknown keys being wrong."""
    schema = _closed(TypeAdapter(kind).json_schema())
    return jsonschema_rs.Draft202012Validator(schema).validate


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    read = {key: _closed(value) for key, value in schema.items()}
    if isinstance(read.get("properties"), dict) and read.get("type") == "object":
        read.setdefault("additionalProperties", False)
    return read


@pytest.fixture(scope="module")
def check_request() -> Check:
    checks = {
        stream: check_of(kind)
        for stream, kind in ((False, MessageCreateParamsNonStreaming), (True, MessageCreateParamsStreaming))
    }
    return lambda body: checks[body.get("stream", False)](
        {key: value for key, value in body.items() if key not in UNLISTED}
    )


def test_wrong_values_are_noticed(check_request: Check) -> None:
    good = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    check_request(good)
    wrongs: list[dict[str, Any]] = [
        {"max_tokens": None},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": PARTS}]},
        {"messages": [{"role": "user", "content": "x", "name": "ann"}]},
        {"tools": [TOOL]},
        {"tool_choice": "auto"},
        {"response_format": {}},
        {"seed": 1},
    ]
    for wrong in wrongs:
        with pytest.raises(jsonschema_rs.ValidationError):
            check_request({**good, **wrong})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest(model="claude-haiku-4-5", messages=QUESTION),
        ChatRequest(
            model="claude-haiku-4-5",
            messages=QUESTION,
            temperature=0.2,
            top_p=0.5,
            max_tokens=2000,
            stop=["END"],
            seed=1,
            extra={"metadata": {"user_id": "ann"}, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        ),
        ChatRequest(
            model="m", messages=QUESTION, response_schema=SCHEMA, extra={"output_config": {"effort": "low"}}
        ),
        ChatRequest(model="m", messages=QUESTION, response_schema={"type": "object"}),
        ChatRequest(model="m", messages=[Message(role="user", content=PARTS)]),
        ChatRequest(
            model="m",
            messages=[
                *QUESTION,
                Message(role="assistant", content="", extra={"tool_calls": [CALL]}),
                Message(role="tool", content=PARTS, extra={"tool_call_id": "c1", "name": "look_up"}),
                Message(role="assistant", content="So", extra={"tool_calls": [{**CALL, "id": "c2"}]}),
                Message(role="tool", content="42", extra={"tool_call_id": "c2", "is_error": False}),
            ],
            tools=[TOOL, {"name": "f", "input_schema": SCHEMA}],
            extra={"tool_choice": {"type": "function", "function": {"name": "look_up"}}},
        ),
        *(
            ChatRequest(model="m", messages=QUESTION, tools=[TOOL], extra={"tool_choice": choice})
            for choice in ("auto", "none", "required")
        ),
    ],
)
def test_requests_are_valid(check_request: Check, request_: ChatRequest, cached: bool, stream: bool) -> None:
    manner = fmt.Manner(default_max_tokens=4096, cache_system=cached, native_schemas=True)
    check_request(orjson.loads(fmt.chat_body(request_, manner, stream=stream)))


@pytest.mark.parametrize("said", [Said(), SAID, Said(pieces=(), finish_reason="content_filter")])
def test_the_fakes_answers_are_valid(said: Said) -> None:
    check_of(MessageType)(answer(said))
    check_event = check_of(RawMessageStreamEvent)
    for event in events(said):
        if event["type"] != "ping":  # the client's types leave it out
            check_event(event)


@pytest.mark.parametrize("status", sorted(set(ERROR_TYPES) - {413}))
def test_the_fakes_errors_are_valid(status: int) -> None:
    check_of(ErrorResponse)(error(status, "no"))


def test_every_error_type_of_the_client_has_a_status() -> None:
    schema = TypeAdapter(ErrorResponse).json_schema()
    kinds = {
        it["properties"]["type"]["const"] for it in schema["$defs"].values() if it["title"] != "ErrorResponse"
    }
    assert kinds <= fmt.STATUSES.keys()


def test_every_stop_reason_of_the_client_has_a_meaning() -> None:
    schema = MessageType.model_json_schema()["properties"]["stop_reason"]
    (reasons,) = (part["enum"] for part in schema["anyOf"] if "enum" in part)
    assert set(reasons) <= fmt.FINISH_REASONS.keys()


@pytest.mark.parametrize("text", ["So it is.", ""])
def test_the_simulators_messages_are_valid_and_read(text: str) -> None:
    whole = orjson.loads(simulated.message("m", text))
    check_of(MessageType)(whole)
    check_event = check_of(RawMessageStreamEvent)
    assembly = Assembly("m")
    for event in simulated.stream_events("m", text):
        data = orjson.loads(event.partition(b"data: ")[2])
        check_event(data)
        assembly.add(data)
    assert fmt.read_completion(whole, model="m") == assembly.result()
    assert assembly.result().text == text


# --- the vendor's own client --------------------------------------------------------------------------


@contextmanager
def client(body: bytes, content_type: str, sent: list[httpx2.Request]) -> Iterator[anthropic.Anthropic]:
    """The client, over a server that answers every request alike."""

    def server(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, content=body, headers={"content-type": content_type})

    http = httpx2.Client(transport=httpx2.MockTransport(server))
    with anthropic.Anthropic(api_key="key", http_client=http, max_retries=0) as made:
        yield made


async def test_the_client_sends_what_we_send(context: CallContext) -> None:
    theirs: list[httpx2.Request] = []
    messages: list[MessageParam] = [{"role": "user", "content": "Why?"}]
    with client(orjson.dumps(answer(SAID)), "application/json", theirs) as vendors:
        vendors.messages.create(model="m", max_tokens=4096, system="Be brief.", messages=messages)
    ours: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        ours.append(request)
        return httpx.Response(200, json=answer(SAID))

    transport = Transport.over_httpx(httpx.MockTransport(server))
    config = AnthropicConfig(name="main", api_key=SecretStr("key"))
    await Anthropic(config, transport).complete(ChatRequest(model="m", messages=QUESTION), context)
    assert str(ours[0].url) == str(theirs[0].url)
    assert orjson.loads(ours[0].content) == orjson.loads(theirs[0].content)
    assert ours[0].headers["content-type"] == theirs[0].headers["content-type"]
    assert "anthropic-version" in theirs[0].headers


def test_the_client_reads_out_of_the_fake_what_we_read() -> None:
    with client(orjson.dumps(answer(SAID)), "application/json", []) as vendors:
        message = vendors.messages.create(model="m", max_tokens=1, messages=[])
    stream = b"".join(frame(event) for event in events(SAID))
    with (
        client(stream, "text/event-stream", []) as vendors,
        vendors.messages.stream(model="m", max_tokens=1, messages=[]) as pieces,
    ):
        streamed = pieces.get_final_message()
    ours = fmt.read_completion(answer(SAID), model="m")
    for theirs in (message, streamed):
        text, call = theirs.content
        assert text.type == "text"
        assert text.text == ours.text
        assert call.type == "tool_use"
        assert call.input == orjson.loads(ours.tool_calls[0]["function"]["arguments"])
        assert theirs.usage.output_tokens == ours.usage.output_tokens
        assert theirs.stop_reason == "tool_use"
