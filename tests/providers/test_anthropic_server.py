"""The Anthropic adapter against a real server: llama.cpp's own `/v1/messages`, with the packaged model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from pydantic import SecretStr

from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, Message
from app.providers.anthropic.adapter import Anthropic, AnthropicConfig
from app.providers.local.models import LocalModels
from app.providers.local.packages import CHAT_MODEL
from app.providers.transport import Transport
from tests.conftest import require_or_skip

CALL = CallContext(run_id="run", path="step", attempt=1, idempotency_key="key", timeout_seconds=60.0)
QUESTION = ChatRequest(
    model=CHAT_MODEL,
    messages=[
        Message(role="system", content="Answer from the notes."),
        Message(
            role="user",
            content=[
                {"type": "text", "text": "Notes:\n- The mirror is cleaned once a year, in February.\n\n"},
                {"type": "text", "text": "Question: How often is the mirror cleaned?\nAnswer:"},
            ],
        ),
    ],
    temperature=0,
    max_tokens=24,
)
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[tuple[str, str, Transport]]:
    """Base URL and key of the packaged model's server, and a way to it."""
    if not LocalModels.chat_available():
        require_or_skip("the packaged chat model is missing", "run `make setup-local`")
    transport = Transport.over_sockets()
    models = LocalModels(transport, context_tokens=512)
    address = await models._model_process().address(timeout_seconds=60)
    yield address.base_url.removesuffix("/v1"), address.api_key, transport
    await models.close()
    await transport.aclose()


@pytest.fixture
def adapter(server: tuple[str, str, Transport]) -> Anthropic:
    base_url, key, transport = server
    return Anthropic(AnthropicConfig(name="llama", base_url=base_url, api_key=SecretStr(key)), transport)


async def test_a_wrong_key_is_refused(server: tuple[str, str, Transport]) -> None:
    base_url, _, transport = server
    config = AnthropicConfig(name="llama", base_url=base_url, api_key=SecretStr("wrong"))
    with pytest.raises(PermanentError, match="refused its credentials") as refused:
        await Anthropic(config, transport).complete(QUESTION, CALL)
    assert refused.value.error_class == "authentication"


async def test_a_question_longer_than_the_context_says_so(adapter: Anthropic) -> None:
    long = replace(QUESTION, messages=[Message(role="user", content="word " * 2000)])
    with pytest.raises(PermanentError) as refused:
        await adapter.complete(long, CALL)
    assert refused.value.error_class == "context_length"


async def test_it_answers_from_a_given_text_and_counts_its_tokens(adapter: Anthropic) -> None:
    result = await adapter.complete(QUESTION, CALL)
    assert "once a year" in result.text
    assert result.model == CHAT_MODEL
    assert result.usage.input_tokens is not None
    assert result.usage.input_tokens > 30
    assert result.usage.output_tokens


async def test_streamed_answers_are_the_whole_one_in_pieces(adapter: Anthropic) -> None:
    whole = await adapter.complete(QUESTION, CALL)
    *deltas, last = [item async for item in adapter.stream(QUESTION, CALL)]
    assert isinstance(last, ChatResult)
    assert all(isinstance(delta, ChatDelta) for delta in deltas)
    assert len(deltas) > 1
    assert "".join(delta.text for delta in deltas) == last.text == whole.text
    assert last.finish_reason == whole.finish_reason
    assert last.usage.input_tokens == whole.usage.input_tokens
    assert last.usage.output_tokens == whole.usage.output_tokens
