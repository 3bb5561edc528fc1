"""Contract: what we send and what the simulator answers are valid under OpenAI's own OpenAPI document.

The document lies beside the checkout (`../shared/specs`) or where `ORCHESTRATOR_SPECS_DIR` points.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest

from app.ports.models import ChatRequest, EmbedRequest, Message
from app.providers import openai_format as fmt
from app.providers.openai_stream import Assembly
from tests.conftest import require_or_skip
from tests.simulator import answers

ROOT = Path(__file__).resolve().parents[2]
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
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
]

Check = Callable[[str, Any], None]


@pytest.fixture(scope="session")
def schemas() -> dict[str, Any]:
    folder = Path(os.environ.get("ORCHESTRATOR_SPECS_DIR") or ROOT.parent / "shared" / "specs")
    document = folder / "openai-openapi.json"
    if not document.is_file():
        require_or_skip(
            "OpenAI's OpenAPI document is missing", "set ORCHESTRATOR_SPECS_DIR to the folder that holds it"
        )
    loaded: dict[str, Any] = _with_nulls(json.loads(document.read_bytes())["components"]["schemas"])
    return loaded


def _with_nulls(schema: Any) -> Any:
    """The document calls itself OpenAPI 3.1 and still writes `nullable`, which JSON Schema does not know."""
    if isinstance(schema, list):
        return [_with_nulls(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    read = {key: _with_nulls(value) for key, value in schema.items()}
    return {"anyOf": [read, {"type": "null"}]} if schema.get("nullable") is True else read


@pytest.fixture(scope="session")
def check(schemas: dict[str, Any]) -> Check:
    """Validates a value against a named schema of the document."""
    validators: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def check(name: str, value: Any) -> None:
        if name not in validators:
            schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
            validators[name] = jsonschema_rs.Draft202012Validator(schema)
        validators[name].validate(value)

    return check


def test_a_wrong_request_is_noticed(check: Check) -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        check("CreateChatCompletionRequest", {"model": "gpt-4o-mini", "messages": "hello"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest(model="gpt-4o-mini", messages=QUESTION),
        ChatRequest(
            model="gpt-4o-mini",
            messages=QUESTION,
            temperature=0.2,
            top_p=0.5,
            max_tokens=20,
            stop=["END"],
            seed=1,
            extra={"user": "ann", "presence_penalty": 0.1},
        ),
        ChatRequest(model="gpt-4o-mini", messages=QUESTION, response_schema=SCHEMA),
        ChatRequest(model="gpt-4o-mini", messages=QUESTION, response_schema={"type": "object"}, tools=[TOOL]),
        ChatRequest(model="gpt-4o-mini", messages=[Message(role="user", content=PARTS)]),
        ChatRequest(
            model="gpt-4o-mini",
            messages=[
                *QUESTION,
                Message(role="assistant", content="", extra={"tool_calls": [CALL]}),
                Message(role="tool", content="42", extra={"tool_call_id": "c1"}),
            ],
        ),
    ],
    ids=["plain", "options", "strict schema", "schema and tools", "parts", "tool turn"],
)
def test_chat_requests_are_valid(check: Check, request_: ChatRequest, stream: bool) -> None:
    for limit_key in ("max_tokens", "max_completion_tokens"):
        body = fmt.chat_body(request_, stream=stream, limit_key=limit_key)
        check("CreateChatCompletionRequest", orjson.loads(body))


@pytest.mark.parametrize("dimensions", [None, 256])
@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_embedding_requests_are_valid(check: Check, dimensions: int | None, encoding: Any) -> None:
    request = EmbedRequest(model="text-embedding-3-small", texts=["a", "b"], dimensions=dimensions)
    check("CreateEmbeddingRequest", orjson.loads(fmt.embed_body(request, encoding)))


def test_the_simulators_completion_is_valid_and_read(check: Check) -> None:
    answer = orjson.loads(answers.completion("gpt-4o-mini", "Because."))
    check("CreateChatCompletionResponse", answer)
    assert fmt.read_completion(answer, model="x").text == "Because."


def test_the_simulators_stream_is_valid_and_read(check: Check) -> None:
    assembly = Assembly("x")
    for event in answers.stream_events("gpt-4o-mini", "So it is."):
        data = event.removeprefix(b"data: ").strip()
        if data != b"[DONE]":
            check("CreateChatCompletionStreamResponse", orjson.loads(data))
            assembly.add(orjson.loads(data))
    assert assembly.result().text == "So it is."
    assert assembly.result().usage.input_tokens == 10


def test_the_simulators_embeddings_are_valid_and_read(check: Check) -> None:
    request = EmbedRequest(model="m", texts=["a", "b"])
    answer = orjson.loads(answers.embeddings(orjson.loads(fmt.embed_body(request, "float"))))
    check("CreateEmbeddingResponse", answer)
    encoded = orjson.loads(answers.embeddings(orjson.loads(fmt.embed_body(request, "base64"))))
    assert fmt.read_embeddings(answer, request).vectors == fmt.read_embeddings(encoded, request).vectors


def test_the_simulators_errors_are_valid_and_read(check: Check) -> None:
    body = answers.error(429, "rate_limit_exceeded", "slow down").partition(b"\r\n\r\n")[2]
    check("ErrorResponse", orjson.loads(body))
    error = fmt.read_error(orjson.loads(body))
    assert error is not None
    assert (error.code, error.message) == ("rate_limit_exceeded", "slow down")
