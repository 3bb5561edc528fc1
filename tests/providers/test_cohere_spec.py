"""Contract: what we send is valid under Cohere's own OpenAPI document, and what it shows as answers is read.

The document lies beside the checkout (`../shared/specs`) or where `ORCHESTRATOR_SPECS_DIR` points.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import httpx
import jsonschema_rs
import orjson
import pytest
from pydantic import SecretStr

from app.ports.models import CallContext, ChatDelta, ChatRequest, EmbedRequest, Message, RerankRequest
from app.providers.cohere import format as fmt
from app.providers.cohere.adapter import Cohere, CohereConfig
from app.providers.transport import Transport
from tests.conformance.chat_vendors import cohere as chat_server
from tests.conformance.chat_vendors.vendor import Said, SaidCall
from tests.conformance.embed_vendors import cohere as embed_server
from tests.conformance.rerank_servers import cohere_server
from tests.providers.specs import Spec, load_spec

QUESTION = [Message(role="system", content="Be brief."), Message(role="user", content="Why?")]
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look_up", "description": "Looks up.", "parameters": SCHEMA, "strict": True},
}
BARE_TOOL = {"type": "function", "function": {"name": "now"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
OPTIONS: dict[str, Any] = {
    "temperature": 0.2,
    "top_p": 1.0,
    "max_tokens": 20,
    "stop": ["END", "STOP"],
    "seed": 7,
}
CONVERSATIONS: dict[str, list[Message]] = {
    "plain": QUESTION,
    "parts": [
        Message(role="system", content=[{"type": "text", "text": "Be brief."}]),
        Message(
            role="user",
            content=[
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            ],
            extra={"name": "ann"},
        ),
    ],
    "tool turns": [
        *QUESTION,
        Message(role="assistant", content="", extra={"tool_calls": [CALL]}),
        Message(role="tool", content="42", extra={"tool_call_id": "c1", "name": "look_up"}),
        Message(role="assistant", content="Let me look again.", extra={"tool_calls": [CALL]}),
        Message(role="tool", content=[{"type": "text", "text": "43"}], extra={"tool_call_id": "c1"}),
        Message(
            role="tool",
            content=[{"type": "document", "document": {"data": {"n": 1}}}],
            extra={"tool_call_id": "c1"},
        ),
        Message(
            role="assistant",
            content=[{"type": "thinking", "thinking": "so"}, {"type": "text", "text": "43"}],
        ),
    ],
}
EXTRAS: dict[str, dict[str, Any]] = {
    "none": {},
    "own options": {
        "k": 3,
        "frequency_penalty": 0.1,
        "safety_mode": "STRICT",
        "thinking": {"type": "enabled", "token_budget": 100},
        "citation_options": {"mode": "FAST"},
        "priority": 5,
    },
}
EVENTS = {
    "message-start": "ChatMessageStartEvent",
    "content-start": "ChatContentStartEvent",
    "content-delta": "ChatContentDeltaEvent",
    "content-end": "ChatContentEndEvent",
    "tool-plan-delta": "ChatToolPlanDeltaEvent",
    "tool-call-start": "ChatToolCallStartEvent",
    "tool-call-delta": "ChatToolCallDeltaEvent",
    "tool-call-end": "ChatToolCallEndEvent",
    "message-end": "ChatMessageEndEvent",
}


@pytest.fixture(scope="session")
def spec() -> Spec:
    return load_spec("cohere-openapi.yaml")


def examples(spec: Spec, path: str, kind: str) -> list[tuple[Mapping[str, Any], Any]]:
    """Requests of the document with its answers to them: a `body`, or a `stream` of events."""
    shown = spec.operation("post", path)["x-fern-examples"]
    return [(it["request"], it["response"][kind]) for it in shown if kind in it["response"]]


def checked(spec: Spec, body: bytes, path: str) -> dict[str, Any]:
    """What a body holds, once it is valid and has no key that the operation does not know."""
    sent: dict[str, Any] = orjson.loads(body)
    spec.check_request("post", path, sent)
    schema = spec.operation("post", path)["requestBody"]["content"]["application/json"]["schema"]
    assert set(sent) <= set(schema["properties"])
    return sent


def answering(answer: Any) -> Cohere:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    kind = "text/event-stream" if isinstance(answer, bytes) else "application/json"
    response = httpx.Response(200, content=body, headers={"content-type": kind})
    transport = Transport.over_httpx(httpx.MockTransport(lambda _: response))
    return Cohere(CohereConfig(name="cohere", api_key=SecretStr("key")), transport)


# --- requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/chat", {"model": "command-a", "messages": "hello"}),
        ("/v2/chat", {"model": "command-a", "messages": [{"role": "tool", "content": "42"}]}),
        ("/v2/chat", {"model": "command-a", "messages": [], "p": 1.0}),
        ("/v2/embed", {"model": "embed-v4.0", "texts": ["a"]}),
        ("/v2/embed", {"model": "embed-v4.0", "texts": ["a"], "input_type": "query"}),
        ("/v2/embed", {"model": "embed-v4.0", "texts": ["a"] * 97, "input_type": "clustering"}),
        ("/v2/rerank", {"model": "rerank-v3.5", "query": "q"}),
    ],
)
def test_a_wrong_request_is_noticed(spec: Spec, path: str, body: dict[str, Any]) -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        spec.check_request("post", path, body)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize(
    "more", [{}, {"response_schema": SCHEMA}, {"tools": [TOOL, BARE_TOOL]}, {"tools": [TOOL]}]
)
def test_chat_requests_are_valid_with_every_set_of_options(
    spec: Spec, stream: bool, conversation: str, extra: str, more: dict[str, Any]
) -> None:
    for count in range(len(OPTIONS) + 1):
        for names in itertools.combinations(OPTIONS, count):
            options = {name: OPTIONS[name] for name in names}
            request = ChatRequest(
                model="command-a-03-2025",
                messages=CONVERSATIONS[conversation],
                extra=EXTRAS[extra],
                **options,
                **more,
            )
            sent = checked(spec, fmt.chat_body(request, stream=stream), "/v2/chat")
            assert len(sent) == 2 + stream + count + len(EXTRAS[extra]) + len(more) + (
                more == {"tools": [TOOL]}
            )


def test_embed_requests_are_valid_with_every_set_of_options(spec: Spec) -> None:
    sets = itertools.product(
        ["NONE", "START", "END"],
        [None, 256, 1536],
        [None, *fmt.INPUT_TYPES],
        ["search_document", "search_query", "classification", "clustering"],
    )
    for truncate, dimensions, input_type, default in sets:
        request = EmbedRequest(
            model="embed-v4.0", texts=["a"] * 96, dimensions=dimensions, input_type=input_type
        )
        checked(spec, fmt.embed_body(request, input_type=default, truncate=truncate), "/v2/embed")


@pytest.mark.parametrize("top_n", [None, 1, 2, 100])
async def test_rerank_requests_are_valid(spec: Spec, context: CallContext, top_n: int | None) -> None:
    sent: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return cohere_server(request)

    adapter = Cohere(
        CohereConfig(name="cohere", api_key=SecretStr("key")),
        Transport.over_httpx(httpx.MockTransport(server)),
    )
    request = RerankRequest(model="rerank-v3.5", query="why?", documents=["a", "b"], top_n=top_n)
    await adapter.rerank(request, context)
    assert sent[0].url == "https://api.cohere.com/v2/rerank"
    checked(spec, sent[0].content, "/v2/rerank")
    spec.check_answer("post", "/v2/rerank", 200, orjson.loads(cohere_server(sent[0]).content))


# --- answers of the document --------------------------------------------------------------------------


async def test_the_documents_completions_are_read(
    spec: Spec, context: CallContext, question: ChatRequest
) -> None:
    shown = examples(spec, "/v2/chat", "body")
    assert len(shown) >= 4
    for request, answer in shown:
        result = await answering(answer).complete(question, context)
        calls = answer["message"].get("tool_calls", [])
        assert list(result.tool_calls) == calls
        assert result.finish_reason == ("tool_calls" if calls else "stop")
        assert bool(result.text) is not bool(calls)
        assert result.usage.input_tokens == answer["usage"]["billed_units"]["input_tokens"]
        assert "thinking" not in result.text
        assert bool(calls) is ("tools" in request)


async def test_the_documents_streams_are_read_to_the_same_as_their_deltas(
    spec: Spec, context: CallContext, question: ChatRequest
) -> None:
    shown = examples(spec, "/v2/chat", "stream")
    assert len(shown) >= 4
    for request, events in shown:
        body = b"".join(
            b"event: %s\ndata: %s\n\n" % (it["event"].encode(), orjson.dumps(it["data"])) for it in events
        )
        *deltas, last = [item async for item in answering(body).stream(question, context)]
        assert not isinstance(last, ChatDelta)
        assert "".join(delta.text for delta in deltas if isinstance(delta, ChatDelta)) == last.text
        assert last.finish_reason == ("tool_calls" if "tools" in request else "stop")
        assert bool(last.text) is ("tools" not in request)
        for call in last.tool_calls:
            assert isinstance(orjson.loads(call["function"]["arguments"]), dict)
        assert bool(last.tool_calls) is ("tools" in request)
        assert (last.usage.input_tokens or 0) > 0


async def test_the_documents_embeddings_are_read(spec: Spec, context: CallContext) -> None:
    asked, answer = examples(spec, "/v2/embed", "body")[0]
    request = EmbedRequest(model=asked["model"], texts=asked["texts"], input_type=asked["input_type"])
    result = await answering(answer).embed(request, context)
    assert list(result.vectors) == answer["embeddings"]["float"]
    assert result.usage.input_tokens == answer["meta"]["billed_units"]["input_tokens"]


async def test_the_documents_ranking_is_read(spec: Spec, context: CallContext) -> None:
    asked, answer = examples(spec, "/v2/rerank", "body")[0]
    request = RerankRequest(**asked)
    result = await answering(answer).rerank(request, context)
    assert [(it.index, it.score) for it in result.ranking] == [
        (it["index"], it["relevance_score"]) for it in answer["results"]
    ]
    assert result.usage.input_tokens is None


# --- answers of our fakes -----------------------------------------------------------------------------


def test_the_fakes_answers_are_valid(spec: Spec) -> None:
    call = SaidCall(id="c1", name="look_up", arguments={"word": "b"})
    for said in (Said(), Said(calls=[call], finish_reason="tool_calls"), Said(finish_reason="length")):
        spec.check("ChatResponseV2", chat_server.answer(said))
        kinds = set()
        for event in chat_server.events(said):
            spec.check(EVENTS[event["type"]], event)
            kinds.add(event["type"])
        assert kinds == set(EVENTS) if said.calls else kinds < set(EVENTS)
    answer = embed_server.answer({"texts": ["a", "b"]}, [[0.5, 1.0], [2.0, 3.0]])
    # The document asks for an `api_version` that it does not describe, and its own examples lack.
    spec.check("EmbedByTypeResponse", {**answer, "api_version": None})
