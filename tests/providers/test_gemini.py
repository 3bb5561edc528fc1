"""The Gemini adapter: bytes out, answers in, errors by reason and status."""

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
from app.providers.gemini import format as fmt
from app.providers.gemini.adapter import Gemini, GeminiConfig
from app.providers.gemini.stream import Assembly
from app.providers.json_format import Malformed
from app.providers.transport import Transport

CANARY = "AIza-canary-0123456789abcdef"
PIXEL = "iVBORw0KGgo="
ANSWER = {
    "candidates": [
        {"content": {"parts": [{"text": "Because."}], "role": "model"}, "finishReason": "STOP", "index": 0}
    ],
    "usageMetadata": {
        "promptTokenCount": 12,
        "candidatesTokenCount": 3,
        "thoughtsTokenCount": 40,
        "cachedContentTokenCount": 8,
        "totalTokenCount": 55,
    },
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r-1",
}
QUOTA = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
KEYS = (
    *("candidates", "content", "parts", "text", "thought", "functionCall", "args", "name", "id"),
    *("finishReason", "usageMetadata", "promptTokenCount", "thoughtsTokenCount", "embeddings", "values"),
    *("error", "code", "message", "status", "details", "reason", "violations", "quotaId", "retryDelay"),
    *("promptFeedback", "blockReason", "thoughtSignature"),
)


def nested() -> st.SearchStrategy[Any]:
    """Any JSON whose objects have Google's keys."""
    scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=5)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
        max_leaves=12,
    )


def model(answer: httpx.Response | Callable[[httpx.Request], httpx.Response], **config: Any) -> Gemini:
    handler = answer if callable(answer) else lambda request: answer
    settings: dict[str, Any] = {"name": "main", "api_key": SecretStr(CANARY), **config}
    return Gemini(GeminiConfig(**settings), Transport.over_httpx(httpx.MockTransport(handler)))


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


def failure(status: int, name: str, message: str = "no", *details: Any) -> httpx.Response:
    error = {"code": status, "message": message, "status": name, "details": list(details)}
    return httpx.Response(status, json={"error": error})


def quota(identity: str) -> dict[str, Any]:
    violation = {"quotaMetric": QUOTA, "quotaId": identity, "quotaValue": "20"}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def retry(delay: Any) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def reason(name: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": name,
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }


