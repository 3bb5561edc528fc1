"""What every `Embedder` does, and over its vendor's wire. An adapter joins by one line in `VENDORS`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final

import httpx
import orjson
import pytest

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, Embedder, EmbedRequest
from app.providers.transport import Transport
from tests.conformance.embed_vendors import azure, cohere, echo, gemini, mistral, ollama, openai
from tests.conformance.embed_vendors.vendor import JSON, KEY, MODEL, EmbedVendor, EmbedWire

CALL: Final = CallContext(run_id="r", path="p", attempt=1, idempotency_key="r:p", timeout_seconds=5)
TEXTS: Final = ("a cat", "a dog", "a house “by” the lake", "a cat", "größer")
REQUEST: Final = EmbedRequest(model=MODEL, texts=TEXTS)

VENDORS: Final[Mapping[str, EmbedVendor]] = {
    "azure": azure.VENDOR,
    "cohere": cohere.VENDOR,
    "echo": echo.VENDOR,
    "gemini": gemini.VENDOR,
    "mistral": mistral.VENDOR,
    "ollama": ollama.VENDOR,
    "openai": openai.VENDOR,
    "openai, floats": openai.FLOATS,
}

Server = (
    Callable[[httpx.Request], httpx.Response]
    | Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]
)
Spoil = Callable[[list[Any]], list[Any]]
"""What a bad server makes of good vectors."""


def vector(text: str, dimensions: int) -> list[float]:
    """Numbers that only this text has, the same wherever it stands."""
    seed = sum(place * byte for place, byte in enumerate(text.encode(), start=1))
    return [float((seed * (place + 1)) % 97) / 4 for place in range(dimensions)]


def serving(wire: EmbedWire, spoil: Spoil = list) -> Callable[[httpx.Request], httpx.Response]:
    """The vendor's server."""

    def server(request: httpx.Request) -> httpx.Response:
        asked = orjson.loads(request.content)
        length = wire.dimensions(asked) or 8
        vectors = [vector(text, length) for text in wire.texts(asked)]
        return httpx.Response(200, content=orjson.dumps(wire.answer(asked, spoil(vectors))), headers=JSON)

    return server


def over(vendor: EmbedVendor, answer: httpx.Response | Server | None = None) -> Embedder:
    """The adapter over its vendor's server, another one, or one that answers every request alike."""

    def alike(request: httpx.Request) -> httpx.Response:
        del request
        assert isinstance(answer, httpx.Response), "nobody should have been called"
        return answer

    server: Server = alike
    if answer is None and vendor.wire is not None:
        server = serving(vendor.wire)
    elif callable(answer):
        server = answer
    return vendor.connect(Transport.over_httpx(httpx.MockTransport(server)))


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> EmbedVendor:
    return VENDORS[request.param]


@pytest.fixture(params=[name for name, vendor in VENDORS.items() if vendor.wire])
def remote(request: pytest.FixtureRequest) -> EmbedVendor:
    return VENDORS[request.param]


@pytest.fixture
def wire(remote: EmbedVendor) -> EmbedWire:
    assert remote.wire is not None
    return remote.wire


# --- failures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, (PermanentError, "invalid_request")),
        (401, (PermanentError, "authentication")),
        (403, (PermanentError, "permission")),
        (404, (PermanentError, "not_found")),
        (413, (PermanentError, "too_large")),
        (429, (TemporaryError, "rate_limit")),
        (500, (TemporaryError, "server_error")),
        (503, (TemporaryError, "server_error")),
        (504, (TemporaryError, "timeout")),
    ],
)
async def test_a_status_is_an_error_of_its_class_that_names_the_instance_and_no_key(
    remote: EmbedVendor, wire: EmbedWire, status: int, expected: tuple[type[CallError], str]
) -> None:
    with pytest.raises(CallError) as failed:
        await over(remote, wire.failure(status, f"no, says the vendor of {KEY}")).embed(REQUEST, CALL)
    assert (type(failed.value), failed.value.error_class) == expected
    assert failed.value.status == status
    assert "'main'" in str(failed.value)
    assert KEY not in str(failed.value)


