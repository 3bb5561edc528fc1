"""The OpenAI adapter: bytes out, answers in, errors by code and status."""

from __future__ import annotations

import base64
import struct
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
from app.ports.models import CallContext, ChatRequest, ChatResult, EmbedRequest, Message, Usage
from app.providers.json_format import Malformed
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.openai.dialect import Dialect
from app.providers.openai.errors import read_error
from app.providers.openai.format import chat_body, read_completion
from app.providers.openai.schema import STRICT_KEYWORDS
from app.providers.openai.stream import Assembly
from app.providers.openai.vectors import read_embeddings
from app.providers.transport import Transport

CANARY = "sk-canary-0123456789abcdef"
ANSWER = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Because."}, "finish_reason": "stop"}
    ],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 1},
    },
}
KEYS = (
    *("choices", "message", "content", "delta", "index", "tool_calls", "function", "name", "arguments"),
    *("finish_reason", "usage", "prompt_tokens", "prompt_tokens_details", "data", "embedding", "error"),
    *("text", "refusal", "model", "id", "code", "type"),
)


def nested(keys: Sequence[str]) -> st.SearchStrategy[Any]:
    """Any JSON whose objects have these keys."""
    scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=5)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=4),
        max_leaves=12,
    )


def model(answer: httpx.Response | Callable[[httpx.Request], httpx.Response], **config: Any) -> OpenAI:
    handler = answer if callable(answer) else lambda request: answer
    settings: dict[str, Any] = {"name": "main", "api_key": SecretStr(CANARY), **config}
    return OpenAI(OpenAIConfig(**settings), Transport.over_httpx(httpx.MockTransport(handler)))


class Recording:
    """Answers every request alike and keeps them."""

    def __init__(self, body: Any) -> None:
        self.requests: list[httpx.Request] = []
        self._body = body

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json=self._body)

    @property
    def body(self) -> Any:
        return orjson.loads(self.requests[-1].content)


def closed(defs: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    """An object with these properties and no others."""
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    return {**schema, "additionalProperties": False, **({"$defs": defs} if defs else {})}


def nested_objects(levels: int) -> dict[str, Any]:
    """Objects within objects."""
    return closed(a=nested_objects(levels - 1)) if levels > 1 else closed(a={"type": "string"})


def embeddings(*vectors: Any, **usage: int) -> dict[str, Any]:
    data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
    return {"object": "list", "model": "text-embedding-3-small", "data": data, "usage": usage}


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, None, (PermanentError, "invalid_request")),
        (400, "context_length_exceeded", (PermanentError, "context_length")),
        (400, "content_filter", (PermanentError, "content_filter")),
        (401, "invalid_api_key", (PermanentError, "authentication")),
        (403, "unsupported_country_region_territory", (PermanentError, "permission")),
        (404, "model_not_found", (PermanentError, "not_found")),
        (404, None, (PermanentError, "not_found")),
        (408, None, (TemporaryError, "timeout")),
        (409, None, (TemporaryError, "server_error")),
        (413, None, (PermanentError, "too_large")),
        (422, None, (PermanentError, "invalid_request")),
        (425, None, (TemporaryError, "server_error")),
        (429, "rate_limit_exceeded", (TemporaryError, "rate_limit")),
        (429, "insufficient_quota", (PermanentError, "rate_limit")),
        (500, None, (TemporaryError, "server_error")),
        (501, None, (PermanentError, "invalid_request")),
        (502, None, (TemporaryError, "server_error")),
        (503, None, (TemporaryError, "server_error")),
        (504, None, (TemporaryError, "timeout")),
        (529, None, (TemporaryError, "server_error")),
        (302, None, (PermanentError, "invalid_request")),
    ],
)
async def test_statuses_and_codes_become_errors_of_their_class(
    question: ChatRequest, context: CallContext, status: int, code: str | None, expected: tuple[type, str]
) -> None:
    error = {"message": f"no, says the vendor of {CANARY}", "type": "t", "param": None, "code": code}
    with pytest.raises(CallError) as failed:
        await model(httpx.Response(status, json={"error": error})).complete(question, context)
    assert (type(failed.value), failed.value.error_class) == expected
    assert failed.value.status == status
    assert "'main'" in str(failed.value)
    assert CANARY not in str(failed.value)


