"""Azure OpenAI: deployments in the path or in the body, keys and tokens, what its filters say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import httpx
import orjson
import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from app.configuration import instance_config
from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatRequest, EmbedRequest
from app.providers.azure import Azure, AzureConfig
from app.providers.transport import Transport
from app.settings_providers import ProviderSettings

CANARY: Final = "azure-canary-0123456789abcdef"
BASE: Final = "https://acme.openai.azure.com"
ANSWER: Final = {
    "model": "gpt-4o-2024-08-06",
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Because."},
            "finish_reason": "stop",
            "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}},
        }
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3},
}
VECTORS: Final = {"data": [{"index": 0, "embedding": [1.0, 0.5]}], "model": "text-embedding-3-small"}
FILTERED: Final = {
    "message": "The response was filtered due to the prompt triggering the content management policy.",
    "type": None,
    "param": "prompt",
    "status": 400,
    "innererror": {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
    },
}


class Recording:
    """Answers every request alike and keeps them."""

    def __init__(self, body: Any = ANSWER) -> None:
        self.requests: list[httpx.Request] = []
        self._body = body

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json=self._body)

    @property
    def url(self) -> str:
        return str(self.requests[-1].url)

    @property
    def body(self) -> Any:
        return orjson.loads(self.requests[-1].content)


def azure(answer: httpx.Response | Callable[[httpx.Request], httpx.Response], **config: Any) -> Azure:
    handler = answer if callable(answer) else lambda request: answer
    settings: dict[str, Any] = {"name": "main", "base_url": BASE, "api_key": SecretStr(CANARY), **config}
    return Azure(AzureConfig(**settings), Transport.over_httpx(httpx.MockTransport(handler)))


def unasked(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"it must not be sent: {request.url}")


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["content_filter", "400", None])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_filter_refused_is_a_content_filter_error(
    question: ChatRequest, context: CallContext, code: str | None, stream: bool
) -> None:
    model = azure(httpx.Response(400, json={"error": {**FILTERED, "code": code}}))
    with pytest.raises(PermanentError, match="content management policy") as failed:
        await (anext(model.stream(question, context)) if stream else model.complete(question, context))
    assert failed.value.error_class == "content_filter"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, {"error": {"code": "401", "message": "Access denied"}}, (PermanentError, "authentication")),
        (401, {"statusCode": 401, "message": "Unauthorized."}, (PermanentError, "authentication")),
        (403, {"error": {"code": "403", "message": "Public access is off"}}, (PermanentError, "permission")),
        (404, {"error": {"code": "DeploymentNotFound", "message": "no"}}, (PermanentError, "not_found")),
        (404, {"error": {"code": "404", "message": "Resource not found"}}, (PermanentError, "not_found")),
        (408, {"error": {"code": "Timeout", "message": "timed out"}}, (TemporaryError, "timeout")),
        (429, {"error": {"code": "429", "message": "slow down"}}, (TemporaryError, "rate_limit")),
        (503, {"error": {"code": "503", "message": "busy"}}, (TemporaryError, "server_error")),
    ],
)
async def test_statuses_become_errors_of_their_class(
    question: ChatRequest, context: CallContext, status: int, body: Any, expected: tuple[type, str]
) -> None:
    with pytest.raises(CallError) as failed:
        await azure(httpx.Response(status, json=body)).complete(question, context)
    assert (type(failed.value), failed.value.error_class) == expected
    assert CANARY not in str(failed.value)


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "2"}, "Please retry after 60 seconds.", 1.5),
        ({"retry-after": "7"}, "slow down", 7.0),
        ({}, "You exceeded the call rate limit. Please retry after 6 seconds.", 6.0),
        ({}, "Please retry after 1 second.", 1.0),
        ({}, "slow down", None),
    ],
)
async def test_the_delay_stands_in_headers_or_in_the_message(
    question: ChatRequest, context: CallContext, headers: dict[str, str], message: str, seconds: float | None
) -> None:
    answer = httpx.Response(429, json={"error": {"code": "429", "message": message}}, headers=headers)
    with pytest.raises(TemporaryError) as failed:
        await azure(answer).complete(question, context)
    assert failed.value.retry_after == seconds


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "a b", "a?b", "a%2fb", "größe", "a" * 65])
async def test_what_cannot_be_a_deployment_is_not_asked_for(
    question: ChatRequest, context: CallContext, name: str
) -> None:
    with pytest.raises(PermanentError, match="is no name of a deployment of instance 'main'") as failed:
        await azure(unasked).complete(replace(question, model=name), context)
    assert failed.value.error_class == "invalid_request"


@pytest.mark.parametrize("host", ["acme.openai.azure.com", "acme.services.ai.azure.com"])
async def test_azure_is_not_asked_without_a_key(
    question: ChatRequest, context: CallContext, host: str
) -> None:
    with pytest.raises(PermanentError, match="no API key"):
        await azure(unasked, api_key=None, base_url=f"https://{host}").complete(question, context)


async def test_a_gateway_may_need_no_key(question: ChatRequest, context: CallContext) -> None:
    server = Recording()
    await azure(server, api_key=None, base_url="https://gateway.test/ai").complete(question, context)
    assert server.url.startswith("https://gateway.test/ai/openai/deployments/gpt-4o-mini/")
    assert not {"api-key", "authorization"} & set(server.requests[0].headers)


async def test_dimensions_that_a_model_cannot_have_are_refused(context: CallContext) -> None:
    request = EmbedRequest(model="text-embedding-ada-002", texts=["a"], dimensions=512)
    with pytest.raises(PermanentError, match="leave 'dimensions' out"):
        await azure(unasked, deployments={"text-embedding-ada-002": "vectors"}).embed(request, context)


# --- requests -----------------------------------------------------------------------------------------


async def test_the_request_is_exactly_this(question: ChatRequest, context: CallContext) -> None:
    server = Recording()
    await azure(server).complete(question, context)
    request = server.requests[0]
    path = "/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21"
    assert (request.method, server.url) == ("POST", BASE + path)
    assert request.content == b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Why?"}]}'
    assert request.headers["api-key"] == CANARY
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({}, "/openai/deployments/mini-eu{}?api-version=2024-10-21"),
        (
            {"api_version": "2025-04-01-preview"},
            "/openai/deployments/mini-eu{}?api-version=2025-04-01-preview",
        ),
        ({"api": "v1"}, "/openai/v1{}"),
        ({"api": "v1", "api_version": "preview"}, "/openai/v1{}?api-version=preview"),
    ],
)
async def test_a_model_is_served_by_its_deployment_on_either_surface(
    question: ChatRequest, context: CallContext, config: dict[str, Any], path: str
) -> None:
    deployments = {"gpt-4o-mini": "mini-eu", "text-embedding-3-small": "mini-eu"}
    server = Recording()
    await azure(server, deployments=deployments, **config).complete(question, context)
    assert server.url == BASE + path.format("/chat/completions")
    assert server.body["model"] == "mini-eu"

    server = Recording(VECTORS)
    request = EmbedRequest(model="text-embedding-3-small", texts=["a"], dimensions=2, input_type="query")
    result = await azure(server, deployments=deployments, **config).embed(request, context)
    assert server.url == BASE + path.format("/embeddings")
    assert server.body == {"model": "mini-eu", "input": ["a"], "encoding_format": "base64", "dimensions": 2}
    assert result.vectors == [[1.0, 0.5]]


async def test_a_token_goes_where_tokens_go(question: ChatRequest, context: CallContext) -> None:
    server = Recording()
    await azure(server, auth="bearer").complete(question, context)
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"
    assert "api-key" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("name", "config", "key"),
    [
        ("gpt-4o", {}, "max_tokens"),
        ("o3-mini", {"deployments": {"o3-mini": "thinker"}}, "max_completion_tokens"),
        ("thinker", {}, "max_tokens"),
        ("thinker", {"max_tokens_key": "max_completion_tokens"}, "max_completion_tokens"),
    ],
)
async def test_an_answer_is_bounded_by_the_key_of_its_model(
    question: ChatRequest, context: CallContext, name: str, config: dict[str, Any], key: str
) -> None:
    server = Recording()
    await azure(server, **config).complete(replace(question, model=name, max_tokens=5), context)
    assert {"max_tokens", "max_completion_tokens"} & set(server.body) == {key}


# --- answers ------------------------------------------------------------------------------------------


async def test_an_answer_is_read_past_what_the_filters_add(
    question: ChatRequest, context: CallContext
) -> None:
    result = await azure(Recording()).complete(question, context)
    assert (result.text, result.model, result.finish_reason) == ("Because.", "gpt-4o-2024-08-06", "stop")


async def test_a_stream_is_read_past_what_the_filters_add(
    question: ChatRequest, context: CallContext
) -> None:
    pieces: list[dict[str, Any]] = [
        {"model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "Be"}, "finish_reason": None}]},
        {"model": "", "choices": [{"index": 0, "content_filter_offsets": {"end_offset": 2}}]},
        {"model": "gpt-4o", "choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]},
    ]
    body = b"".join(b"data: " + orjson.dumps(piece) + b"\n\n" for piece in pieces) + b"data: [DONE]\n\n"
    answer = httpx.Response(200, content=body, headers={"content-type": "text/event-stream"})
    delta, result = [item async for item in azure(answer).stream(question, context)]
    assert delta == ChatDelta(text="Be")
    assert (result.text, getattr(result, "finish_reason", None)) == ("Be", "content_filter")


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"base_url": "acme.openai.azure.com"},
        {"base_url": BASE, "api": "v2"},
        {"base_url": BASE, "api_version": "2024-10-21&x=y"},
        {"base_url": BASE, "max_tokens_key": "max tokens"},
        {"base_url": BASE, "structured_outputs": "maybe"},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[Any](ProviderSettings).validate_python({"vendor": "azure", **wrong})


def test_settings_become_the_config() -> None:
    given = {
        "vendor": "azure",
        "base_url": BASE,
        "api_key": CANARY,
        "api": "v1",
        "deployments": {"gpt-4o": "eu"},
        "structured_outputs": "json_object",
    }
    config = instance_config("azure-eu", TypeAdapter[Any](ProviderSettings).validate_python(given))
    assert isinstance(config, AzureConfig)
    assert (config.name, config.api, config.deployments) == ("azure-eu", "v1", {"gpt-4o": "eu"})
    assert (config.structured_outputs, config.embedding_format) == ("json_object", "base64")
    assert CANARY not in repr(config)
