"""The Cohere adapter: bytes out, answers in, errors by status and words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.configuration import instance_config
from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import (
    CallContext,
    ChatRequest,
    ChatResult,
    EmbedRequest,
    Message,
    RankedDocument,
    RerankRequest,
    Usage,
)
from app.providers.cohere import format as fmt
from app.providers.cohere.adapter import Cohere, CohereConfig
from app.providers.json_format import Malformed
from app.providers.transport import Transport
from app.settings import Settings
from app.settings_providers import CohereSettings

CANARY = "co-canary-0123456789abcdef"
ANSWER = {
    "id": "c14c80c3",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "Because."}]},
    "usage": {
        "billed_units": {"input_tokens": 5, "output_tokens": 3},
        "tokens": {"input_tokens": 71, "output_tokens": 4},
        "cached_tokens": 2,
    },
}
QUERY = RerankRequest(model="rerank-v3.5", query="why?", documents=["a", "b"])
TEXTS = EmbedRequest(model="embed-v4.0", texts=["a", "b"])
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


def model(answer: httpx.Response | Callable[[httpx.Request], httpx.Response], **config: Any) -> Cohere:
    handler = answer if callable(answer) else lambda request: answer
    settings: dict[str, Any] = {"name": "main", "api_key": SecretStr(CANARY), **config}
    return Cohere(CohereConfig(**settings), Transport.over_httpx(httpx.MockTransport(handler)))


def refuse(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"it must not be sent: {request.url}")


class Recording:
    """Answers every request alike and keeps the last."""

    def __init__(self, answer: Any = ANSWER) -> None:
        self._answer = answer
        self.request = httpx.Request("GET", "http://127.0.0.1")

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.request = request
        return httpx.Response(200, json=self._answer)

    @property
    def body(self) -> Any:
        return orjson.loads(self.request.content)


async def sent(request: ChatRequest, context: CallContext) -> Any:
    """The body of a chat request."""
    wire = Recording()
    await model(wire).complete(request, context)
    return wire.body


def embeddings(*vectors: Any, **billed: int) -> dict[str, Any]:
    return {"id": "1", "embeddings": {"float": list(vectors)}, "meta": {"billed_units": billed}}


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "invalid request: no such field", (PermanentError, "invalid_request")),
        (
            400,
            "too many tokens: total number of tokens cannot exceed 4081 - received 4292",
            (PermanentError, "context_length"),
        ),
        (422, "text at index 0 is too long", (PermanentError, "context_length")),
        (401, "invalid api token", (PermanentError, "authentication")),
        (402, "please add a payment method", (PermanentError, "permission")),
        (403, "forbidden", (PermanentError, "permission")),
        (404, "model 'command-z' not found", (PermanentError, "not_found")),
        (413, "too large", (PermanentError, "too_large")),
        (422, "unknown field", (PermanentError, "invalid_request")),
        (429, "limited to 40 API calls / minute", (TemporaryError, "rate_limit")),
        (
            429,
            "You are using a Trial key, which is limited to 1000 API calls / month.",
            (PermanentError, "rate_limit"),
        ),
        (498, "the request holds a blocked word", (PermanentError, "content_filter")),
        (499, "cancelled", (TemporaryError, "connection")),
        (500, "internal server error", (TemporaryError, "server_error")),
        (501, "not implemented", (PermanentError, "invalid_request")),
        (503, "unavailable", (TemporaryError, "server_error")),
        (504, "timeout", (TemporaryError, "timeout")),
    ],
)
async def test_statuses_and_words_become_errors_of_their_class(
    question: ChatRequest,
    context: CallContext,
    status: int,
    message: str,
    expected: tuple[type[CallError], str],
) -> None:
    adapter = model(httpx.Response(status, json={"id": "1", "message": f"{message} ({CANARY})"}))
    for call in (
        adapter.complete(question, context),
        adapter.embed(TEXTS, context),
        adapter.rerank(QUERY, context),
    ):
        with pytest.raises(CallError) as failed:
            await call
        assert (type(failed.value), failed.value.error_class) == expected
        assert failed.value.status == status
        assert CANARY not in str(failed.value)
        assert "'main'" in str(failed.value)


@pytest.mark.parametrize(("reason", "error_class"), [("ERROR", "server_error"), ("TIMEOUT", "timeout")])
async def test_a_generation_that_failed_is_an_error(
    question: ChatRequest, context: CallContext, reason: str, error_class: str
) -> None:
    answer = {**ANSWER, "finish_reason": reason}
    with pytest.raises(TemporaryError) as failed:
        await model(httpx.Response(200, json=answer)).complete(question, context)
    assert failed.value.error_class == error_class


@pytest.mark.parametrize("answer", [{}, {"message": None}, {"message": [], "finish_reason": "COMPLETE"}])
async def test_an_answer_without_a_message_may_be_asked_for_again(
    question: ChatRequest, context: CallContext, answer: Any
) -> None:
    with pytest.raises(TemporaryError) as failed:
        await model(httpx.Response(200, json=answer)).complete(question, context)
    assert failed.value.error_class == "invalid_output"


def nested() -> st.SearchStrategy[Any]:
    """Any JSON whose objects have the keys of answers."""
    keys = (
        *("message", "content", "text", "type", "tool_calls", "finish_reason", "usage", "billed_units"),
        *("tokens", "input_tokens", "embeddings", "float", "meta", "delta", "error", "results", "index"),
    )
    scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=5)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=4),
        max_leaves=12,
    )


@given(
    answer=st.dictionaries(
        st.sampled_from(["message", "usage", "finish_reason", "meta", "embeddings"]), nested()
    )
)
def test_whatever_is_answered_is_read_or_malformed(answer: dict[str, Any]) -> None:
    fmt.read_error(answer)
    fmt.read_usage(answer.get("usage"))
    for read in (
        lambda: fmt.read_completion(answer, model="m"),
        lambda: fmt.read_embeddings(answer, TEXTS),
    ):
        try:
            read()
        except Malformed:
            continue


# --- what is not asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": 1.2}, "temperature from 0 to 1"),
        ({"seed": -1}, "seeds from 0"),
        ({"stop": list("abcdef")}, "at most 5 texts in 'stop'"),
        ({"tools": [{"type": "web_search"}]}, "type: function"),
        ({"tools": [{"type": "function", "function": {}}]}, "type: function"),
        ({"extra": {"stream": False}}, "'stream'"),
        ({"messages": [Message(role="tool", content="42")]}, "'tool_call_id'"),
        (
            {"messages": [Message(role="user", content=[{"type": "input_audio", "input_audio": {}}])]},
            "'input_audio' in a turn of role 'user'; use text or image_url",
        ),
        (
            {"messages": [Message(role="system", content=[{"type": "image_url", "image_url": {}}])]},
            "'image_url' in a turn of role 'system'; use text",
        ),
    ],
)
async def test_what_is_known_to_be_refused_is_not_sent(
    question: ChatRequest, context: CallContext, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(PermanentError, match=words) as failed:
        await model(refuse).complete(replace(question, **change), context)
    assert failed.value.error_class == "invalid_request"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"texts": []}, "at least one"),
        ({"texts": ["a"] * 97}, "at most 96 texts"),
        ({"input_type": "image"}, "'image' is unknown to Cohere; use query, document"),
        ({"input_type": "passage"}, "'passage'"),
        ({"model": "embed-english-v3.0", "dimensions": 256}, "'embed-english-v3.0' have 1024 dimensions"),
    ],
)
async def test_texts_that_cannot_be_embedded_are_not_sent(
    context: CallContext, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(PermanentError, match=words) as failed:
        await model(refuse).embed(replace(TEXTS, **change), context)
    assert failed.value.error_class == "invalid_request"


async def test_more_documents_than_cohere_ranks_are_not_sent_and_none_are_no_call(
    context: CallContext,
) -> None:
    with pytest.raises(PermanentError, match="at most 1000 documents"):
        await model(refuse).rerank(replace(QUERY, documents=["a"] * 1001), context)
    assert list((await model(refuse).rerank(replace(QUERY, documents=[]), context)).ranking) == []


@pytest.mark.parametrize("base_url", ["https://api.cohere.com", "https://api.cohere.ai/"])
async def test_cohere_is_not_asked_without_a_key_and_servers_of_ones_own_are(
    question: ChatRequest, context: CallContext, base_url: str
) -> None:
    keyless = model(refuse, api_key=None, base_url=base_url)
    for call in (
        keyless.complete(question, context),
        keyless.embed(TEXTS, context),
        keyless.rerank(QUERY, context),
    ):
        with pytest.raises(PermanentError, match="'main' has no API key") as failed:
            await call
        assert failed.value.error_class == "authentication"
    wire = Recording()
    await model(wire, api_key=None, base_url="http://127.0.0.1:9000").complete(question, context)
    assert "authorization" not in wire.request.headers


# --- chat ---------------------------------------------------------------------------------------------


async def test_a_plain_question(question: ChatRequest, context: CallContext) -> None:
    wire = Recording()
    result = await model(wire, headers={"x-team": "search"}).complete(question, context)

    assert str(wire.request.url) == "https://api.cohere.com/v2/chat"
    assert wire.body == {"model": question.model, "messages": [{"role": "user", "content": "Why?"}]}
    assert wire.request.headers["authorization"] == f"Bearer {CANARY}"
    assert wire.request.headers["x-client-name"] == "llm-orchestrator"
    assert wire.request.headers["x-team"] == "search"
    assert result == ChatResult(
        text="Because.",
        model=question.model,
        finish_reason="stop",
        usage=Usage(input_tokens=5, output_tokens=3, cached_tokens=2),
        tool_calls=[],
    )


async def test_options_have_coheres_names(question: ChatRequest, context: CallContext) -> None:
    request = replace(
        question,
        temperature=0.2,
        top_p=0.5,
        max_tokens=20,
        stop=["END"],
        seed=7,
        extra={"k": 3, "tool_choice": "NONE"},
    )
    body = await sent(request, context)
    assert {key: body[key] for key in body if key not in {"model", "messages"}} == {
        "temperature": 0.2,
        "p": 0.5,
        "max_tokens": 20,
        "stop_sequences": ["END"],
        "seed": 7,
        "k": 3,
        "tool_choice": "NONE",
    }


@pytest.mark.parametrize(("top_p", "p"), [(1.0, 0.99), (0.99, 0.99), (0.001, 0.01), (0.3, 0.3)])
async def test_a_share_that_cohere_does_not_take_becomes_the_nearest(
    question: ChatRequest, context: CallContext, top_p: float, p: float
) -> None:
    assert (await sent(replace(question, top_p=top_p), context))["p"] == p


async def test_a_schema_is_coheres_to_keep_and_asked_for_in_words(
    question: ChatRequest, context: CallContext
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    body = await sent(replace(question, response_schema=schema), context)
    assert body["response_format"] == {"type": "json_object", "json_schema": schema}
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]
    assert '"required":["n"]' in body["messages"][0]["content"]


@pytest.mark.parametrize(
    "change",
    [
        {"tools": [TOOL], "response_schema": {"type": "object"}},
        {"extra": {"documents": ["a"]}, "response_schema": {"type": "object"}},
        {"response_schema": {"type": "array"}},
        {"response_schema": {"anyOf": [{"type": "object"}, {"type": "null"}]}},
    ],
)
async def test_a_schema_that_cohere_cannot_keep_is_asked_for_in_words(
    question: ChatRequest, context: CallContext, change: dict[str, Any]
) -> None:
    body = await sent(replace(question, **change), context)
    assert "response_format" not in body
    assert "JSON Schema" in body["messages"][0]["content"]


@pytest.mark.parametrize(
    ("strict", "expected"), [([True, True], True), ([True, False], None), ([None], None)]
)
async def test_tools_are_strict_all_of_them_or_none(
    question: ChatRequest, context: CallContext, strict: list[bool | None], expected: bool | None
) -> None:
    tools = [
        {"type": "function", "function": {"name": f"f{n}", **({} if it is None else {"strict": it})}}
        for n, it in enumerate(strict)
    ]
    body = await sent(replace(question, tools=tools), context)
    assert body.get("strict_tools") is expected
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": f"f{n}", "parameters": {"type": "object", "properties": {}}},
        }
        for n in range(len(strict))
    ]


async def test_no_tools_are_not_sent(question: ChatRequest, context: CallContext) -> None:
    assert set(await sent(replace(question, tools=[]), context)) == {"model", "messages"}


async def test_turns_keep_calls_and_lose_names(question: ChatRequest, context: CallContext) -> None:
    turns = [
        Message(role="user", content="Look it up.", extra={"name": "ann"}),
        Message(role="assistant", content="", extra={"tool_calls": [CALL]}),
        Message(role="tool", content="42", extra={"tool_call_id": "c1", "name": "look_up"}),
        Message(role="assistant", content="Again.", extra={"tool_calls": [CALL]}),
    ]
    assert (await sent(replace(question, messages=turns), context))["messages"] == [
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Again.", "tool_calls": [CALL]},
    ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool_calls"),
        ("SOMETHING_NEW", "unknown"),
        (None, "unknown"),
    ],
)
async def test_finish_reasons(
    question: ChatRequest, context: CallContext, reason: str | None, expected: str
) -> None:
    answer = httpx.Response(200, json={**ANSWER, "finish_reason": reason})
    assert (await model(answer).complete(question, context)).finish_reason == expected


async def test_plans_and_thoughts_are_no_text_of_the_answer(
    question: ChatRequest, context: CallContext
) -> None:
    content = [
        {"type": "thinking", "thinking": "Hm."},
        {"type": "text", "text": "So "},
        {"type": "text", "text": "it is."},
    ]
    message = {"role": "assistant", "content": content, "tool_plan": "I will look.", "tool_calls": [CALL]}
    answer = httpx.Response(200, json={**ANSWER, "message": message})
    result = await model(answer).complete(question, context)
    assert result.text == "So it is."
    assert list(result.tool_calls) == [CALL]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, Usage()),
        ({"billed_units": {"input_tokens": 5.0, "output_tokens": 3}}, Usage(input_tokens=5, output_tokens=3)),
        ({"tokens": {"input_tokens": 71, "output_tokens": 4}}, Usage(input_tokens=71, output_tokens=4)),
        (
            {"billed_units": {"output_tokens": 3}, "tokens": {"input_tokens": 71}},
            Usage(input_tokens=71, output_tokens=3),
        ),
        ({"billed_units": {"input_tokens": -1, "output_tokens": 2.5}}, Usage()),
        (
            {"billed_units": {"input_tokens": True, "search_units": 1}, "cached_tokens": 0},
            Usage(cached_tokens=0),
        ),
    ],
)
def test_what_is_billed_is_counted_else_what_was_used(usage: Any, expected: Usage) -> None:
    assert fmt.read_usage(usage) == expected


# --- embeddings and rankings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "config", "sent"),
    [
        (None, {}, "search_document"),
        (None, {"input_type": "clustering"}, "clustering"),
        ("query", {"input_type": "clustering"}, "search_query"),
        ("document", {}, "search_document"),
        ("search_query", {}, "search_query"),
        ("classification", {}, "classification"),
    ],
)
async def test_every_request_names_a_purpose(
    context: CallContext, asked: str | None, config: dict[str, str], sent: str
) -> None:
    wire = Recording(embeddings([1.0], [2.0], input_tokens=2))
    result = await model(wire, truncate="NONE", **config).embed(replace(TEXTS, input_type=asked), context)

    assert str(wire.request.url) == "https://api.cohere.com/v2/embed"
    assert wire.body == {
        "model": "embed-v4.0",
        "texts": ["a", "b"],
        "input_type": sent,
        "embedding_types": ["float"],
        "truncate": "NONE",
    }
    assert (result.vectors, result.usage) == ([[1.0], [2.0]], Usage(input_tokens=2))


@pytest.mark.parametrize(
    ("name", "dimensions", "sent"),
    [
        ("embed-v4.0", 2, {"output_dimension": 2}),
        ("embed-v4.0", None, {}),
        ("embed-english-light-v3.0", 384, {}),
    ],
)
async def test_dimensions_are_asked_for_where_there_is_a_choice(
    context: CallContext, name: str, dimensions: int | None, sent: dict[str, int]
) -> None:
    wire = Recording(embeddings(*[[0.5] * (dimensions or 2)] * 2))
    await model(wire).embed(replace(TEXTS, model=name, dimensions=dimensions), context)
    assert {key: value for key, value in wire.body.items() if key == "output_dimension"} == sent


async def test_documents_are_ranked(context: CallContext) -> None:
    results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}]
    wire = Recording({"id": "1", "results": results, "meta": {"billed_units": {"search_units": 1}}})
    result = await model(wire).rerank(replace(QUERY, top_n=5), context)

    assert str(wire.request.url) == "https://api.cohere.com/v2/rerank"
    assert wire.body == {"model": "rerank-v3.5", "query": "why?", "documents": ["a", "b"], "top_n": 2}
    assert list(result.ranking) == [RankedDocument(index=1, score=0.9), RankedDocument(index=0, score=0.2)]
    assert (result.model, result.usage) == ("rerank-v3.5", Usage())


# --- configuration ------------------------------------------------------------------------------------


def test_the_settings_make_an_instance() -> None:
    settings = CohereSettings(
        api_key=SecretStr("k"),
        input_type="classification",
        truncate="NONE",
        timeout_seconds=5,
        max_concurrency=4,
    )
    assert instance_config("cohere-eu", settings) == CohereConfig(
        name="cohere-eu",
        api_key=SecretStr("k"),
        input_type="classification",
        truncate="NONE",
        timeout_seconds=5,
        max_concurrency=4,
    )


def test_the_default_instance_takes_the_variables_of_coheres_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COHERE_API_KEY", raising=False)
    monkeypatch.setenv("CO_API_KEY", "second")
    monkeypatch.setenv("CO_API_URL", "http://127.0.0.1:9000")
    default = Settings().all_providers()["cohere"]
    assert isinstance(default, CohereSettings)
    assert (default.api_key, default.base_url) == (SecretStr("second"), "http://127.0.0.1:9000")
    monkeypatch.setenv("COHERE_API_KEY", "first")
    first = Settings().all_providers()["cohere"]
    assert isinstance(first, CohereSettings)
    assert first.api_key == SecretStr("first")