@pytest.mark.parametrize(
    "body", [b"", b"<html>bad gateway</html>", b"[]", b'{"error": null}', b'{"error": 7}']
)
async def test_an_error_without_a_readable_body_still_has_its_class(
    question: ChatRequest, context: CallContext, body: bytes
) -> None:
    with pytest.raises(TemporaryError, match="answered 502"):
        await model(httpx.Response(502, content=body)).complete(question, context)


async def test_other_servers_words_for_a_full_context_are_understood(
    question: ChatRequest, context: CallContext
) -> None:
    error = {
        "message": "This model's maximum context length is 4096 tokens",
        "type": "BadRequestError",
        "code": 400,
    }
    with pytest.raises(PermanentError) as failed:
        await model(httpx.Response(400, json={"error": error})).complete(question, context)
    assert failed.value.error_class == "context_length"


async def test_a_vendors_long_message_is_cut_and_put_on_one_line(
    question: ChatRequest, context: CallContext
) -> None:
    with pytest.raises(PermanentError) as failed:
        await model(httpx.Response(400, json={"error": {"message": "a\nb " * 1000}})).complete(
            question, context
        )
    assert len(str(failed.value)) < 400
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        (
            {"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"},
            30.0,
        ),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "999999999"}, 3600.0),
        ({"retry-after": "soon"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-requests": "4", "x-ratelimit-reset-requests": "9s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "later"}, None),
        ({}, None),
    ],
)
async def test_the_vendors_delay_is_passed_on(
    question: ChatRequest, context: CallContext, headers: dict[str, str], seconds: float | None
) -> None:
    with pytest.raises(TemporaryError) as failed:
        await model(httpx.Response(429, headers=headers)).complete(question, context)
    assert failed.value.retry_after == seconds


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[1]",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": "x"}]}',
        b"{}",
    ],
)
async def test_an_answer_that_cannot_be_used_may_be_asked_for_again(
    question: ChatRequest, context: CallContext, body: bytes
) -> None:
    with pytest.raises(TemporaryError, match="'main' cannot be used") as failed:
        await model(httpx.Response(200, content=body)).complete(question, context)
    assert failed.value.error_class == "invalid_output"


async def test_an_error_inside_a_success_is_an_error(question: ChatRequest, context: CallContext) -> None:
    body = {"error": {"message": "upstream is busy", "code": 429}}
    with pytest.raises(TemporaryError, match="upstream is busy") as failed:
        await model(httpx.Response(200, json=body)).complete(question, context)
    assert failed.value.error_class == "rate_limit"


async def test_openai_is_not_asked_without_a_key(question: ChatRequest, context: CallContext) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError("it must not be sent")

    with pytest.raises(PermanentError, match="no API key") as failed:
        await model(handler, api_key=None).complete(question, context)
    assert failed.value.error_class == "authentication"


@pytest.mark.parametrize("key", ["model", "messages", "stream", "stream_options"])
async def test_extra_options_cannot_replace_what_the_service_sets(
    question: ChatRequest, context: CallContext, key: str
) -> None:
    with pytest.raises(PermanentError, match=f"remove '{key}'"):
        await model(httpx.Response(200)).complete(replace(question, extra={key: 1}), context)


@pytest.mark.parametrize("text", ["\ud800", "ok \udfff"])
async def test_text_that_is_no_unicode_is_refused(
    question: ChatRequest, context: CallContext, text: str
) -> None:
    request = replace(question, messages=[Message(role="user", content=text)])
    with pytest.raises(PermanentError) as failed:
        await model(httpx.Response(200)).complete(request, context)
    assert failed.value.error_class == "invalid_request"


@pytest.mark.parametrize(
    "url", ["", "api.example.com", "ftp://h", "https://", "https://u:p@h/v1", "https://h/?k=v"]
)
def test_a_base_url_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base URL of instance 'main'"):
        model(httpx.Response(200), base_url=url)


