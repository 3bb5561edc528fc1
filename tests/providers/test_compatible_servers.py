"""Servers that speak OpenAI's format nearly right, by configuration alone: what they were seen to send.

The shapes are those of vLLM, llama.cpp, Groq, Together, LiteLLM, OpenRouter and Text Generation Inference,
cut to what matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import httpx
import orjson
import pytest

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, Usage
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.transport import Transport

SSE: Final = {"content-type": "text/event-stream; charset=utf-8"}
FUNCTION: Final = {"name": "look_up", "arguments": '{"word":"a"}'}


def model(answer: httpx.Response | Callable[[httpx.Request], httpx.Response], **config: Any) -> OpenAI:
    handler = answer if callable(answer) else lambda request: answer
    settings: dict[str, Any] = {"name": "main", "base_url": "http://m.test/v1", **config}
    return OpenAI(OpenAIConfig(**settings), Transport.over_httpx(httpx.MockTransport(handler)))


def lines(*events: str) -> httpx.Response:
    """A stream, exactly as it is written here."""
    return httpx.Response(200, content="".join(events).encode(), headers=SSE)


def chunk(delta: Any, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "model": "m-1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        **more,
    }


def events(*pieces: Any) -> httpx.Response:
    return lines(*(f"data: {orjson.dumps(piece).decode()}\n\n" for piece in pieces), "data: [DONE]\n\n")


async def collected(
    model: OpenAI, question: ChatRequest, context: CallContext
) -> tuple[list[str], ChatResult]:
    *deltas, last = [item async for item in model.stream(question, context)]
    assert isinstance(last, ChatResult)
    assert all(isinstance(delta, ChatDelta) for delta in deltas)
    return [delta.text for delta in deltas], last


# --- errors -------------------------------------------------------------------------------------------

VLLM_TOO_LONG: Final = {
    "object": "error",
    "message": "This model's maximum context length is 2048 tokens. However, you requested 2100 tokens.",
    "type": "BadRequestError",
    "param": None,
    "code": 400,
}
VLLM_NO_MODEL: Final = {"object": "error", "message": "The model `x` does not exist.", "code": 404}
LLAMA_TOO_LONG: Final = {
    "code": 400,
    "message": "the request exceeds the available context size, try increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 5000,
    "n_ctx": 4096,
}
LLAMA_LOADING: Final = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
GROQ_TOO_LARGE: Final = {
    "message": "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 7012",
    "type": "tokens",
    "code": "rate_limit_exceeded",
}
GROQ_BAD_JSON: Final = {
    "message": "Failed to generate JSON. Please adjust your prompt.",
    "type": "invalid_request_error",
    "code": "json_validate_failed",
    "failed_generation": "{",
}
TGI_TOO_LONG: Final = {
    "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
    "error_type": "validation",
}
TOGETHER_TOO_LONG: Final = {
    "message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193.",
    "type": "invalid_request_error",
    "param": "max_tokens",
    "code": None,
}
LITELLM_TOO_LONG: Final = {
    "message": "litellm.ContextWindowExceededError: the context window of the model is exceeded",
    "type": None,
    "param": None,
    "code": "400",
}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, VLLM_TOO_LONG, (PermanentError, "context_length")),
        (404, VLLM_NO_MODEL, (PermanentError, "not_found")),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "bad"}]}, (PermanentError, "invalid_request")),
        (400, {"error": LLAMA_TOO_LONG}, (PermanentError, "context_length")),
        (503, {"error": LLAMA_LOADING}, (TemporaryError, "server_error")),
        (413, {"error": GROQ_TOO_LARGE}, (PermanentError, "too_large")),
        (400, {"error": GROQ_BAD_JSON}, (TemporaryError, "invalid_output")),
        (422, TGI_TOO_LONG, (PermanentError, "context_length")),
        (422, {"error": TOGETHER_TOO_LONG}, (PermanentError, "context_length")),
        (400, {"error": LITELLM_TOO_LONG}, (PermanentError, "context_length")),
        (401, {"detail": "Invalid proxy server token"}, (PermanentError, "authentication")),
    ],
)
async def test_failures_in_other_words_have_their_class(
    question: ChatRequest, context: CallContext, status: int, body: Any, expected: tuple[type, str]
) -> None:
    with pytest.raises(CallError) as failed:
        await model(httpx.Response(status, json=body)).complete(question, context)
    assert (type(failed.value), failed.value.error_class) == expected
    if expected[1] != "authentication":
        assert "no reason was given" not in str(failed.value)


INSIDE: Final = [
    ({"error": {"message": "Provider returned error", "code": 502}}, "server_error"),
    ({"error": {"message": "quota of the upstream", "code": 429, "type": "None"}}, "rate_limit"),
    ({"error": {"message": "No deployments available", "type": "None", "code": "429"}}, "rate_limit"),
    (
        {"object": "error", "message": "EngineDeadError", "type": "InternalServerError", "code": 500},
        "server_error",
    ),
    ({"error": "the model is overloaded"}, "server_error"),
    ({"message": "upstream connect error"}, "server_error"),
    ({"error": {"message": "busy", "code": 503}, "choices": []}, "server_error"),
]
"""Bodies of failures that come with status 200, and what they are."""


@pytest.mark.parametrize(("body", "error_class"), INSIDE)
async def test_an_error_inside_a_success_is_an_error(
    question: ChatRequest, context: CallContext, body: Any, error_class: str
) -> None:
    with pytest.raises(TemporaryError) as failed:
        await model(httpx.Response(200, json=body)).complete(question, context)
    assert failed.value.error_class == error_class
    with pytest.raises(TemporaryError) as failed:
        await model(httpx.Response(200, json=body)).embed(EmbedRequest(model="m", texts=["a"]), context)
    assert failed.value.error_class == error_class


@pytest.mark.parametrize(("body", "error_class"), INSIDE)
@pytest.mark.parametrize("named", ["", "event: error\n"])
async def test_an_error_in_mid_stream_is_an_error(
    question: ChatRequest, context: CallContext, body: Any, error_class: str, named: str
) -> None:
    answer = lines(
        f"data: {orjson.dumps(chunk({'content': 'Be'})).decode()}\n\n",
        f"{named}data: {orjson.dumps(body).decode()}\n\n",
        "data: [DONE]\n\n",
    )
    with pytest.raises(TemporaryError) as failed:
        await collected(model(answer), question, context)
    assert failed.value.error_class == error_class


async def test_a_stream_that_a_server_breaks_off_is_no_answer(
    question: ChatRequest, context: CallContext
) -> None:
    answer = events(chunk({"content": "Be"}), chunk({"content": ""}, "abort"))
    with pytest.raises(TemporaryError, match="broke it off"):
        await collected(model(answer), question, context)


# --- streams ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        ["data:{}\n\n", "data:{}\n\n", "data:[DONE]\n\n"],
        ["data: {}\r\n\r\n", "data: {}\r\n\r\n", "data: [DONE]\r\n\r\n"],
        [": OPENROUTER PROCESSING\n\n", "data: {}\n\n", ": ping\n\n", "data: {}\n\n", "data: [DONE]\n\n"],
        ["id: 1\nevent: message\nretry: 10\ndata: {}\n\n", "data: {}\n\n"],
        ["\n\n\ndata: {}\n\n\n\n", "data: {}"],
    ],
    ids=["without a space", "other line ends", "comments", "other fields, no end mark", "blank lines"],
)
async def test_streams_may_be_framed_in_any_way_of_the_standard(
    question: ChatRequest, context: CallContext, body: Sequence[str]
) -> None:
    pieces = iter([chunk({"content": "Yes."}), chunk({}, "stop")])
    written = [
        event.replace("{}", orjson.dumps(next(pieces)).decode()) if "{}" in event else event for event in body
    ]
    texts, result = await collected(model(lines(*written)), question, context)
    assert (texts, result.text, result.finish_reason) == (["Yes."], "Yes.", "stop")


@pytest.mark.parametrize(
    ("last", "usage"),
    [
        ([chunk({}, "stop")], Usage()),
        ([chunk({}, "stop", usage=None)], Usage()),
        ([chunk({}, "stop"), {"choices": [], "usage": {"prompt_tokens": 7}}], Usage(input_tokens=7)),
        ([chunk({}, "stop"), {"usage": {"prompt_tokens": 7}}], Usage(input_tokens=7)),
        ([chunk({}, "stop", usage={"prompt_tokens": 7}), {"choices": []}], Usage(input_tokens=7)),
        ([chunk({}, "stop", x_groq={"id": "r", "usage": {"prompt_tokens": 7}})], Usage(input_tokens=7)),
        ([chunk({}, "stop", x_groq={"id": "r"})], Usage()),
        (
            [
                chunk({"content": ""}, usage={"prompt_tokens": 1}),
                chunk({}, "stop", usage={"prompt_tokens": 7}),
            ],
            Usage(input_tokens=7),
        ),
    ],
    ids=[
        *("none", "null", "a piece of its own", "a piece without choices", "with the reason, and more after"),
        *("in a part of its own", "such a part without it", "in every piece"),
    ],
)
async def test_tokens_are_counted_wherever_a_stream_says_them(
    question: ChatRequest, context: CallContext, last: Sequence[Any], usage: Usage
) -> None:
    _, result = await collected(model(events(chunk({"content": "x"}), *last)), question, context)
    assert (result.text, result.usage) == ("x", usage)


async def test_pieces_without_anything_to_show_show_nothing(
    question: ChatRequest, context: CallContext
) -> None:
    answer = events(
        chunk({"role": "assistant", "content": None}),
        chunk({"reasoning_content": "Hm.", "content": None}),
        chunk({"content": "x", "tool_calls": None, "function_call": None, "audio": None}),
        {"choices": [{"index": 0, "delta": None, "text": "x"}]},
        {"choices": None},
        chunk({}, "eos", timings={"predicted_ms": 3}),
    )
    texts, result = await collected(model(answer), question, context)
    assert (texts, result.text, result.finish_reason) == (["x"], "x", "stop")


@pytest.mark.parametrize(
    "pieces",
    [
        [{"index": 0, "id": "c0", "function": FUNCTION}, {"index": 1, "id": "c1", "function": FUNCTION}],
        [{"id": "c0", "type": "function", "function": FUNCTION}, {"id": "c1", "function": FUNCTION}],
        [
            {"id": "c0", "function": {"name": "look_up", "arguments": '{"word"'}},
            {"id": None, "function": {"name": None, "arguments": ':"a"}'}},
            {"id": "c1", "function": {**FUNCTION, "arguments": {"word": "a"}}},
        ],
        [
            {"index": 0, "id": "c0", "type": "function", "function": {**FUNCTION, "arguments": ""}},
            {"index": 0, "id": "", "type": "", "function": {"arguments": FUNCTION["arguments"]}},
            {"index": 1, "id": "c1", "type": "function", "function": FUNCTION},
        ],
    ],
    ids=["whole calls", "without numbers", "without numbers, in pieces", "empty ids in later pieces"],
)
async def test_calls_are_put_together_however_they_are_cut(
    question: ChatRequest, context: CallContext, pieces: Sequence[Any]
) -> None:
    answer = events(*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "tool_calls"))
    _, result = await collected(model(answer), question, context)
    assert result.tool_calls == [
        {"id": f"c{place}", "type": "function", "function": FUNCTION} for place in range(2)
    ]


async def test_what_else_a_call_carries_is_kept(question: ChatRequest, context: CallContext) -> None:
    signed = {"google": {"thought_signature": "s"}}
    call = {"index": 0, "id": "c0", "type": "function", "function": FUNCTION, "extra_content": signed}
    kept = {key: value for key, value in call.items() if key != "index"}
    message = {"content": None, "tool_calls": [call]}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    whole = await model(httpx.Response(200, json=body)).complete(question, context)
    _, streamed = await collected(model(events(chunk(message, "tool_calls"))), question, context)
    assert list(whole.tool_calls) == list(streamed.tool_calls) == [kept]


async def test_calls_of_the_authors_own_tools_are_put_together(
    question: ChatRequest, context: CallContext
) -> None:
    answer = events(
        chunk({"tool_calls": [{"index": 0, "id": "c0", "type": "custom", "custom": {"name": "sql"}}]}),
        chunk({"tool_calls": [{"index": 0, "custom": {"input": "SELECT "}}]}),
        chunk({"tool_calls": [{"index": 0, "custom": {"input": "1"}}]}, "tool_calls"),
    )
    _, result = await collected(model(answer), question, context)
    assert result.tool_calls == [
        {"id": "c0", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    ]


async def test_the_one_function_of_old_is_put_together(question: ChatRequest, context: CallContext) -> None:
    answer = events(
        chunk({"function_call": {"name": "look_up", "arguments": '{"word"'}}),
        chunk({"function_call": {"arguments": ':"a"}'}}, "function_call"),
    )
    _, result = await collected(model(answer), question, context)
    assert (result.finish_reason, result.tool_calls) == (
        "tool_calls",
        [{"id": "", "type": "function", "function": FUNCTION}],
    )


# --- whole answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "assistant", "content": None}, ""),
        ({"role": "assistant"}, ""),
        ({"role": "assistant", "content": [{"type": "text", "text": "x"}]}, "x"),
        ({"role": "assistant", "content": "x", "reasoning_content": "Hm.", "tool_calls": []}, "x"),
        ({"role": "assistant", "content": "x", "tool_calls": None, "function_call": None}, "x"),
    ],
)
async def test_an_answer_may_lack_nearly_all(
    question: ChatRequest, context: CallContext, message: Any, text: str
) -> None:
    body = {"choices": [{"message": message, "finish_reason": "stop"}], "error": None}
    result = await model(httpx.Response(200, json=body)).complete(question, context)
    assert (result.text, result.model, result.usage) == (text, "gpt-4o-mini", Usage())
    assert result.tool_calls == []


async def test_vectors_may_lack_all_but_themselves(context: CallContext) -> None:
    body = {"data": [{"embedding": [1.0]}, {"embedding": [2.0]}]}
    request = EmbedRequest(model="m", texts=["a", "b"])
    result = await model(httpx.Response(200, json=body)).embed(request, context)
    assert (result.vectors, result.model, result.usage) == ([[1.0], [2.0]], "m", Usage())


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens", "max_new_tokens"])
async def test_the_bound_on_an_answer_has_the_name_that_the_operator_set(
    question: ChatRequest, context: CallContext, key: str
) -> None:
    bodies: list[Any] = []

    def server(request: httpx.Request) -> httpx.Response:
        bodies.append(orjson.loads(request.content))
        return httpx.Response(400)

    for name in ("o3-mini", "llama"):
        with pytest.raises(PermanentError):
            await model(server, max_tokens_key=key).complete(
                replace(question, model=name, max_tokens=5), context
            )
    assert [body[key] for body in bodies] == [5, 5]
    assert all(len(body) == 3 for body in bodies)