def candidate(*parts: Any, finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    found = {"content": {"parts": list(parts), "role": "model"}, "finishReason": finish, **more}
    return {"candidates": [found]}


def sse(*pieces: Any) -> httpx.Response:
    body = b"".join(b"data: " + orjson.dumps(piece) + b"\r\n\r\n" for piece in pieces)
    return httpx.Response(200, content=body, headers={"content-type": "text/event-stream"})


async def collect(
    model: Gemini, request: ChatRequest, context: CallContext
) -> Sequence[ChatDelta | ChatResult]:
    return [item async for item in model.stream(request, context)]


@pytest.fixture
def question() -> ChatRequest:
    return ChatRequest(model="gemini-2.5-flash", messages=[Message(role="user", content="Why?")])


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (failure(400, "INVALID_ARGUMENT"), (PermanentError, "invalid_request")),
        (
            failure(400, "INVALID_ARGUMENT", "API key not valid.", reason("API_KEY_INVALID")),
            (PermanentError, "authentication"),
        ),
        (
            failure(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key."),
            (PermanentError, "authentication"),
        ),
        (
            failure(400, "FAILED_PRECONDITION", "User location is not supported."),
            (PermanentError, "permission"),
        ),
        (
            failure(
                400,
                "INVALID_ARGUMENT",
                "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).",
            ),
            (PermanentError, "context_length"),
        ),
        (
            failure(403, "PERMISSION_DENIED", "no", reason("API_KEY_SERVICE_BLOCKED")),
            (PermanentError, "permission"),
        ),
        (failure(404, "NOT_FOUND"), (PermanentError, "not_found")),
        (failure(429, "RESOURCE_EXHAUSTED"), (TemporaryError, "rate_limit")),
        (
            failure(429, "RESOURCE_EXHAUSTED", "no", quota("GenerateRequestsPerMinutePerProjectPerModel")),
            (TemporaryError, "rate_limit"),
        ),
        (
            failure(
                429,
                "RESOURCE_EXHAUSTED",
                "no",
                quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
                retry("37s"),
            ),
            (PermanentError, "rate_limit"),
        ),
        (failure(500, "INTERNAL"), (TemporaryError, "server_error")),
        (failure(503, "UNAVAILABLE"), (TemporaryError, "server_error")),
        (failure(504, "DEADLINE_EXCEEDED"), (TemporaryError, "timeout")),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["object", "list"])
async def test_reasons_and_statuses_become_errors_of_their_class(
    question: ChatRequest,
    context: CallContext,
    answer: httpx.Response,
    expected: tuple[type, str],
    wrapped: bool,
) -> None:
    body = answer.json()
    again = httpx.Response(answer.status_code, json=[body] if wrapped else body)
    with pytest.raises(CallError) as failed:
        await collect(model(again), question, context)
    assert (type(failed.value), failed.value.error_class) == expected
    assert failed.value.status == answer.status_code
    assert "'main'" in str(failed.value)


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [
        ({}, [retry("13s")], 13.0),
        ({}, [retry("27.494213s")], 27.494213),
        ({}, [quota("GenerateRequestsPerMinutePerProjectPerModel"), retry("0.5s")], 0.5),
        ({"retry-after": "7"}, [retry("13s")], 7.0),
        ({}, [retry("soon")], None),
        ({}, [retry(13)], None),
        ({}, [retry("9999999s")], 3600.0),
        ({}, [], None),
        ({}, ["text", None], None),
    ],
)
async def test_the_delay_of_the_body_is_passed_on(
    question: ChatRequest,
    context: CallContext,
    headers: dict[str, str],
    details: list[Any],
    seconds: float | None,
) -> None:
    answer = httpx.Response(
        429, headers=headers, json=failure(429, "RESOURCE_EXHAUSTED", "slow down", *details).json()
    )
    with pytest.raises(TemporaryError, match="slow down") as failed:
        await model(answer).complete(question, context)
    assert failed.value.retry_after == seconds


async def test_a_refused_key_is_not_repeated(question: ChatRequest, context: CallContext) -> None:
    answer = failure(400, "INVALID_ARGUMENT", f"key {CANARY[:8]} is bad", reason("API_KEY_INVALID"))
    with pytest.raises(PermanentError, match="refused its credentials") as failed:
        await model(answer).complete(question, context)
    assert CANARY[:8] not in str(failed.value)


@pytest.mark.parametrize("feedback", [{"blockReason": "SAFETY"}, {"blockReason": "PROHIBITED_CONTENT"}])
async def test_a_blocked_prompt_is_a_filtered_one(
    question: ChatRequest, context: CallContext, feedback: Any
) -> None:
    body = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 4}}
    with pytest.raises(PermanentError, match=feedback["blockReason"]) as failed:
        await model(httpx.Response(200, json=body)).complete(question, context)
    assert failed.value.error_class == "content_filter"
    with pytest.raises(PermanentError) as failed:
        await collect(model(sse(body)), question, context)
    assert failed.value.error_class == "content_filter"