async def test_a_secret_header_is_sent_and_cut_out_of_what_the_server_says(
    question: ChatRequest, context: CallContext
) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        said = f"no such tenant: {request.headers['x-gateway-key']}"
        return httpx.Response(400, json={"error": {"message": said}})

    adapter = model(server, headers={"X-Gateway-Key": SecretStr(CANARY)})
    with pytest.raises(PermanentError, match=r"no such tenant: \[secret\]") as failed:
        await adapter.complete(question, context)
    assert CANARY not in str(failed.value)


def test_no_repr_shows_the_key() -> None:
    config = OpenAIConfig(name="main", api_key=SecretStr(CANARY), headers={"x-gateway-key": CANARY})
    assert CANARY not in repr(config)
    assert CANARY not in repr(model(httpx.Response(200)))


@given(nested(KEYS))
def test_any_json_is_read_or_called_malformed(value: Any) -> None:
    answer = value if isinstance(value, dict) else {"choices": value, "data": value, "error": value}
    request = EmbedRequest(model="m", texts=["a"])
    for read in (
        lambda: read_completion(answer, model="m"),
        lambda: read_embeddings(answer, request),
        lambda: read_error(answer),
        lambda: Assembly("m").add(answer),
    ):
        with suppress(Malformed):
            read()


@given(st.dictionaries(st.sampled_from(sorted(STRICT_KEYWORDS)), nested(sorted(STRICT_KEYWORDS))))
def test_any_schema_is_sent_as_it_is(schema: dict[str, Any]) -> None:
    request = ChatRequest(model="m", messages=[], response_schema=schema)
    body = orjson.loads(chat_body(request, Dialect(), stream=False))
    assert body["response_format"]["json_schema"]["schema"] == orjson.loads(orjson.dumps(schema))


# --- requests -----------------------------------------------------------------------------------------


async def test_the_request_is_exactly_this(question: ChatRequest, context: CallContext) -> None:
    server = Recording(ANSWER)
    await model(server, organization="org-1", project="proj-1").complete(question, context)
    request = server.requests[0]
    assert (request.method, str(request.url)) == ("POST", "https://api.openai.com/v1/chat/completions")
    assert request.content == b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Why?"}]}'
    assert dict(request.headers) == {
        "host": "api.openai.com",
        "user-agent": "llm-orchestrator",
        "accept": "application/json",
        "accept-encoding": "gzip",
        "content-type": "application/json",
        "openai-organization": "org-1",
        "openai-project": "proj-1",
        "idempotency-key": "r:answer",
        "authorization": f"Bearer {CANARY}",
        "content-length": "69",
    }


@pytest.mark.parametrize(
    "option",
    [
        {"reasoning_effort": "high", "verbosity": "low"},
        {"service_tier": "flex", "store": False, "metadata": {"team": "a"}},
        {"prediction": {"type": "content", "content": "Because."}},
        {"tool_choice": "required", "parallel_tool_calls": False},
        {"prompt_cache_key": "k", "safety_identifier": "s", "logprobs": True, "top_logprobs": 2},
    ],
)
async def test_further_options_pass_through(
    question: ChatRequest, context: CallContext, option: dict[str, Any]
) -> None:
    server = Recording(ANSWER)
    await model(server).complete(replace(question, extra=option), context)
    assert option.items() <= server.body.items()


async def test_every_option_has_its_place(context: CallContext) -> None:
    server = Recording(ANSWER)
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    request = ChatRequest(
        model="gpt-4o-mini",
        messages=[
            Message(role="system", content="Be brief."),
            Message(role="user", content=[{"type": "text", "text": "Why?"}], extra={"name": "ann"}),
        ],
        temperature=0.5,
        top_p=0.9,
        max_tokens=10,
        stop=["END"],
        seed=7,
        tools=tools,
        extra={"logit_bias": {"1": 2}},
    )
    await model(server).complete(request, context)
    assert server.body == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Why?"}], "name": "ann"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 10,
        "stop": ["END"],
        "seed": 7,
        "tools": tools,
        "logit_bias": {"1": 2},
    }


