"""The OpenAI adapter against a real server of its format: llama.cpp's own, with the packaged chat model.

It embeds too: vectors of a chat model are poor ones, but they come over the real wire.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
import pytest_asyncio
from pydantic import SecretStr

from app.ports.errors import CallError, PermanentError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, Message
from app.providers.local.models import LocalModels
from app.providers.local.packages import CHAT_MODEL, chat_file
from app.providers.local.process import Address, ModelProcess
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.transport import Transport
from tests.conftest import require_or_skip

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.servers,
    pytest.mark.xdist_group("llama"),
]

SERVER = """
import json, os, sys, xllamacpp
from urllib.parse import urlsplit
from app.providers.local.server import wait_for_the_end

parent, given = os.getppid(), json.loads(sys.stdin.readline())
channel = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
params = xllamacpp.CommonParams()
params.model.path, params.model_alias, params.offline = given["model_path"], {given["model_name"]}, True
params.n_ctx, params.n_parallel, params.cache_ram_mib = 1024, 2, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.use_jinja, params.enable_reasoning, params.verbosity = True, 0, 0
params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [given["api_key"]]
params.embedding, params.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
server = xllamacpp.Server(params)
print(json.dumps({"port": urlsplit(server.listening_address).port}), file=channel, flush=True)
wait_for_the_end(parent)
os._exit(0)
"""
CALL = CallContext(run_id="run", path="step", attempt=1, idempotency_key="key", timeout_seconds=60.0)
QUESTION = ChatRequest(
    model=CHAT_MODEL,
    messages=[
        Message(role="system", content="Answer from the notes."),
        Message(
            role="user",
            content="Notes:\n- The mirror is cleaned once a year, in February.\n\n"
            "Question: How often is the mirror cleaned?\nAnswer:",
        ),
    ],
    temperature=0,
    max_tokens=24,
    seed=1,
)
SCHEMA = {
    "type": "object",
    "properties": {
        "times": {"type": "integer"},
        "month": {"enum": ["January", "February"], "type": "string"},
    },
    "required": ["times", "month"],
    "additionalProperties": False,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[tuple[Address, Transport]]:
    """Where the server is, and a way to it."""
    if not LocalModels.chat_available():
        require_or_skip("the packaged chat model is missing", "run `make setup-local`")
    transport = Transport.over_sockets()
    settings = {"model_path": str(chat_file()), "model_name": CHAT_MODEL}
    process = ModelProcess(settings, command=[sys.executable, "-c", SERVER])
    yield await process.address(timeout_seconds=60), transport
    await process.close()
    await transport.aclose()


def connected(server: tuple[Address, Transport], **config: Any) -> OpenAI:
    address, transport = server
    settings: dict[str, Any] = {
        "name": "llama",
        "base_url": address.base_url,
        "api_key": SecretStr(address.api_key),
        "headers": {"connection": "close"},  # it offers to keep connections, and does not
        **config,
    }
    return OpenAI(OpenAIConfig(**settings), transport)


@pytest.fixture
def adapter(server: tuple[Address, Transport]) -> OpenAI:
    return connected(server)


async def streamed(adapter: OpenAI, request: ChatRequest) -> tuple[list[str], ChatResult]:
    *deltas, last = [item async for item in adapter.stream(request, CALL)]
    assert isinstance(last, ChatResult)
    assert all(isinstance(delta, ChatDelta) for delta in deltas)
    return [delta.text for delta in deltas], last


async def test_a_wrong_key_is_refused(server: tuple[Address, Transport]) -> None:
    with pytest.raises(PermanentError, match="refused its credentials") as refused:
        await connected(server, api_key=SecretStr("wrong")).complete(QUESTION, CALL)
    assert refused.value.error_class == "authentication"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_question_longer_than_the_context_says_so(adapter: OpenAI, stream: bool) -> None:
    long = replace(QUESTION, messages=[Message(role="user", content="word " * 2000)])
    with pytest.raises(PermanentError) as refused:
        await (streamed(adapter, long) if stream else adapter.complete(long, CALL))
    assert refused.value.error_class == "context_length"


async def test_an_option_that_cannot_be_is_refused_in_its_own_words(adapter: OpenAI) -> None:
    with pytest.raises(CallError) as refused:
        await adapter.complete(replace(QUESTION, extra={"grammar": "root ::= ("}), CALL)
    assert "no reason was given" not in str(refused.value)


async def test_it_answers_from_a_given_text_and_counts_its_tokens(adapter: OpenAI) -> None:
    result = await adapter.complete(QUESTION, CALL)
    assert "once a year" in result.text
    assert result.model == CHAT_MODEL
    assert (result.usage.input_tokens or 0) > 30
    assert result.usage.output_tokens


async def test_a_streamed_answer_is_the_whole_one_in_pieces(adapter: OpenAI) -> None:
    whole = await adapter.complete(QUESTION, CALL)
    texts, last = await streamed(adapter, QUESTION)
    assert len(texts) > 1
    assert "".join(texts) == last.text == whole.text
    assert (last.finish_reason, last.model) == (whole.finish_reason, whole.model)
    assert last.usage.input_tokens == whole.usage.input_tokens
    assert last.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_ends_where_it_is_bounded(adapter: OpenAI, stream: bool) -> None:
    request = replace(QUESTION, max_tokens=2)
    result = (await streamed(adapter, request))[1] if stream else await adapter.complete(request, CALL)
    assert (result.finish_reason, result.usage.output_tokens) == ("length", 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_fits_the_schema(adapter: OpenAI, stream: bool) -> None:
    request = replace(QUESTION, response_schema=SCHEMA, max_tokens=60)
    result = (await streamed(adapter, request))[1] if stream else await adapter.complete(request, CALL)
    answer = orjson.loads(result.text)
    assert answer.keys() == {"times", "month"}
    assert isinstance(answer["times"], int)
    assert answer["month"] in {"January", "February"}


async def test_in_json_mode_an_answer_is_at_least_json(server: tuple[Address, Transport]) -> None:
    request = replace(QUESTION, response_schema=SCHEMA, max_tokens=120)
    result = await connected(server, structured_outputs="json_object").complete(request, CALL)
    assert result.finish_reason == "length" or isinstance(orjson.loads(result.text), Mapping)


async def test_leaving_a_stream_frees_its_place(adapter: OpenAI) -> None:
    for _ in range(4):  # more than there are places
        stream = adapter.stream(replace(QUESTION, max_tokens=200), CALL)
        assert isinstance(await anext(stream), ChatDelta)
        await stream.aclose()  # type: ignore[attr-defined]  # the port promises an iterator, this one is a generator
    assert (await asyncio.wait_for(adapter.complete(QUESTION, CALL), 30)).text


async def test_an_empty_text_is_refused_in_its_own_words(adapter: OpenAI) -> None:
    with pytest.raises(PermanentError, match="cannot be empty"):
        await adapter.embed(EmbedRequest(model=CHAT_MODEL, texts=[""]), CALL)


@pytest.mark.parametrize("encoding", ["base64", "float"])
async def test_texts_have_vectors_in_their_order(server: tuple[Address, Transport], encoding: str) -> None:
    adapter = connected(server, embedding_format=encoding)
    texts = ["The cat sleeps.", "Interest rates rose.", "The cat sleeps."]
    result = await adapter.embed(EmbedRequest(model=CHAT_MODEL, texts=texts), CALL)
    cat, rates, same_cat = np.array(result.vectors)
    assert len(cat) == 576
    assert np.dot(cat, cat) == pytest.approx(1, abs=1e-3)
    assert np.dot(cat, same_cat) > 0.99 > np.dot(cat, rates)
    assert (result.model, result.usage.input_tokens or 0) >= (CHAT_MODEL, 9)


async def test_both_encodings_say_the_same(server: tuple[Address, Transport]) -> None:
    request = EmbedRequest(model=CHAT_MODEL, texts=["The cat sleeps."])
    base64 = await connected(server).embed(request, CALL)
    floats = await connected(server, embedding_format="float").embed(request, CALL)
    assert base64.vectors[0] == pytest.approx(floats.vectors[0], abs=1e-4)