async def test_the_vendors_own_words_and_delay_are_passed_on(remote: EmbedVendor, wire: EmbedWire) -> None:
    with pytest.raises(PermanentError, match="the model embeds no poems"):
        await over(remote, wire.failure(400, "the model embeds no poems")).embed(REQUEST, CALL)
    with pytest.raises(TemporaryError) as failed:
        await over(remote, wire.failure(429, "slow down", {"retry-after": "7"})).embed(REQUEST, CALL)
    assert failed.value.retry_after == 7.0


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"[]", b'{"error": 7}', b"{}"])
async def test_a_failure_in_other_words_still_has_its_class(remote: EmbedVendor, body: bytes) -> None:
    with pytest.raises(TemporaryError) as failed:
        await over(remote, httpx.Response(502, content=body)).embed(REQUEST, CALL)
    assert (failed.value.error_class, failed.value.status) == ("server_error", 502)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b"{}", b'"text"', b"null"])
async def test_an_answer_that_cannot_be_read_may_be_asked_for_again(remote: EmbedVendor, body: bytes) -> None:
    with pytest.raises(TemporaryError) as failed:
        await over(remote, httpx.Response(200, content=body, headers=JSON)).embed(REQUEST, CALL)
    assert failed.value.error_class == "invalid_output"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda vectors: vectors[:-1],
        lambda vectors: [*vectors, vectors[0]],
        lambda _: [],
        lambda vectors: [*vectors[:-1], vectors[-1][:-1]],
        lambda vectors: [vectors[0][:-1], *vectors[1:]],
        lambda vectors: [*vectors[:-1], []],
        lambda vectors: [[] for _ in vectors],
        lambda vectors: [*vectors[:-1], None],
        lambda vectors: [*vectors[:-1], "not numbers"],
        lambda vectors: [*vectors[:-1], [None] * 8],
        lambda vectors: [*vectors[:-1], [True] * 8],
        lambda vectors: [*vectors[:-1], [[1.0]] * 8],
    ],
    ids=[
        *("one too few", "one too many", "none", "a short one", "a short first one", "an empty one"),
        *("empty ones", "null", "a text", "nulls", "booleans", "nested"),
    ],
)
async def test_vectors_that_do_not_fit_the_texts_may_be_asked_for_again(
    remote: EmbedVendor, wire: EmbedWire, spoil: Spoil
) -> None:
    with pytest.raises(TemporaryError) as failed:
        await over(remote, serving(wire, spoil)).embed(REQUEST, CALL)
    assert failed.value.error_class == "invalid_output"


async def test_vectors_of_another_length_than_asked_for_are_refused(
    remote: EmbedVendor, wire: EmbedWire
) -> None:
    if remote.dimensions is None:
        pytest.skip("there is no choice of lengths")
    short = serving(wire, lambda vectors: [vector[:-1] for vector in vectors])
    with pytest.raises(TemporaryError) as failed:
        await over(remote, short).embed(replace(REQUEST, dimensions=remote.dimensions), CALL)
    assert failed.value.error_class == "invalid_output"


async def test_a_server_that_cannot_be_reached_is_a_connection_error(remote: EmbedVendor) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(TemporaryError) as failed:
        await over(remote, refuse).embed(REQUEST, CALL)
    assert failed.value.error_class == "connection"


async def test_a_server_that_never_answers_is_a_timeout(remote: EmbedVendor) -> None:
    async def hang(request: httpx.Request) -> httpx.Response:
        del request
        await asyncio.Event().wait()
        raise AssertionError("it never ends")

    with pytest.raises(TemporaryError) as failed:
        await over(remote, hang).embed(REQUEST, replace(CALL, timeout_seconds=0.01))
    assert failed.value.error_class == "timeout"


# --- what is not asked --------------------------------------------------------------------------------


def unasked(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"it must not be sent: {request.url}")