@pytest.mark.parametrize(
    ("name", "base_url", "key"),
    [
        ("gpt-4o-mini", "https://api.openai.com/v1", "max_tokens"),
        ("o3-mini", "https://api.openai.com/v1", "max_completion_tokens"),
        ("gpt-5.2", "https://eu.api.openai.com/v1", "max_completion_tokens"),
        ("ft:gpt-5-mini:acme::1", "https://api.openai.com/v1", "max_completion_tokens"),
        ("o3-mini", "http://127.0.0.1:8080/v1", "max_tokens"),
        ("o3-mini", "https://notapi.openai.com/v1", "max_tokens"),
    ],
)
async def test_openais_reasoning_models_are_limited_by_their_own_key(
    question: ChatRequest, context: CallContext, name: str, base_url: str, key: str
) -> None:
    server = Recording(ANSWER)
    await model(server, base_url=base_url).complete(replace(question, model=name, max_tokens=5), context)
    assert server.body[key] == 5
    assert {"max_tokens", "max_completion_tokens"} & set(server.body) == {key}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (
            {
                "type": "object",
                "properties": {"a": {"type": "array", "items": {"type": "string"}}},
                "required": ["a"],
                "additionalProperties": False,
            },
            True,
        ),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}, False),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
        ({"type": "array", "items": {"type": "string"}}, False),
        (closed(a={}), False),
        (closed(a={"enum": ["x", "y"]}), False),
        (closed(a={"type": "array"}), False),
        (closed(a={"type": ["object", "null"]}), False),
        (closed(a={"type": ["string", "null"]}), True),
        (closed(a={"anyOf": [{"type": "string"}, closed(b={"type": "integer"})]}), True),
        (closed(a={"$ref": "#/$defs/x"}, defs={"x": closed(b={"$ref": "#/$defs/x"})}), True),
        (closed(a={"$ref": "#/$defs/x", "description": "An x."}, defs={"x": closed()}), False),
        (closed(a={"$ref": "#/$defs/x"}, defs={"x": {"type": "string", "format": "date"}}), False),
        ({**closed(a={"type": "string"}), "anyOf": [closed()]}, False),
        (nested_objects(10), True),
        (nested_objects(11), False),
        ({"type": "object", "additionalProperties": False, "minProperties": 1}, False),
    ],
)
async def test_a_schema_is_strict_only_where_the_vendor_takes_it(
    question: ChatRequest, context: CallContext, schema: dict[str, Any], strict: bool
) -> None:
    server = Recording(ANSWER)
    await model(server).complete(replace(question, response_schema=schema), context)
    sent = server.body["response_format"]
    assert (sent["type"], sent["json_schema"]["schema"]) == ("json_schema", schema)
    assert sent["json_schema"].get("strict", False) is strict


async def test_an_instance_without_a_key_sends_none(question: ChatRequest, context: CallContext) -> None:
    server = Recording(ANSWER)
    await model(server, api_key=None, base_url="http://127.0.0.1:8080/v1/").complete(question, context)
    assert str(server.requests[0].url) == "http://127.0.0.1:8080/v1/chat/completions"
    assert "authorization" not in server.requests[0].headers


# --- answers ------------------------------------------------------------------------------------------


async def test_an_answer_is_read_with_its_usage(question: ChatRequest, context: CallContext) -> None:
    assert await model(httpx.Response(200, json=ANSWER)).complete(question, context) == ChatResult(
        text="Because.",
        model="gpt-4o-mini-2024-07-18",
        finish_reason="stop",
        usage=Usage(input_tokens=12, output_tokens=3, cached_tokens=8, reasoning_tokens=1),
        tool_calls=[],
    )


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("eos", "stop"),
        ("model_length", "length"),
        ("tired", "unknown"),
        (None, "unknown"),
        (["stop"], "unknown"),
    ],
)
async def test_finish_reasons_are_translated(
    question: ChatRequest, context: CallContext, reason: Any, expected: str
) -> None:
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": reason}]}
    assert (await model(httpx.Response(200, json=body)).complete(question, context)).finish_reason == expected


