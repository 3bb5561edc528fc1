"""Our adapters against a mock server that others wrote: what they understand of the vendors' formats.

The server is aimock, installed by `make setup-mocks`; `ORCHESTRATOR_MOCKS_DIR` names another folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import (
    CallContext,
    ChatDelta,
    ChatModel,
    ChatRequest,
    ChatResult,
    Embedder,
    EmbedRequest,
    Message,
)
from app.providers.anthropic.adapter import Anthropic, AnthropicConfig
from app.providers.cohere.adapter import Cohere, CohereConfig
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.transport import Transport
from tests.conftest import require_or_skip

pytestmark = [pytest.mark.mocks, pytest.mark.xdist_group("aimock")]

ROOT = Path(__file__).resolve().parents[2]
KEY = "mock-key-0123456789"
SAID = "Grüß Gott, this is an answer that comes in “several” pieces."
ARGUMENTS = {"city": "Wien", "days": [1, 2]}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": json.dumps(ARGUMENTS)},
}
FIXTURES = [
    {"match": {"toolCallId": "call_1"}, "response": {"content": "It rains."}},
    {
        "match": {"userMessage": "greet me"},
        "response": {"content": SAID, "usage": {"input_tokens": 7, "output_tokens": 11}},
    },
    {"match": {"userMessage": "cut off"}, "response": {"content": "It is", "finishReason": "length"}},
    {
        "match": {"userMessage": "weather"},
        "response": {"toolCalls": [{"name": "get_weather", "arguments": ARGUMENTS}]},
    },
    {
        "match": {"userMessage": "too much"},
        "response": {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429},
    },
    {
        "match": {"userMessage": "break"},
        "response": {"error": {"message": "broken", "type": "server_error"}, "status": 500},
    },
]
Connect = Callable[[str, str, Transport], Any]


def _openai(url: str, key: str, transport: Transport) -> OpenAI:
    return OpenAI(OpenAIConfig(name="mock", base_url=f"{url}/v1", api_key=SecretStr(key)), transport)


def _anthropic(url: str, key: str, transport: Transport) -> Anthropic:
    return Anthropic(AnthropicConfig(name="mock", base_url=url, api_key=SecretStr(key)), transport)


def _cohere(url: str, key: str, transport: Transport) -> Cohere:
    return Cohere(CohereConfig(name="mock", base_url=url, api_key=SecretStr(key)), transport)


CHATS: dict[str, tuple[str, Connect]] = {
    "openai": ("gpt-4o-mini", _openai),
    "anthropic": ("claude-sonnet-4-5", _anthropic),
    "cohere": ("command-a-03-2025", _cohere),
}
EMBEDDERS: dict[str, tuple[str, Connect]] = {
    "openai": ("text-embedding-3-small", _openai),
    "cohere": ("embed-v4.0", _cohere),
}


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The mock server, on a port of its own choice."""
    folder = Path(os.environ.get("ORCHESTRATOR_MOCKS_DIR") or ROOT / ".tools" / "mocks")
    program = folder / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
    node = shutil.which("node")
    if node is None or not program.is_file():
        require_or_skip("aimock is not installed", "install Node.js 20 and run: make setup-mocks")
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}), encoding="utf-8")
    process = subprocess.Popen(
        [node, program, "-p", "0", "-f", fixtures],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": os.environ.get("PATH", ""), "AIMOCK_API_KEYS": KEY},
    )
    try:
        yield _address(process)
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _address(process: subprocess.Popen[str]) -> str:
    """Where it says that it listens."""
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return found[0]
    pytest.fail(f"aimock ended at once: {''.join(told)}", pytrace=False)


@pytest.fixture(params=CHATS)
def chat(request: pytest.FixtureRequest, url: str, transport: Transport) -> tuple[str, ChatModel]:
    model, connect = CHATS[request.param]
    return model, connect(url, KEY, transport)


@pytest.fixture(params=EMBEDDERS)
def embedder(request: pytest.FixtureRequest, url: str, transport: Transport) -> tuple[str, Embedder]:
    model, connect = EMBEDDERS[request.param]
    return model, connect(url, KEY, transport)