@pytest.mark.parametrize("finish", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE"])
async def test_what_the_model_made_a_mess_of_may_be_asked_for_again(
    question: ChatRequest, context: CallContext, finish: str
) -> None:
    body = candidate(finish=finish, finishMessage="Malformed function call: print(f(")
    with pytest.raises(TemporaryError, match=finish) as failed:
        await model(httpx.Response(200, json=body)).complete(question, context)
    assert failed.value.error_class == "invalid_output"
    with pytest.raises(TemporaryError, match=finish):
        await collect(model(sse(candidate({"text": "a"}, finish=None), body)), question, context)


async def test_a_call_without_its_signature_is_the_requests_fault(
    question: ChatRequest, context: CallContext
) -> None:
    body = candidate(finish="MISSING_THOUGHT_SIGNATURE")
    with pytest.raises(PermanentError, match="'extra_content'") as failed:
        await model(httpx.Response(200, json=body)).complete(question, context)
    assert failed.value.error_class == "invalid_request"


@given(nested())
def test_any_json_is_read_or_called_malformed(value: Any) -> None:
    answer = value if isinstance(value, dict) else {"candidates": value, "embeddings": value, "error": value}
    request = EmbedRequest(model="m", texts=["a"])
    for read in (
        lambda: Assembly("m").add(answer),
        lambda: fmt.read_embeddings(answer, request),
        lambda: fmt.read_usage(answer),
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
        ({"messages": [Message(role="system", content="Be brief.")]}, "a turn of the user"),
        ({"messages": [Message(role="user", content=[{"type": "video"}])]}, "no part of type 'video'"),
        (
            {
                "messages": [
                    Message(role="system", content=[{"type": "image_url", "image_url": "x"}]),
                    Message(role="user", content="Why?"),
                ]
            },
            "'text'",
        ),
        (
            {"messages": [Message(role="tool", content="1", extra={"tool_call_id": "c9"})]},
            "'c9' answers no call",
        ),
        ({"tools": [{"googleSearch": {}}]}, "type: googleSearch"),
        ({"tools": [{"type": "function", "googleSearch": {}}]}, "type: googleSearch"),
        ({"tools": [{"type": "googleSearch"}]}, "type: googleSearch"),
        ({"extra": {"generationConfig": {"candidateCount": 2}}}, "candidateCount"),
        ({"extra": {"generationConfig": 7}}, "must be an object"),
        ({"extra": {"tool_choice": "perhaps"}}, "auto, none, required"),
    ],
)
async def test_what_the_format_cannot_carry_is_refused(
    question: ChatRequest, context: CallContext, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(PermanentError, match=message) as failed:
        await model(unasked).complete(replace(question, **change), context)
    assert failed.value.error_class == "invalid_request"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (EmbedRequest(model="m", texts=["a"], input_type="poem"), "no input_type 'poem'; use one of: class"),
        (EmbedRequest(model="m", texts=[]), "no text to embed"),
    ],
)
async def test_embeddings_that_cannot_be_asked_for_are_refused(
    context: CallContext, request_: EmbedRequest, message: str
) -> None:
    with pytest.raises(PermanentError, match=message):
        await model(unasked).embed(request_, context)


# --- requests -----------------------------------------------------------------------------------------


async def test_the_request_is_exactly_this(question: ChatRequest, context: CallContext) -> None:
    server = Recording()
    await model(server, headers={"x-team": "a"}).complete(question, context)
    request = server.requests[0]
    assert (request.method, str(request.url)) == (
        "POST",
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
    )
    assert request.content == b'{"contents":[{"role":"user","parts":[{"text":"Why?"}]}]}'
    assert dict(request.headers) == {
        "host": "generativelanguage.googleapis.com",
        "user-agent": "llm-orchestrator",
        "accept": "application/json",
        "accept-encoding": "gzip",
        "content-type": "application/json",
        "x-team": "a",
        "idempotency-key": "r:answer",
        "x-goog-api-key": CANARY,
        "content-length": "56",
    }


async def test_a_stream_is_asked_for_as_events(question: ChatRequest, context: CallContext) -> None:
    asked: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return sse(ANSWER)

    await collect(model(server), question, context)
    assert asked[0].url.raw_path == b"/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert asked[0].headers["accept"] == "text/event-stream"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("gemini-2.5-flash", "/models/gemini-2.5-flash"),
        ("models/gemini-2.5-flash", "/models/gemini-2.5-flash"),
        ("tunedModels/mine", "/tunedModels/mine"),
        ("../files/x?key=1#", "/models/..%2Ffiles%2Fx%3Fkey%3D1%23"),
        ("models/a/b", "/models/a%2Fb"),
    ],
)
def test_what_a_document_calls_a_model_stays_in_its_place(name: str, path: str) -> None:
    assert fmt.model_path(name) == path