@pytest.mark.parametrize("reason", ["abort", "error"])
async def test_an_answer_that_was_broken_off_may_be_asked_for_again(
    question: ChatRequest, context: CallContext, reason: str
) -> None:
    body = {"choices": [{"message": {"content": "Be"}, "finish_reason": reason}]}
    with pytest.raises(TemporaryError, match="broke it off") as failed:
        await model(httpx.Response(200, json=body)).complete(question, context)
    assert failed.value.error_class == "invalid_output"


async def test_an_answer_that_is_filtered_whole_needs_no_message(
    question: ChatRequest, context: CallContext
) -> None:
    body = {"choices": [{"index": 0, "finish_reason": "content_filter"}]}
    result = await model(httpx.Response(200, json=body)).complete(question, context)
    assert (result.text, result.finish_reason) == ("", "content_filter")


async def test_calls_of_the_authors_own_tools_are_handed_on_as_they_are(
    question: ChatRequest, context: CallContext
) -> None:
    call = {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    body = {"choices": [{"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    result = await model(httpx.Response(200, json=body)).complete(question, context)
    assert result.tool_calls == [call]


async def test_the_one_function_of_old_is_a_tool_call(question: ChatRequest, context: CallContext) -> None:
    message = {"content": None, "function_call": {"name": "f", "arguments": "{}"}}
    body = {"choices": [{"message": message, "finish_reason": "function_call"}]}
    result = await model(httpx.Response(200, json=body)).complete(question, context)
    assert result.finish_reason == "tool_calls"
    assert result.tool_calls == [{"id": "", "type": "function", "function": message["function_call"]}]


async def test_tool_calls_are_handed_on(question: ChatRequest, context: CallContext) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {"choices": [{"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    result = await model(httpx.Response(200, json=body)).complete(question, context)
    assert (result.text, result.tool_calls, result.model) == ("", [call], "gpt-4o-mini")
    assert result.usage == Usage()


async def test_a_refusal_is_a_filtered_answer(question: ChatRequest, context: CallContext) -> None:
    body = {"choices": [{"message": {"content": None, "refusal": "I cannot."}, "finish_reason": "stop"}]}
    result = await model(httpx.Response(200, json=body)).complete(question, context)
    assert (result.text, result.finish_reason) == ("I cannot.", "content_filter")


async def test_text_in_parts_is_joined(question: ChatRequest, context: CallContext) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "other"}, {"type": "text", "text": "b"}]
    body = {"choices": [{"message": {"content": parts}, "finish_reason": "stop"}]}
    assert (await model(httpx.Response(200, json=body)).complete(question, context)).text == "ab"


# --- embeddings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (embeddings([1.0]), "1 embeddings for 2 texts"),
        (embeddings([1.0], [1.0, 2.0]), "2 dimensions instead of 1"),
        (embeddings([], []), "not a list of numbers"),
        (embeddings(*[base64.b64encode(struct.pack("<2f", 1.0, float("nan"))).decode()] * 2), "not finite"),
        (embeddings([1.0], "no base64!"), "base64"),
        (embeddings([1.0], base64.b64encode(b"12345").decode()), "base64"),
        (embeddings([1.0], ["x"]), "not a list of numbers"),
        (
            {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
            "no embedding with index",
        ),
        ({"data": "x"}, "0 embeddings"),
    ],
)
async def test_wrong_embeddings_are_refused(context: CallContext, body: Any, message: str) -> None:
    request = EmbedRequest(model="m", texts=["a", "b"])
    with pytest.raises(TemporaryError, match=message) as failed:
        await model(httpx.Response(200, json=body)).embed(request, context)
    assert failed.value.error_class == "invalid_output"


async def test_vectors_of_another_length_than_asked_for_are_refused(context: CallContext) -> None:
    request = EmbedRequest(model="m", texts=["a"], dimensions=3)
    with pytest.raises(TemporaryError, match="instead of 3"):
        await model(httpx.Response(200, json=embeddings([1.0, 2.0]))).embed(request, context)


async def test_a_batch_that_is_too_long_is_not_sent(context: CallContext) -> None:
    with pytest.raises(PermanentError, match="at most 2048"):
        await model(httpx.Response(200)).embed(EmbedRequest(model="m", texts=["a"] * 2049), context)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            EmbedRequest(model="text-embedding-ada-002", texts=["a"], dimensions=1536),
            "leave 'dimensions' out",
        ),
        (
            EmbedRequest(model="text-embedding-3-small", texts=["a"], dimensions=1537),
            "at most 1536 dimensions",
        ),
        (
            EmbedRequest(model="text-embedding-3-large", texts=["a"], dimensions=3073),
            "at most 3072 dimensions",
        ),
        (EmbedRequest(model="text-embedding-3-small", texts=["a", ""]), "text 1 is empty"),
        (EmbedRequest(model="text-embedding-3-small", texts=[]), "no text to embed"),
    ],
)
async def test_openai_is_not_asked_for_what_it_is_known_to_refuse(
    context: CallContext, request_: EmbedRequest, message: str
) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError("it must not be sent")

    with pytest.raises(PermanentError, match=message) as failed:
        await model(handler).embed(request_, context)
    assert failed.value.error_class == "invalid_request"


async def test_a_batch_of_too_many_tokens_says_what_to_do(context: CallContext) -> None:
    code = "max_tokens_per_request"
    error = {"message": "Requested 460116 tokens, max 300000 tokens per request", "type": code, "code": code}
    with pytest.raises(
        PermanentError, match="max 300000 tokens per request; lower the 'batch_size'"
    ) as failed:
        await model(httpx.Response(400, json={"error": error})).embed(
            EmbedRequest(model="text-embedding-3-small", texts=["a"]), context
        )
    assert failed.value.error_class == "too_large"


@pytest.mark.parametrize(
    ("base_url", "sent"),
    [("https://api.openai.com/v1", {}), ("http://127.0.0.1:8080/v1", {"input_type": "query"})],
)
async def test_the_purpose_of_texts_goes_to_servers_that_may_know_it(
    context: CallContext, base_url: str, sent: dict[str, str]
) -> None:
    server = Recording(embeddings([1.0]))
    request = EmbedRequest(model="text-embedding-ada-002", texts=["a"], input_type="query")
    await model(server, base_url=base_url).embed(request, context)
    assert {key: value for key, value in server.body.items() if key == "input_type"} == sent


async def test_of_models_elsewhere_nothing_is_presumed(context: CallContext) -> None:
    server = Recording(embeddings([1.0, 0.5], [0.5, 1.0]))
    request = EmbedRequest(model="text-embedding-ada-002", texts=["a", ""], dimensions=2)
    await model(server, base_url="http://127.0.0.1:8080/v1").embed(request, context)
    assert (server.body["dimensions"], server.body["input"]) == (2, ["a", ""])


async def test_an_embedding_request_is_exactly_this(context: CallContext) -> None:
    server = Recording(embeddings([1.0, 0.5], prompt_tokens=2))
    request = EmbedRequest(model="text-embedding-3-small", texts=["a"], dimensions=2)
    await model(server).embed(request, context)
    assert str(server.requests[0].url) == "https://api.openai.com/v1/embeddings"
    assert server.requests[0].content == (
        b'{"model":"text-embedding-3-small","input":["a"],"encoding_format":"base64","dimensions":2}'
    )


async def test_vectors_come_in_the_order_of_the_texts_in_either_encoding(context: CallContext) -> None:
    body = {
        "model": "m-1",
        "data": [
            {"index": 1, "embedding": base64.b64encode(struct.pack("<2f", 0.5, -2.0)).decode()},
            {"index": 0, "embedding": [1, 0.25]},
        ],
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    result = await model(httpx.Response(200, json=body)).embed(
        EmbedRequest(model="m", texts=["a", "b"]), context
    )
    assert result.vectors == [[1, 0.25], [0.5, -2.0]]
    assert (result.model, result.usage) == ("m-1", Usage(input_tokens=4))
