"""What all adapters have of `VendorApi`: what is read of hostile answers, and what is passed on of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatModel, ChatRequest, EmbedRequest, RerankRequest
from app.ports.retry_after import LONGEST
from app.providers.anthropic.adapter import Anthropic, AnthropicConfig
from app.providers.gemini.adapter import Gemini, GeminiConfig
from app.providers.json_api import bearer, endpoint_of
from app.providers.json_format import Malformed, VendorError, text
from app.providers.ollama.adapter import Ollama, OllamaConfig
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.rerank_server import RerankServer, RerankServerConfig
from app.providers.transport import MAX_ANSWER_BYTES, Transport
from app.providers.vendor_api import LARGEST_COMPLAINT, MANY, VendorApi

CANARY = "sk-canary-0123456789abcdef"


VENDORS: Mapping[str, Callable[[Transport], ChatModel]] = {
    "openai": lambda it: OpenAI(OpenAIConfig(name="main", base_url="http://vendor.test"), it),
    "anthropic": lambda it: Anthropic(AnthropicConfig(name="main", base_url="http://vendor.test"), it),
    "gemini": lambda it: Gemini(GeminiConfig(name="main", base_url="http://vendor.test"), it),
    "ollama": lambda it: Ollama(OllamaConfig(name="main", base_url="http://vendor.test"), it),
}


def answering(answer: httpx.Response) -> Transport:
    return Transport.over_httpx(httpx.MockTransport(lambda request: answer))


def read_error(answer: Mapping[str, Any]) -> VendorError | None:
    said = text(answer, "error")
    return VendorError(message=said, retry_after=answer.get("wait")) if said else None


def api(answer: httpx.Response) -> VendorApi:
    config = OpenAIConfig(name="main", base_url="http://vendor.test", api_key=SecretStr(CANARY))
    endpoint = endpoint_of(config, bearer(config.api_key))
    return VendorApi(answering(answer), endpoint, read_error=read_error, classify=lambda status, error: None)


# --- failures -----------------------------------------------------------------------------------------


async def test_a_huge_complaint_is_not_looked_into(context: CallContext) -> None:
    huge = orjson.dumps({"error": "x" * LARGEST_COMPLAINT})
    with pytest.raises(TemporaryError, match="answered 500: no reason was given"):
        await api(httpx.Response(500, content=huge)).post("/x", b"{}", context)


PAGE = b"\n<!doctype html><title>Sign in</title>"


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (200, b"", "cannot be used: it is empty"),
        (200, b" \n", "cannot be used: it is empty"),
        (200, PAGE, "it is a web page and no JSON; ask the operator to check the instance's base_url"),
        (404, PAGE, "it sent a web page; ask the operator to check the instance's base_url"),
        (502, PAGE, "answered 502: it sent a web page; ask the operator"),
        (502, b"", "answered 502: no reason was given"),
    ],
)
async def test_an_answer_of_something_else_than_the_vendor_is_told_as_that(
    status: int, content: bytes, said: str, context: CallContext
) -> None:
    with pytest.raises(CallError) as failed:
        await api(httpx.Response(status, content=content)).post("/x", b"{}", context)
    assert said in str(failed.value)
    assert "Sign in" not in str(failed.value)


async def test_a_wait_in_the_body_is_capped_as_one_in_a_header_is(context: CallContext) -> None:
    with pytest.raises(TemporaryError) as failed:
        await api(httpx.Response(429, json={"error": "later", "wait": 1e9})).post("/x", b"{}", context)
    assert failed.value.retry_after == LONGEST


def test_what_is_malformed_is_told_shortly_and_without_the_key() -> None:
    def read() -> None:
        raise Malformed(f"it names {CANARY} and {'x' * 10_000}")

    with pytest.raises(TemporaryError) as failed:
        api(httpx.Response(200)).read(read)
    assert CANARY not in str(failed.value)
    assert len(str(failed.value)) < 500


def called(vendor: str, arguments: Any) -> dict[str, Any]:
    """An answer with one call of a tool, in the words of a vendor."""
    function = {"name": "f", "arguments": arguments}
    match vendor:
        case "openai":
            return {"choices": [{"message": {"tool_calls": [{"id": "c", "function": function}]}}]}
        case "anthropic":
            return {"content": [{"type": "tool_use", "id": "c", "name": "f", "input": arguments}]}
        case "gemini":
            part = {"functionCall": {"name": "f", "args": arguments}}
            return {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}
        case _:
            return {"message": {"tool_calls": [{"function": function}]}, "done": True}


@pytest.mark.parametrize("vendor", ["openai", "anthropic", "gemini", "ollama"])
async def test_arguments_too_deep_to_be_passed_on_are_malformed(
    vendor: str, question: ChatRequest, context: CallContext
) -> None:
    raw = b'{"a":' * 300 + b"{}" + b"}" * 300  # can be read, and not be written again
    content = orjson.dumps(called(vendor, {"here": 1})).replace(b'{"here":1}', raw)
    with pytest.raises(TemporaryError) as failed:
        await VENDORS[vendor](answering(httpx.Response(200, content=content))).complete(question, context)
    assert failed.value.error_class == "invalid_output"


# --- large answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [MANY - 1, MANY])
async def test_vectors_of_many_texts_are_read_beside_the_event_loop(texts: int, context: CallContext) -> None:
    loop = asyncio.get_running_loop()

    def read() -> bool:
        try:
            return asyncio.get_running_loop() is loop
        except RuntimeError:
            return False

    assert await api(httpx.Response(200)).read_many(texts, read) is (texts < MANY)


async def test_an_answer_to_a_full_batch_may_be_larger_than_others(context: CallContext) -> None:
    padding = "x" * MAX_ANSWER_BYTES

    def model() -> OpenAI:
        data = [{"index": place, "embedding": [0.5]} for place in range(2048)]
        answer = httpx.Response(200, json={"data": data, "padding": padding})
        config = OpenAIConfig(name="main", base_url="http://vendor.test/v1")
        return OpenAI(config, answering(answer))

    with pytest.raises(PermanentError, match="larger than") as refused:
        await model().embed(EmbedRequest(model="m", texts=["a"]), context)
    assert refused.value.error_class == "too_large"
    result = await model().embed(EmbedRequest(model="m", texts=["a"] * 2048), context)
    assert len(result.vectors) == 2048


# --- successes ----------------------------------------------------------------------------------------


async def test_an_answer_without_words_streams_no_delta(question: ChatRequest, context: CallContext) -> None:
    """A delta would mean that something was said: no other model could be asked then."""
    choice = {"message": {"content": ""}, "finish_reason": "content_filter"}
    config = OpenAIConfig(name="main", base_url="http://vendor.test/v1")
    model = OpenAI(config, answering(httpx.Response(200, json={"choices": [choice]})))
    items = [item async for item in model.stream(question, context)]
    assert not [item for item in items if isinstance(item, ChatDelta)]
    assert len(items) == 1


async def test_a_success_that_calls_itself_one_is_no_error(context: CallContext) -> None:
    body = {"message": "success", "results": [{"index": 0, "relevance_score": 0.5}]}
    config = RerankServerConfig(name="main", base_url="http://vendor.test")
    reranker = RerankServer(config, answering(httpx.Response(200, json=body)))
    result = await reranker.rerank(RerankRequest(model="m", query="q", documents=["d"]), context)
    assert [place.index for place in result.ranking] == [0]