def asking(model: str, text: str) -> ChatRequest:
    return ChatRequest(model=model, messages=[Message(role="user", content=text)], max_tokens=100)


async def streamed(
    model: ChatModel, request: ChatRequest, context: CallContext
) -> tuple[list[str], ChatResult]:
    """The deltas and the whole."""
    *deltas, last = [item async for item in model.stream(request, context)]
    assert isinstance(last, ChatResult)
    return [delta.text for delta in deltas if isinstance(delta, ChatDelta)], last


@pytest.mark.parametrize("connect", [connect for _, connect in CHATS.values()], ids=CHATS)
async def test_a_wrong_key_is_refused(
    connect: Connect, url: str, transport: Transport, context: CallContext
) -> None:
    with pytest.raises(PermanentError) as failed:
        await connect(url, "wrong", transport).complete(asking("any", "greet me"), context)
    assert failed.value.error_class == "authentication"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("too much", (TemporaryError, "rate_limit")),
        ("break", (TemporaryError, "server_error")),
        ("nothing that it knows", (PermanentError, "not_found")),
    ],
)
async def test_failures_have_their_class(
    chat: tuple[str, ChatModel],
    context: CallContext,
    text: str,
    expected: tuple[type[CallError], str],
    stream: bool,
) -> None:
    name, model = chat
    request = asking(name, text)
    with pytest.raises(CallError) as failed:
        await (streamed(model, request, context) if stream else model.complete(request, context))
    assert (type(failed.value), failed.value.error_class) == expected


async def test_an_answer_is_the_same_streamed_or_not(
    chat: tuple[str, ChatModel], context: CallContext
) -> None:
    name, model = chat
    whole = await model.complete(asking(name, "please greet me"), context)
    deltas, last = await streamed(model, asking(name, "please greet me"), context)
    assert (whole.text, whole.model, whole.finish_reason) == (SAID, name, "stop")
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (7, 11)
    assert last == whole
    assert "".join(deltas) == SAID
    assert len(deltas) > 1


async def test_an_answer_that_was_cut_off_says_so(chat: tuple[str, ChatModel], context: CallContext) -> None:
    name, model = chat
    assert (await model.complete(asking(name, "cut off"), context)).finish_reason == "length"
    assert (await streamed(model, asking(name, "cut off"), context))[1].finish_reason == "length"


async def test_a_function_is_asked_for_in_our_form(chat: tuple[str, ChatModel], context: CallContext) -> None:
    name, model = chat
    request = replace(asking(name, "What is the weather?"), tools=[TOOL])
    whole = await model.complete(request, context)
    _, last = await streamed(model, request, context)
    for result in (whole, last):
        assert (result.text, result.finish_reason) == ("", "tool_calls")
        [call] = result.tool_calls
        assert (call["type"], call["function"]["name"]) == ("function", "get_weather")
        assert json.loads(call["function"]["arguments"]) == ARGUMENTS
        assert call["id"]


async def test_a_functions_result_is_understood(chat: tuple[str, ChatModel], context: CallContext) -> None:
    name, model = chat
    turns = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="What is the weather?"),
        Message(role="assistant", content="", extra={"tool_calls": [ASKED_CALL]}),
        Message(role="tool", content='{"sky": "grey"}', extra={"tool_call_id": "call_1"}),
    ]
    request = ChatRequest(model=name, messages=turns, tools=[TOOL], max_tokens=100)
    assert (await model.complete(request, context)).text == "It rains."
    assert (await streamed(model, request, context))[1].text == "It rains."


async def test_texts_are_embedded_in_order(embedder: tuple[str, Embedder], context: CallContext) -> None:
    name, model = embedder
    request = EmbedRequest(model=name, texts=["a cat", "a dog", "a cat"])
    first, second, third = (await model.embed(request, context)).vectors
    alone = (await model.embed(replace(request, texts=["a dog"]), context)).vectors
    assert list(first) == list(third)
    assert list(first) != list(second)
    assert list(second) == pytest.approx(list(alone[0]))
