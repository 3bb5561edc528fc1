"""The `embed` kind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.steps import StepOutcome
from app.steps.embed import CONCURRENT_BATCHES, EmbedConfig, EmbedKind
from app.steps.kind import RENDERED
from tests.steps.fakes import FakeEmbedder, FakeServices, run, vector_of

EMBED = {"provider": "own", "model": "m"}


async def embedded(embedder: FakeEmbedder, value: Any, **changes: Any) -> StepOutcome:
    document = {**EMBED, "input": value, **changes}
    return await run(EmbedKind(), document, FakeServices(embeddings=embedder))


@pytest.mark.parametrize("value", ["", [], [""], ["a", None], None, {"a": "b"}, [["a"]], ["x"] * 10_001])
def test_nothing_to_embed_or_no_text_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        EmbedConfig.model_validate({**EMBED, "input": value}, context=RENDERED)


@pytest.mark.parametrize(
    "changes", [{"dimensions": 0}, {"batch_size": 0}, {"batch_size": True}, {"tempo": 1}]
)
def test_wrong_keys_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EmbedConfig.model_validate({**EMBED, "input": "a", **changes})


async def bounded(embedder: FakeEmbedder, count: int, most: int, **changes: Any) -> StepOutcome:
    document = {**EMBED, "input": ["a"] * count, "batch_size": 100, **changes}
    services = FakeServices(embeddings=embedder)
    return await run(EmbedKind(), document, services, max_output_bytes=most)


async def test_vectors_that_cannot_fit_are_refused_before_any_call() -> None:
    embedder = FakeEmbedder()
    with pytest.raises(PermanentError, match="10,000 vectors of 3,072 numbers do not fit") as refused:
        await bounded(embedder, 10_000, 16 * 2**20, dimensions=3072)
    assert refused.value.error_class == "too_large"
    assert embedder.requests == []


async def test_vectors_whose_length_is_not_known_are_refused_after_the_first_batch() -> None:
    embedder = FakeEmbedder()
    length = len(vector_of("a"))
    with pytest.raises(PermanentError, match=f"1,000 vectors of {length} numbers") as refused:
        await bounded(embedder, 1000, 1000 * length * 4 - 1)
    assert len(embedder.requests) == 1
    assert refused.value.billed is not None
    assert refused.value.billed.usage is not None
    assert refused.value.billed.usage.input_tokens


async def test_vectors_that_may_fit_are_all_asked_for_each_once_and_in_order() -> None:
    embedder = FakeEmbedder()
    outcome = await bounded(embedder, 1000, 1000 * len(vector_of("a")) * 4)
    assert len(embedder.requests) == 10
    assert len(outcome.outputs["vectors"]) == 1000
    assert len({context.idempotency_key for context in embedder.contexts}) == 10


async def test_a_permanent_failure_of_one_batch_is_reported_before_temporary_ones() -> None:
    failing: dict[str, CallError] = {
        "a": TemporaryError("timeout", "late"),
        "b": PermanentError("too_large", "too long"),
        "c": TemporaryError("timeout", "late"),
    }
    embedder = FakeEmbedder(failing=failing, hold=(go := asyncio.Event()))
    step = asyncio.create_task(embedded(embedder, ["a", "b", "c"], batch_size=1))
    await embedder.three_wait.wait()
    go.set()

    with pytest.raises(PermanentError, match="too long"):
        await step


async def test_a_failure_stops_the_batches_that_still_wait() -> None:
    embedder = FakeEmbedder(failing={"a": TemporaryError("server_error", "down")})
    with pytest.raises(TemporaryError, match="down"):
        await embedded(embedder, ["a"] + ["bbbb"] * 50, batch_size=1)
    assert embedder.running == 0
    assert len(embedder.requests) < 50


async def test_a_provider_that_loses_a_vector_is_not_believed() -> None:
    with pytest.raises(TemporaryError, match="1 vectors for 2 texts") as raised:
        await embedded(FakeEmbedder(short_by=1), ["a", "b"])
    assert raised.value.error_class == "invalid_output"


async def test_cancelling_cancels_every_batch() -> None:
    embedder = FakeEmbedder(hold=asyncio.Event())
    step = asyncio.create_task(embedded(embedder, ["a", "b", "c"], batch_size=1))
    await embedder.three_wait.wait()
    step.cancel()

    with pytest.raises(asyncio.CancelledError):
        await step
    assert embedder.running == 0


async def test_a_text_gives_one_vector() -> None:
    outcome = await embedded(FakeEmbedder(), "abc", dimensions=2, input_type="query")

    assert outcome.outputs["vector"] == vector_of("abc")
    assert outcome.outputs["model"] == "embedder-1"
    assert "vectors" not in outcome.outputs
    assert outcome.usage is not None
    assert outcome.usage.input_tokens == 1


async def test_a_list_gives_vectors_in_its_order_whatever_the_batches() -> None:
    texts = ["x" * (number * 7 % 11 + 1) for number in range(23)]
    embedder = FakeEmbedder(max_batch=3)
    outcome = await embedded(embedder, texts)

    assert outcome.outputs["vector"] == [vector_of(text) for text in texts]
    assert outcome.outputs["vectors"] == outcome.outputs["vector"]
    assert {len(request.texts) for request in embedder.requests} == {3, 2}
    assert embedder.most_running <= CONCURRENT_BATCHES
    assert outcome.outputs["usage"]["input_tokens"] == 23
    assert outcome.outputs["usage"]["output_tokens"] is None


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["abc" * 2000, "d"], [1, 1]),  # larger than a call may be: the provider says what it thinks of it
        (["a" * 10] * 5, [2, 2, 1]),
        (["ä" * 5, "b" * 10, "c"], [2, 1]),
        (["a"] * 8, [5, 3]),
    ],
)
async def test_a_call_has_no_more_tokens_than_the_provider_takes_at_once(
    texts: list[str], expected: list[int]
) -> None:
    embedder = FakeEmbedder(max_batch=5, max_batch_tokens=12)
    outcome = await embedded(embedder, texts)

    assert [len(request.texts) for request in embedder.requests] == expected
    assert outcome.outputs["vectors"] == [vector_of(text) for text in texts]


async def test_each_batch_has_an_idempotency_key_of_its_own_that_repeats_in_the_next_attempt() -> None:
    first, second = FakeEmbedder(max_batch=1), FakeEmbedder(max_batch=1)
    await embedded(first, ["a", "b"])
    await embedded(second, ["a", "b"])

    keys = {context.idempotency_key for context in first.contexts}
    assert len(keys) == 2
    assert keys == {context.idempotency_key for context in second.contexts}


async def test_the_batch_size_never_exceeds_what_the_provider_takes() -> None:
    embedder = FakeEmbedder(max_batch=2)
    await embedded(embedder, ["a"] * 5, batch_size=100)

    assert max(len(request.texts) for request in embedder.requests) == 2
