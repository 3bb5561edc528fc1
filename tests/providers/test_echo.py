"""The echo provider: deterministic answers, and failures to order."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, Message, Usage
from app.providers.echo import Echo, EchoConfig

CONTEXT = CallContext(run_id="r", path="p", attempt=1, idempotency_key="k", timeout_seconds=1)


def ask(*texts: str, model: str = "echo", max_tokens: int | None = None) -> ChatRequest:
    messages = [Message(role="user", content=text) for text in texts]
    return ChatRequest(model=model, messages=messages, max_tokens=max_tokens)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("rate_limit", TemporaryError), ("timeout", TemporaryError), ("content_filter", PermanentError)],
)
async def test_a_failure_is_of_the_class_that_the_model_name_orders(name: str, kind: type[CallError]) -> None:
    with pytest.raises(kind) as failed:
        await Echo(EchoConfig()).complete(ask("x", model=f"fail:{name}"), CONTEXT)
    assert failed.value.error_class == name


async def test_an_unknown_failure_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PermanentError, match=r"use one of: .*rate_limit"):
        await Echo(EchoConfig()).complete(ask("x", model="fail:boredom"), CONTEXT)


async def test_a_failure_for_the_first_attempts_ends_with_them() -> None:
    request = ask("x", model="fail:server_error:2")
    for attempt in (1, 2):
        with pytest.raises(TemporaryError):
            await Echo(EchoConfig()).complete(request, replace(CONTEXT, attempt=attempt))
    assert (await Echo(EchoConfig()).complete(request, replace(CONTEXT, attempt=3))).text == "x"


async def test_streams_and_embeddings_fail_alike() -> None:
    echo = Echo(EchoConfig())
    with pytest.raises(TemporaryError):
        await anext(echo.stream(ask("x", model="fail:timeout"), CONTEXT))
    with pytest.raises(TemporaryError):
        await echo.embed(EmbedRequest(model="fail:timeout", texts=["x"]), CONTEXT)


@pytest.mark.parametrize("dimensions", [7, 65, 1536])
async def test_other_dimensions_are_refused(dimensions: int) -> None:
    with pytest.raises(PermanentError, match="8 to 64 dimensions"):
        await Echo(EchoConfig()).embed(EmbedRequest(model="e", texts=["x"], dimensions=dimensions), CONTEXT)


async def test_the_last_user_message_comes_back() -> None:
    request = replace(ask("one", "two words"), messages=[*ask("one", "two words").messages])
    assert await Echo(EchoConfig()).complete(request, CONTEXT) == ChatResult(
        text="two words", model="echo", finish_reason="stop", usage=Usage(input_tokens=3, output_tokens=2)
    )


async def test_parts_are_joined_and_no_user_message_is_silence() -> None:
    parts = ChatRequest(model="e", messages=[Message(role="user", content=[{"text": "a"}, {"text": "b"}])])
    silent = ChatRequest(model="e", messages=[Message(role="system", content="x")])
    assert (await Echo(EchoConfig()).complete(parts, CONTEXT)).text == "ab"
    assert (await Echo(EchoConfig()).complete(silent, CONTEXT)).text == ""


async def test_a_limit_cuts_the_answer() -> None:
    result = await Echo(EchoConfig()).complete(ask("a b c", max_tokens=2), CONTEXT)
    assert (result.text, result.finish_reason, result.usage.output_tokens) == ("a b", "length", 2)


@pytest.mark.parametrize("text", ["", "one", "two  words", "lines\nand more \n", "a b c d"])
async def test_the_pieces_of_a_stream_are_the_whole(text: str) -> None:
    request = ask(text.strip(), max_tokens=3)
    items = [item async for item in Echo(EchoConfig()).stream(request, CONTEXT)]
    result = items[-1]
    assert result == await Echo(EchoConfig()).complete(request, CONTEXT)
    assert "".join(item.text for item in items if isinstance(item, ChatDelta)).rstrip() == result.text


@given(st.lists(st.text(), max_size=4), st.integers(8, 64))
async def test_vectors_have_length_one_and_depend_on_the_text_alone(
    texts: list[str], dimensions: int
) -> None:
    request = EmbedRequest(model="e", texts=texts, dimensions=dimensions)
    first = await Echo(EchoConfig()).embed(request, CONTEXT)
    assert [len(vector) for vector in first.vectors] == [dimensions] * len(texts)
    assert all(math.isclose(math.hypot(*vector), 1.0) for vector in first.vectors)
    assert (await Echo(EchoConfig(name="other")).embed(request, CONTEXT)).vectors == first.vectors


async def test_texts_that_share_words_are_nearer() -> None:
    texts = ["the cat sat on the mat", "a cat on a mat", "quarterly revenue grew strongly"]
    vectors = (await Echo(EchoConfig()).embed(EmbedRequest(model="e", texts=texts), CONTEXT)).vectors
    near, far = (sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:])
    assert near > far
