"""Contract: what we send is valid under OpenAI's own OpenAPI document, and what the document shows is read.

Azure OpenAI takes the same bodies. The simulator's answers are checked too: other tests rely on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import httpx
import jsonschema_rs
import orjson
import pytest
from pydantic import SecretStr

from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatRequest, ChatResult, EmbedRequest, Message
from app.providers.azure import Azure, AzureConfig
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.openai.completions import CompletionsApi
from app.providers.openai.dialect import Dialect
from app.providers.openai.errors import read_error
from app.providers.openai.format import read_completion
from app.providers.openai.stream import Assembly
from app.providers.openai.vectors import embed_body, read_embeddings
from app.providers.transport import Transport
from tests.providers.specs import Spec, load_spec
from tests.simulator import answers

KEY: Final = SecretStr("k")
QUESTION = [Message(role="system", content="Be brief."), Message(role="user", content="Why?")]
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}
CUSTOM_TOOL = {"type": "custom", "custom": {"name": "sql", "format": {"type": "text"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
]
PLAIN = ChatRequest(model="gpt-4o-mini", messages=QUESTION)


@pytest.fixture(scope="session")
def spec() -> Spec:
    return load_spec("openai-openapi.json")


async def sent(
    request: ChatRequest | EmbedRequest, context: CallContext, *, stream: bool = False, azure: bool = False
) -> Any:
    """The body that the adapter sends."""
    bodies: list[Any] = []

    def server(asked: httpx.Request) -> httpx.Response:
        bodies.append(orjson.loads(asked.content))
        return httpx.Response(400)

    transport = Transport.over_httpx(httpx.MockTransport(server))
    model: CompletionsApi = (
        Azure(AzureConfig(name="a", base_url="https://a.openai.azure.com", api_key=KEY), transport)
        if azure
        else OpenAI(OpenAIConfig(name="o", api_key=KEY), transport)
    )
    with suppress(PermanentError):
        if isinstance(request, EmbedRequest):
            await model.embed(request, context)
        elif stream:
            await anext(model.stream(request, context))
        else:
            await model.complete(request, context)
    return bodies[0]


def shown(spec: Spec, title: str) -> list[Any]:
    """The bodies that the document shows as answers of chat completions: several for a stream."""
    examples = spec.operation("POST", "/chat/completions")["x-oaiMeta"]["examples"]
    text = next(example["response"] for example in examples if example["title"] == title)
    if title != "Streaming":
        return [orjson.loads(text)]
    return [orjson.loads(line) for line in text.splitlines() if line.startswith("{")]


def streamed(pieces: Sequence[Any]) -> ChatResult:
    assembly = Assembly("x")
    for piece in pieces:
        assembly.add(piece)
    return assembly.result()


def chunk(delta: Any, reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4o-mini",
        "choices": [choice],
        "usage": None,
        **more,
    }


def test_a_wrong_request_is_noticed(spec: Spec) -> None:
    wrongs: list[Any] = ["hello", [], [{"role": "boss", "content": "x"}]]
    for messages in wrongs:
        with pytest.raises(jsonschema_rs.ValidationError):
            spec.check("CreateChatCompletionRequest", {"model": "gpt-4o-mini", "messages": messages})


# --- requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("azure", [False, True], ids=["openai", "azure"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "request_",
    [
        PLAIN,
        replace(PLAIN, temperature=0.2, top_p=0.5, max_tokens=20, stop=["END"], seed=1),
        replace(PLAIN, extra={"user": "ann", "presence_penalty": 0.1, "logit_bias": {"1": 2}, "n": 2}),
        replace(
            PLAIN,
            model="o3-mini",
            max_tokens=20,
            extra={"reasoning_effort": "high", "verbosity": "low", "service_tier": "flex"},
        ),
        replace(PLAIN, response_schema=SCHEMA),
        replace(PLAIN, response_schema={"type": "object"}, tools=[TOOL]),
        replace(PLAIN, tools=[TOOL, CUSTOM_TOOL], extra={"tool_choice": "required"}),
        replace(
            PLAIN,
            tools=[TOOL],
            extra={"tool_choice": {"type": "function", "function": {"name": "look_up"}}},
        ),
        replace(PLAIN, extra={"prediction": {"type": "content", "content": "Because."}, "store": True}),
        replace(PLAIN, messages=[Message(role="user", content=PARTS)]),
        replace(
            PLAIN,
            messages=[
                *QUESTION,
                Message(role="assistant", content="", extra={"tool_calls": [CALL]}),
                Message(role="tool", content="42", extra={"tool_call_id": "c1"}),
                Message(role="assistant", content="", extra={"refusal": "I cannot."}),
                Message(role="user", content="Why not?", extra={"name": "ann"}),
            ],
        ),
    ],
    ids=[
        *("plain", "options", "extra options", "reasoning", "strict schema", "schema and tools"),
        *("tools", "a forced tool", "prediction", "parts", "turns"),
    ],
)
async def test_chat_requests_are_valid(
    spec: Spec, context: CallContext, request_: ChatRequest, stream: bool, azure: bool
) -> None:
    body = await sent(request_, context, stream=stream, azure=azure)
    spec.check_request("POST", "/chat/completions", body)


@pytest.mark.parametrize("azure", [False, True], ids=["openai", "azure"])
@pytest.mark.parametrize(
    "request_",
    [
        EmbedRequest(model="text-embedding-ada-002", texts=["a"], input_type="query"),
        EmbedRequest(model="text-embedding-3-small", texts=["a", "b"], dimensions=256),
        EmbedRequest(model="text-embedding-3-large", texts=["a"] * 2048, dimensions=3072),
    ],
    ids=["ada", "small", "large"],
)
async def test_embedding_requests_are_valid(
    spec: Spec, context: CallContext, request_: EmbedRequest, azure: bool
) -> None:
    spec.check_request("POST", "/embeddings", await sent(request_, context, azure=azure))


# --- answers that the document shows ------------------------------------------------------------------


@pytest.mark.parametrize("title", ["Default", "Image input", "Functions", "Logprobs"])
def test_the_documents_own_answers_are_read(spec: Spec, title: str) -> None:
    (answer,) = shown(spec, title)
    result = read_completion(answer, model="x")
    message = answer["choices"][0]["message"]
    assert result.text == (message["content"] or "")
    assert result.tool_calls == message.get("tool_calls", [])
    assert result.finish_reason == answer["choices"][0]["finish_reason"]
    assert result.model == answer["model"]
    assert result.usage.input_tokens == answer["usage"]["prompt_tokens"]
    assert result.usage.reasoning_tokens == answer["usage"]["completion_tokens_details"]["reasoning_tokens"]


def test_the_documents_own_stream_is_read(spec: Spec) -> None:
    pieces = shown(spec, "Streaming")
    for piece in pieces:
        spec.check("CreateChatCompletionStreamResponse", piece)
    result = streamed(pieces)
    assert (result.text, result.finish_reason, result.model) == ("Hello", "stop", "gpt-4o-mini")


def test_a_stream_of_all_that_the_document_knows_is_read(spec: Spec) -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2, "accepted_prediction_tokens": 0},
    }
    begun = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look_up", "arguments": ""}}
    pieces = [
        chunk({"role": "assistant", "content": ""}, obfuscation="x4", service_tier="default"),
        chunk({"content": "Let me see."}),
        chunk({"tool_calls": [begun]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        chunk({}, "tool_calls"),
        {**chunk({}), "choices": [], "usage": usage},
    ]
    for piece in pieces:
        spec.check("CreateChatCompletionStreamResponse", piece)
    result = streamed(pieces)
    assert (result.text, result.finish_reason, result.tool_calls) == ("Let me see.", "tool_calls", [CALL])
    assert (result.usage.input_tokens, result.usage.output_tokens) == (9, 5)
    assert (result.usage.cached_tokens, result.usage.reasoning_tokens) == (4, 2)


def test_a_streamed_refusal_is_read(spec: Spec) -> None:
    pieces = [chunk({"refusal": "I "}), chunk({"refusal": "cannot."}), chunk({}, "stop")]
    for piece in pieces:
        spec.check("CreateChatCompletionStreamResponse", piece)
    result = streamed(pieces)
    assert (result.text, result.finish_reason) == ("I cannot.", "content_filter")


def test_of_several_choices_the_first_is_read(spec: Spec) -> None:
    other = chunk({"content": "No."}, "length")
    other["choices"][0]["index"] = 1
    pieces = [chunk({"content": "Yes."}), other, chunk({}, "stop")]
    for piece in pieces:
        spec.check("CreateChatCompletionStreamResponse", piece)
    result = streamed(pieces)
    assert (result.text, result.finish_reason) == ("Yes.", "stop")


# --- the simulator ------------------------------------------------------------------------------------


def test_the_simulators_completion_is_valid_and_read(spec: Spec) -> None:
    answer = orjson.loads(answers.completion("gpt-4o-mini", "Because."))
    spec.check_answer("POST", "/chat/completions", 200, answer)
    assert read_completion(answer, model="x").text == "Because."


def test_the_simulators_stream_is_valid_and_read(spec: Spec) -> None:
    lines = [
        event.removeprefix(b"data: ").strip() for event in answers.stream_events("gpt-4o-mini", "So it is.")
    ]
    pieces = [orjson.loads(line) for line in lines if line != b"[DONE]"]
    for piece in pieces:
        spec.check("CreateChatCompletionStreamResponse", piece)
    result = streamed(pieces)
    assert (result.text, result.usage.input_tokens) == ("So it is.", 10)


def test_the_simulators_embeddings_are_valid_and_read(spec: Spec) -> None:
    request = EmbedRequest(model="m", texts=["a", "b"])

    def answer(dialect: Dialect) -> Any:
        return orjson.loads(answers.embeddings(orjson.loads(embed_body(request, dialect))))

    floats, encoded = answer(Dialect(embedding_format="float")), answer(Dialect(embedding_format="base64"))
    spec.check_answer("POST", "/embeddings", 200, floats)
    assert read_embeddings(floats, request).vectors == read_embeddings(encoded, request).vectors


def test_the_simulators_errors_are_valid_and_read(spec: Spec) -> None:
    body = answers.error(429, "rate_limit_exceeded", "slow down").partition(b"\r\n\r\n")[2]
    spec.check("ErrorResponse", orjson.loads(body))
    error = read_error(orjson.loads(body))
    assert error is not None
    assert (error.code, error.message) == ("rate_limit_exceeded", "slow down")