async def test_every_option_has_its_place(context: CallContext) -> None:
    server = Recording()
    schema = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "$defs": {}}
    request = ChatRequest(
        model="gemini-2.5-flash",
        messages=[
            Message(role="system", content="Be brief."),
            Message(role="user", content="Why?", extra={"name": "ann"}),
            Message(role="system", content=[{"type": "text", "text": "And kind."}]),
        ],
        temperature=0.5,
        top_p=0.9,
        max_tokens=10,
        stop=["END"],
        seed=7,
        response_schema=schema,
        extra={
            "generationConfig": {"topK": 40, "thinkingConfig": {"thinkingBudget": 0}, "maxOutputTokens": 999},
            "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
            "cachedContent": "cachedContents/c1",
        },
    )
    await model(server).complete(request, context)
    assert server.body == {
        "contents": [{"role": "user", "parts": [{"text": "Why?"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "And kind."}]},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "cachedContent": "cachedContents/c1",
        "generationConfig": {
            "topK": 40,
            "thinkingConfig": {"thinkingBudget": 0},
            "maxOutputTokens": 10,
            "temperature": 0.5,
            "topP": 0.9,
            "stopSequences": ["END"],
            "seed": 7,
            "responseMimeType": "application/json",
            "responseJsonSchema": schema,
        },
    }


async def test_tools_become_declarations_and_googles_own_pass(
    question: ChatRequest, context: CallContext
) -> None:
    server = Recording()
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}}
    tools = [
        {"type": "function", "function": {"name": "f", "description": "F.", "parameters": parameters}},
        {"type": "googleSearch", "googleSearch": {}},
        {"type": "function", "function": {"name": "g", "strict": True}},
    ]
    extra = {"tool_choice": {"type": "function", "function": {"name": "f"}}, "toolConfig": {"x": 1}}
    await model(server).complete(replace(question, tools=tools, extra=extra), context)
    assert server.body["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "F.", "parametersJsonSchema": parameters},
                {"name": "g"},
            ]
        },
        {"googleSearch": {}},
    ]
    assert server.body["toolConfig"] == {
        "x": 1,
        "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]},
    }
    assert "tool_choice" not in server.body


@pytest.mark.parametrize(("choice", "mode"), [("auto", "AUTO"), ("none", "NONE"), ("required", "ANY")])
async def test_a_choice_of_tools_becomes_a_mode(
    question: ChatRequest, context: CallContext, choice: str, mode: str
) -> None:
    server = Recording()
    await model(server).complete(replace(question, extra={"tool_choice": choice}), context)
    assert server.body["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


async def test_calls_and_their_results_become_parts(question: ChatRequest, context: CallContext) -> None:
    def call(id: str, name: str, **more: Any) -> dict[str, Any]:
        return {"id": id, "type": "function", "function": {"name": name, "arguments": '{"a": 1}'}, **more}

    signed = call("c0", "f", extra_content={"google": {"thought_signature": "c2lnbmVk"}})
    server = Recording()
    conversation = [
        *question.messages,
        Message(role="assistant", content="Let me see.", extra={"tool_calls": [signed, call("c1", "g")]}),
        Message(role="tool", content='{"b": 2}', extra={"tool_call_id": "c0"}),
        Message(role="tool", content="[1, 2]", extra={"tool_call_id": "c1"}),
        Message(role="assistant", content="Once more.", extra={"tool_calls": [call("", "h")]}),
        Message(role="tool", content="no JSON", extra={"name": "h"}),
        Message(role="user", content="And?"),
    ]
    await model(server).complete(replace(question, messages=conversation), context)
    assert server.body["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "Let me see."},
                {
                    "functionCall": {"id": "c0", "name": "f", "args": {"a": 1}},
                    "thoughtSignature": "c2lnbmVk",
                },
                {"functionCall": {"id": "c1", "name": "g", "args": {"a": 1}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c0", "name": "f", "response": {"b": 2}}},
                {"functionResponse": {"id": "c1", "name": "g", "response": {"output": [1, 2]}}},
            ],
        },
        {
            "role": "model",
            "parts": [{"text": "Once more."}, {"functionCall": {"name": "h", "args": {"a": 1}}}],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "h", "response": {"output": "no JSON"}}}],
        },
        {"role": "user", "parts": [{"text": "And?"}]},
    ]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
        ),
        (
            {"type": "image_url", "image_url": "https://example.com/a/b.JPG?x=.gif"},
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.com/a/b.JPG?x=.gif"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/image"}},
            {"fileData": {"fileUri": "https://example.com/image"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAEC", "format": "wav"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "AAEC"}},
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAEC"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "AAEC"}},
        ),
        (
            {"type": "video", "fileData": {"fileUri": "https://youtu.be/x"}, "videoMetadata": {"fps": 1}},
            {"fileData": {"fileUri": "https://youtu.be/x"}, "videoMetadata": {"fps": 1}},
        ),
    ],
)
async def test_parts_are_translated(
    question: ChatRequest, context: CallContext, part: dict[str, Any], expected: dict[str, Any]
) -> None:
    server = Recording()
    turn = Message(role="user", content=[{"type": "text", "text": "What is it?"}, part])
    await model(server).complete(replace(question, messages=[turn]), context)
    assert server.body["contents"] == [{"role": "user", "parts": [{"text": "What is it?"}, expected]}]


