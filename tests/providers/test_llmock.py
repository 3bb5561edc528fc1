"""OpenAI's format against a mock server that others wrote to break clients: llmock.

It is installed by `make setup-mocks`; `ORCHESTRATOR_LLMOCK` names another program. What breaks is told to
it once, by the name of the model, so that tests do not disturb one another.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest
from pydantic import SecretStr

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, Message
from app.providers.mistral import Mistral, MistralConfig
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.openai.completions import CompletionsApi
from app.providers.transport import Transport
from tests.conftest import require_or_skip

pytestmark = [pytest.mark.mocks, pytest.mark.xdist_group("llmock")]

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = ".tools/llmock/bin/llmock"
STREAM_FAULTS: Final = {
    "truncate": (TemporaryError, "connection"),
    "disconnect": (TemporaryError, "connection"),
    "malformed": (TemporaryError, "invalid_output"),
    "stall": (TemporaryError, "timeout"),
}
STATUSES: Final[Mapping[int, tuple[type[CallError], str]]] = {
    400: (PermanentError, "invalid_request"),
    401: (PermanentError, "authentication"),
    403: (PermanentError, "permission"),
    404: (PermanentError, "not_found"),
    429: (TemporaryError, "rate_limit"),
    500: (TemporaryError, "server_error"),
    503: (TemporaryError, "server_error"),
}
SAID: Final = "Grüß Gott, this comes in “several” pieces."
TOOL: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA: Final = {
    "type": "object",
    "properties": {"month": {"type": "string", "enum": ["January", "February"]}},
    "required": ["month"],
    "additionalProperties": False,
}


def fault(behaviour: str, model: str, **fields: Any) -> dict[str, Any]:
    return {"type": behaviour, "times": None, "match": {"model": model}, **fields}


BEHAVIOURS: Final = [
    *(
        fault("stream_fault", f"{kind}-{n}", kind=kind, after_chunks=n)
        for kind in STREAM_FAULTS
        for n in (0, 1, 3)
    ),
    *(fault("fail", f"status-{status}", status=status, retry_after=7) for status in STATUSES),
    fault("fail", "too-long", status=400, code="context_length_exceeded", message="too long"),
    fault("reply", "says", text=SAID),
    fault("reply", "cut", text=SAID, finish_reason="length"),
    fault("tool_fault", "bad-arguments", kind="malformed_arguments"),
]


def _openai(path: str) -> Callable[[str, Transport], CompletionsApi]:
    return lambda url, transport: OpenAI(
        OpenAIConfig(name="mock", base_url=f"{url}{path}", api_key=SecretStr("k")), transport
    )


def _mistral(url: str, transport: Transport) -> CompletionsApi:
    return Mistral(MistralConfig(name="mock", base_url=f"{url}/mistral", api_key=SecretStr("k")), transport)


CONNECT: Final = {
    "openai": _openai("/v1"),
    "groq": _openai("/groq/openai/v1"),
    "together": _openai("/together/v1"),
    "mistral": _mistral,
}


@contextmanager
def serving(*flags: str) -> Iterator[str]:
    """The mock server, on a port of its own choice."""
    program = Path(os.environ.get("ORCHESTRATOR_LLMOCK") or ROOT / PROGRAM)
    if not program.is_file():
        require_or_skip("llmock is not installed", "run: make setup-mocks")
    with subprocess.Popen(
        [program, "serve", "--port", "0", *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
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
        if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
            return found[1]
    pytest.fail(f"llmock ended at once: {''.join(told)}", pytrace=False)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        body = {"behaviors": BEHAVIOURS}
        httpx.post(f"{url}/_llmock/scenario", json=body, trust_env=False).raise_for_status()
        yield url


@pytest.fixture(params=CONNECT)
def adapter(request: pytest.FixtureRequest, url: str, transport: Transport) -> CompletionsApi:
    return CONNECT[request.param](url, transport)


def asking(model: str, **more: Any) -> ChatRequest:
    return ChatRequest(model=model, messages=[Message(role="user", content="Why?")], max_tokens=50, **more)


async def streamed(
    model: CompletionsApi, request: ChatRequest, context: CallContext
) -> tuple[Sequence[str], ChatResult]:
    *deltas, last = [item async for item in model.stream(request, context)]
    assert isinstance(last, ChatResult)
    return [delta.text for delta in deltas if isinstance(delta, ChatDelta)], last


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", STATUSES)
async def test_statuses_have_their_class(
    adapter: CompletionsApi, context: CallContext, status: int, stream: bool
) -> None:
    request = asking(f"status-{status}")
    with pytest.raises(CallError) as failed:
        await (streamed(adapter, request, context) if stream else adapter.complete(request, context))
    assert (type(failed.value), failed.value.error_class) == STATUSES[status]
    assert "no reason was given" not in str(failed.value)
    if status == 429:
        assert getattr(failed.value, "retry_after", None) == 7


async def test_a_prompt_that_is_too_long_says_so(
    url: str, transport: Transport, context: CallContext
) -> None:
    with pytest.raises(PermanentError) as failed:
        await CONNECT["openai"](url, transport).complete(asking("too-long"), context)
    assert failed.value.error_class == "context_length"


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("kind", STREAM_FAULTS)
async def test_no_broken_stream_is_taken_for_an_answer(
    adapter: CompletionsApi, context: CallContext, kind: str, after: int
) -> None:
    context = replace(context, timeout_seconds=0.5) if kind == "stall" else context
    with pytest.raises(CallError) as failed:
        await streamed(adapter, asking(f"{kind}-{after}"), context)
    assert (type(failed.value), failed.value.error_class) == STREAM_FAULTS[kind]


async def test_an_answer_is_the_same_streamed_or_not(adapter: CompletionsApi, context: CallContext) -> None:
    whole = await adapter.complete(asking("says"), context)
    texts, last = await streamed(adapter, asking("says"), context)
    assert whole.text == last.text == "".join(texts) == SAID
    assert len(texts) > 1
    assert whole.finish_reason == last.finish_reason == "stop"
    assert whole.usage.output_tokens
    if not isinstance(adapter, Mistral):  # the mock counts there only if it is asked to, as nobody may ask
        assert whole.usage == last.usage


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_answer_that_was_cut_off_says_so(
    adapter: CompletionsApi, context: CallContext, stream: bool
) -> None:
    request = asking("cut")
    result = (
        (await streamed(adapter, request, context))[1] if stream else await adapter.complete(request, context)
    )
    assert result.finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_tools_are_called(adapter: CompletionsApi, context: CallContext, stream: bool) -> None:
    request = asking("calls", tools=[TOOL])
    result = (
        (await streamed(adapter, request, context))[1] if stream else await adapter.complete(request, context)
    )
    assert result.finish_reason == "tool_calls"
    (call,) = result.tool_calls
    assert call.keys() == {"id", "type", "function"}
    assert call["function"]["name"] == "get_weather"
    assert orjson.loads(call["function"]["arguments"]).keys() == {"city"}

    turns = [
        *request.messages,
        Message(role="assistant", content="", extra={"tool_calls": result.tool_calls}),
        Message(role="tool", content="It rains.", extra={"tool_call_id": call["id"]}),
    ]
    answer = await adapter.complete(ChatRequest(model="calls", messages=turns, tools=[TOOL]), context)
    assert answer.finish_reason == "stop"


async def test_arguments_that_are_no_json_are_handed_on_for_the_step_to_judge(
    adapter: CompletionsApi, context: CallContext
) -> None:
    whole = await adapter.complete(asking("bad-arguments", tools=[TOOL]), context)
    _, last = await streamed(adapter, asking("bad-arguments", tools=[TOOL]), context)
    for result in (whole, last):
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(result.tool_calls[0]["function"]["arguments"])


async def test_a_schema_is_answered_to(url: str, transport: Transport, context: CallContext) -> None:
    request = asking("fits", response_schema=SCHEMA)
    result = await CONNECT["openai"](url, transport).complete(request, context)
    assert orjson.loads(result.text) == {"month": "January"}


async def test_texts_have_vectors_in_their_order(
    url: str, transport: Transport, context: CallContext
) -> None:
    model = OpenAI(OpenAIConfig(name="mock", base_url=f"{url}/v1", embedding_format="float"), transport)

    async def vectors(*texts: str) -> Sequence[Sequence[float]]:
        return (await model.embed(EmbedRequest(model="text-embedding-3-small", texts=texts), context)).vectors

    together = await vectors("a", "b", "a")
    assert together == [*await vectors("a"), *await vectors("b"), *await vectors("a")]


async def test_in_a_storm_every_call_ends_whole_or_in_its_class(
    transport: Transport, context: CallContext
) -> None:
    with serving(
        "--error-rate", "429=0.2", "--error-rate", "503=0.1", "--stream-fault", "truncate=0.3"
    ) as url:
        model = CONNECT["openai"](url, transport)

        async def once(number: int) -> str:
            request = asking(f"any-{number}")
            try:
                result = (
                    (await streamed(model, request, context))[1]
                    if number % 2
                    else await model.complete(request, context)
                )
            except TemporaryError as error:
                return error.error_class
            assert result.finish_reason == "stop"
            return "whole"

        ends = Counter(await asyncio.gather(*(once(number) for number in range(120))))
    assert ends.keys() == {"whole", "rate_limit", "server_error", "connection"}
    assert ends["whole"] > 40


async def test_with_every_stream_truncated_none_is_whole(transport: Transport, context: CallContext) -> None:
    with serving("--stream-fault", "truncate=1.0") as url:
        model = CONNECT["openai"](url, transport)
        assert (await model.complete(asking("any"), context)).finish_reason == "stop"
        for _ in range(5):
            with pytest.raises(TemporaryError, match="ended early") as failed:
                await streamed(model, asking("any"), context)
            assert failed.value.error_class == "connection"