async def test_the_vendor_is_not_asked_without_a_key(wire: EmbedWire) -> None:
    if wire.keyless is None:
        pytest.skip("it needs no key")
    embedder = wire.keyless(Transport.over_httpx(httpx.MockTransport(unasked)))
    with pytest.raises(PermanentError, match="'main'") as failed:
        await embedder.embed(REQUEST, CALL)
    assert failed.value.error_class == "authentication"


async def test_more_texts_than_it_says_are_refused(remote: EmbedVendor) -> None:
    embedder = over(remote, unasked)
    texts = ["a"] * (embedder.max_batch + 1)
    with pytest.raises(PermanentError, match=f"'main' takes at most {embedder.max_batch} texts") as failed:
        await embedder.embed(replace(REQUEST, texts=texts), CALL)
    assert failed.value.error_class == "invalid_request"


async def test_text_that_is_no_unicode_is_refused(remote: EmbedVendor) -> None:
    with pytest.raises(PermanentError) as failed:
        await over(remote, unasked).embed(replace(REQUEST, texts=["\ud800"]), CALL)
    assert failed.value.error_class == "invalid_request"


# --- requests -----------------------------------------------------------------------------------------


async def test_a_request_carries_the_key_and_the_idempotency_key_and_nothing_secret_in_its_url(
    remote: EmbedVendor, wire: EmbedWire
) -> None:
    sent: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return serving(wire)(request)

    await over(remote, server).embed(REQUEST, CALL)
    assert any(KEY in value for value in sent[0].headers.values())
    assert sent[0].headers["idempotency-key"] == "r:p"
    assert KEY not in str(sent[0].url)
    assert list(wire.texts(orjson.loads(sent[0].content))) == list(TEXTS)


# --- answers ------------------------------------------------------------------------------------------


async def test_every_text_has_its_vector_in_its_place(vendor: EmbedVendor) -> None:
    embedder = over(vendor)
    together = (await embedder.embed(REQUEST, CALL)).vectors
    alone = [(await embedder.embed(replace(REQUEST, texts=[text]), CALL)).vectors for text in TEXTS]

    assert [list(vector) for vector in together] == [list(vectors[0]) for vectors in alone]
    assert len({tuple(vector) for vector in together}) == len(set(TEXTS))
    assert len({len(vector) for vector in together}) == 1


async def test_vectors_have_the_length_that_was_asked_for(vendor: EmbedVendor) -> None:
    if vendor.dimensions is None:
        pytest.skip("there is no choice of lengths")
    result = await over(vendor).embed(replace(REQUEST, dimensions=vendor.dimensions), CALL)
    assert {len(vector) for vector in result.vectors} == {vendor.dimensions}


async def test_an_answer_names_its_model_and_counts_its_tokens(vendor: EmbedVendor) -> None:
    result = await over(vendor).embed(REQUEST, CALL)
    assert result.model == MODEL
    assert result.usage.output_tokens is None
    assert (result.usage.input_tokens or 0) > 0 if vendor.counts_tokens else True


async def test_as_many_texts_as_it_says_are_taken(vendor: EmbedVendor) -> None:
    embedder = over(vendor)
    texts = [f"number {number}" for number in range(embedder.max_batch)]
    assert len((await embedder.embed(replace(REQUEST, texts=texts), CALL)).vectors) == len(texts)


async def test_calls_at_the_same_time_do_not_mix(vendor: EmbedVendor) -> None:
    embedder = over(vendor)
    requests = [replace(REQUEST, texts=[text]) for text in TEXTS] * 3
    alone = [await embedder.embed(request, CALL) for request in requests]
    assert await asyncio.gather(*(embedder.embed(request, CALL) for request in requests)) == alone


async def test_cancelling_aborts_the_call(remote: EmbedVendor) -> None:
    asked, aborted = asyncio.Event(), asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        del request
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            aborted.set()
            raise
        raise AssertionError("it never ends")

    task = asyncio.create_task(over(remote, hang).embed(REQUEST, CALL))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert aborted.is_set()