# --- answers ------------------------------------------------------------------------------------------


async def test_an_answer_is_read_with_its_usage(question: ChatRequest, context: CallContext) -> None:
    assert await model(httpx.Response(200, json=ANSWER)).complete(question, context) == ChatResult(
        text="Because.",
        model="gemini-2.5-flash",
        finish_reason="stop",
        usage=Usage(input_tokens=12, output_tokens=43, cached_tokens=8, reasoning_tokens=40),
        tool_calls=[],
    )


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({}, Usage()),
        ({"totalTokenCount": 5}, Usage()),
        ({"promptTokenCount": 5}, Usage(input_tokens=5, output_tokens=0)),
        (
            {"promptTokenCount": 5, "thoughtsTokenCount": 7},
            Usage(input_tokens=5, output_tokens=7, reasoning_tokens=7),
        ),
        (
            {"promptTokenCount": 5, "toolUsePromptTokenCount": 2, "candidatesTokenCount": 1},
            Usage(input_tokens=7, output_tokens=1),
        ),
    ],
)
def test_counts_that_are_left_out_are_zero_where_anything_is_counted(usage: Any, expected: Usage) -> None:
    assert fmt.read_usage(usage) == expected


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("OTHER", "unknown"),
        ("SOMETHING_NEW", "unknown"),
    ],
)
async def test_finish_reasons_are_translated(
    question: ChatRequest, context: CallContext, finish: str, expected: str
) -> None:
    # a candidate that was filtered has no content at all
    body = {"candidates": [{"finishReason": finish, "index": 0}]}
    result = await model(httpx.Response(200, json=body)).complete(question, context)
    assert (result.text, result.finish_reason) == ("", expected)


async def test_thoughts_are_no_part_of_the_text(question: ChatRequest, context: CallContext) -> None:
    pieces = (
        candidate({"text": "Hm. ", "thought": True}, finish=None),
        candidate({"text": "Be"}, {"text": "cause."}, finish=None),
        candidate({"text": "", "thoughtSignature": "c2ln"}),
    )
    *deltas, last = await collect(model(sse(*pieces)), question, context)
    assert deltas == [ChatDelta(text="Because.")]
    assert isinstance(last, ChatResult)
    assert last.text == "Because."


async def test_calls_are_handed_on_with_their_signature(question: ChatRequest, context: CallContext) -> None:
    signed = {"functionCall": {"name": "f", "args": {"a": "ü"}}, "thoughtSignature": "c2ln"}
    body = candidate(signed, {"functionCall": {"id": "own", "name": "g"}})
    result = await model(httpx.Response(200, json=body)).complete(question, context)
    assert result.finish_reason == "tool_calls"
    assert result.tool_calls == [
        {
            "id": "call_0",
            "type": "function",
            "function": {"name": "f", "arguments": '{"a":"ü"}'},
            "extra_content": {"google": {"thought_signature": "c2ln"}},
        },
        {"id": "own", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


async def test_calls_can_be_sent_back_as_they_came(question: ChatRequest, context: CallContext) -> None:
    signed = {"functionCall": {"id": "i", "name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"}
    server = Recording(candidate(signed))
    result = await model(server).complete(question, context)
    turn = Message(role="assistant", content="", extra={"tool_calls": result.tool_calls})
    await model(server).complete(replace(question, messages=[*question.messages, turn]), context)
    assert server.body["contents"][1] == {"role": "model", "parts": [signed]}


async def test_a_server_that_does_not_stream_yields_one_delta(
    question: ChatRequest, context: CallContext
) -> None:
    items = await collect(model(httpx.Response(200, json=ANSWER)), question, context)
    assert [item.text for item in items] == ["Because.", "Because."]


async def test_the_last_count_of_a_stream_holds(question: ChatRequest, context: CallContext) -> None:
    pieces = (
        {**candidate({"text": "a"}, finish=None), "usageMetadata": {"promptTokenCount": 4}},
        {**candidate({"text": "b"}), "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2}},
    )
    last = (await collect(model(sse(*pieces)), question, context))[-1]
    assert isinstance(last, ChatResult)
    assert last.usage == Usage(input_tokens=4, output_tokens=2)


# --- embeddings ---------------------------------------------------------------------------------------


async def test_an_embedding_request_is_exactly_this(context: CallContext) -> None:
    server = Recording({"embeddings": [{"values": [1.0, 0.5]}, {"values": [0, 1]}]})
    request = EmbedRequest(
        model="gemini-embedding-001", texts=["a", "b"], dimensions=2, input_type="search_query"
    )
    result = await model(server).embed(request, context)
    options = {
        "model": "models/gemini-embedding-001",
        "taskType": "RETRIEVAL_QUERY",
        "outputDimensionality": 2,
    }
    assert server.requests[0].url.raw_path == b"/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert server.body == {
        "requests": [{**options, "content": {"parts": [{"text": text}]}} for text in ("a", "b")]
    }
    assert result.vectors == [[1.0, 0.5], [0, 1]]
    assert result.usage == Usage()


@pytest.mark.parametrize(
    ("input_type", "task_type"),
    [
        ("query", "RETRIEVAL_QUERY"),
        ("document", "RETRIEVAL_DOCUMENT"),
        ("search_document", "RETRIEVAL_DOCUMENT"),
        ("classification", "CLASSIFICATION"),
        ("clustering", "CLUSTERING"),
        ("similarity", "SEMANTIC_SIMILARITY"),
        ("QUESTION_ANSWERING", "QUESTION_ANSWERING"),
        ("code_retrieval_query", "CODE_RETRIEVAL_QUERY"),
    ],
)
def test_what_texts_are_for_has_googles_name(input_type: str, task_type: str) -> None:
    body = orjson.loads(fmt.embed_body(EmbedRequest(model="m", texts=["a"], input_type=input_type)))
    assert body["requests"][0]["taskType"] == task_type


async def test_a_count_of_tokens_is_read_where_there_is_one(context: CallContext) -> None:
    server = Recording({"embeddings": [{"values": [1.0]}], "usageMetadata": {"promptTokenCount": 3}})
    result = await model(server).embed(EmbedRequest(model="m", texts=["a"]), context)
    assert result.usage == Usage(input_tokens=3)


def test_no_repr_shows_the_key() -> None:
    config = GeminiConfig(name="main", api_key=SecretStr(CANARY), headers={"x-gateway-key": CANARY})
    assert CANARY not in repr(config)
    assert CANARY not in repr(model(httpx.Response(200)))
