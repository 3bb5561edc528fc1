"""What every `ChatModel` does over its vendor's wire. An adapter joins by one line in `VENDORS`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import httpx
import orjson
import pytest

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatModel, ChatRequest, ChatResult, Message
from app.providers.transport import Transport
from tests.conformance.chat_vendors import anthropic, azure, cohere, gemini, mistral, ollama, openai
from tests.conformance.chat_vendors.vendor import JSON, KEY, MODEL, ChatVendor, Said, SaidCall

CALL: Final = CallContext(run_id="r", path="p", attempt=1, idempotency_key="r:p", timeout_seconds=5)
QUESTION: Final = ChatRequest(model=MODEL, messages=[Message(role="user", content="Why?")])
LOOK_UP: Final = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks a word up.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}
CALLS: Final = (
    SaidCall(id="call-0", name="look_up", arguments={"word": "a “b”", "deep": {"n": [1, 2.5, None]}}),
    SaidCall(id="call-1", name="look_up", arguments={}),
)

VENDORS: Final[Mapping[str, ChatVendor]] = {
    "anthropic": anthropic.VENDOR,
    "azure": azure.VENDOR,
    "cohere": cohere.VENDOR,
    "gemini": gemini.VENDOR,
    "mistral": mistral.VENDOR,
    "ollama": ollama.VENDOR,
    "openai": openai.VENDOR,
}

Server = (
    Callable[[httpx.Request], httpx.Response]
    | Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]
)


class Body(httpx.AsyncByteStream):
    """Sends chunks and then ends, hangs or breaks; knows when it was let go of."""

    def __init__(self, chunks: Sequence[bytes], *, then: Callable[[], Awaitable[None]] | None = None) -> None:
        self._chunks = chunks
        self._then = then
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._then is not None:
            await self._then()

    async def aclose(self) -> None:
        self.closed.set()


async def breaks() -> None:
    """The connection is reset."""
    raise httpx.ReadError("reset by peer")


def over(vendor: ChatVendor, answer: httpx.Response | Server) -> ChatModel:
    """The adapter over a server, or over one that answers every request alike."""

    def alike(request: httpx.Request) -> httpx.Response:
        del request
        assert isinstance(answer, httpx.Response)
        return answer

    server = alike if isinstance(answer, httpx.Response) else answer
    return vendor.connect(Transport.over_httpx(httpx.MockTransport(server)))


def streamed(vendor: ChatVendor, frames: Sequence[bytes] | httpx.AsyncByteStream) -> ChatModel:
    """The adapter over a server that streams these frames."""
    body = frames if isinstance(frames, httpx.AsyncByteStream) else Body(frames)
    return over(vendor, httpx.Response(200, stream=body, headers=vendor.stream_headers))


def speaking(vendor: ChatVendor, said: Said, *, stream: bool) -> ChatModel:
    """The adapter over a server that says this, in one piece or streamed."""
    return streamed(vendor, vendor.frames(said)) if stream else over(vendor, vendor.whole(said))


async def items(model: ChatModel, request: ChatRequest = QUESTION) -> list[ChatDelta | ChatResult]:
    """All that a stream yields."""
    return [item async for item in model.stream(request, CALL)]


async def ask(
    model: ChatModel, request: ChatRequest = QUESTION, *, stream: bool, context: CallContext = CALL
) -> ChatResult:
    """The result, streamed or not."""
    if not stream:
        return await model.complete(request, context)
    *_, last = [item async for item in model.stream(request, context)]
    assert isinstance(last, ChatResult)
    return last


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> ChatVendor:
    return VENDORS[request.param]


both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


# --- failures -----------------------------------------------------------------------------------------


@both_ways
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
        (529, (TemporaryError, "server_error")),
    ],
)
async def test_a_status_is_an_error_of_its_class_that_names_the_instance_and_no_key(
    vendor: ChatVendor, status: int, expected: tuple[type[CallError], str], stream: bool
) -> None:
    model = over(vendor, vendor.failure(status, f"no, says the vendor of {KEY}"))
    with pytest.raises(CallError) as failed:
        await ask(model, stream=stream)
    assert (type(failed.value), failed.value.error_class) == expected
    assert failed.value.status == status
    assert "'main'" in str(failed.value)
    assert KEY not in str(failed.value)


@both_ways
async def test_the_vendors_own_words_are_passed_on(vendor: ChatVendor, stream: bool) -> None:
    model = over(vendor, vendor.failure(400, "the temperature is too low"))
    with pytest.raises(PermanentError, match="the temperature is too low"):
        await ask(model, stream=stream)


@both_ways
async def test_the_vendors_delay_is_passed_on(vendor: ChatVendor, stream: bool) -> None:
    model = over(vendor, vendor.failure(429, "slow down", {"retry-after": "7"}))
    with pytest.raises(TemporaryError) as failed:
        await ask(model, stream=stream)
    assert (failed.value.error_class, failed.value.retry_after) == ("rate_limit", 7.0)


@both_ways
async def test_a_prompt_that_is_too_long_says_so(vendor: ChatVendor, stream: bool) -> None:
    if vendor.context_error is None:
        pytest.skip("the vendor has no words for it")
    status, body = vendor.context_error
    with pytest.raises(PermanentError) as failed:
        await ask(over(vendor, httpx.Response(status, json=body)), stream=stream)
    assert failed.value.error_class == "context_length"


@both_ways
@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"[]", b'{"error": 7}', b"{}"])
async def test_a_failure_in_other_words_still_has_its_class(
    vendor: ChatVendor, body: bytes, stream: bool
) -> None:
    with pytest.raises(TemporaryError) as failed:
        await ask(over(vendor, httpx.Response(502, content=body)), stream=stream)
    assert (failed.value.error_class, failed.value.status) == ("server_error", 502)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b"{}", b'"text"', b"null"])
async def test_an_answer_that_cannot_be_read_may_be_asked_for_again(vendor: ChatVendor, body: bytes) -> None:
    with pytest.raises(TemporaryError) as failed:
        await ask(over(vendor, httpx.Response(200, content=body, headers=JSON)), stream=False)
    assert failed.value.error_class == "invalid_output"


@pytest.mark.parametrize("payload", [b"nonsense", b"[1]", b'"text"', b"7"])
async def test_a_frame_that_cannot_be_read_may_be_asked_for_again(vendor: ChatVendor, payload: bytes) -> None:
    frames = [*vendor.frames(Said())[:2], vendor.frame(payload)]
    with pytest.raises(TemporaryError) as failed:
        await ask(streamed(vendor, frames), stream=True)
    assert failed.value.error_class == "invalid_output"


async def test_an_error_in_mid_stream_is_an_error(vendor: ChatVendor) -> None:
    if vendor.frame_error is None:
        pytest.skip("the vendor has no words for it")
    said = vendor.frames(Said())
    with pytest.raises(TemporaryError) as failed:
        await ask(streamed(vendor, [*said[:2], vendor.frame_error, *said[2:]]), stream=True)
    assert failed.value.error_class == "server_error"


@pytest.mark.parametrize("said", [Said(), Said(pieces=(), calls=CALLS, finish_reason="tool_calls")])
async def test_a_stream_that_ends_early_is_an_error_or_whole_and_never_less(
    vendor: ChatVendor, said: Said
) -> None:
    whole = await ask(speaking(vendor, said, stream=True), stream=True)
    body = b"".join(vendor.frames(said))
    refused = []
    for end in range(len(body)):
        try:
            result = await ask(streamed(vendor, [body[:end]]), stream=True)
        except TemporaryError as error:
            refused.append(error.error_class)
        else:
            assert (result.text, result.finish_reason) == (whole.text, whole.finish_reason)
            assert result.tool_calls == whole.tool_calls
    assert set(refused) <= {"connection", "invalid_output"}
    assert len(refused) > len(body) / 2


async def test_a_stream_that_is_reset_is_a_connection_error(vendor: ChatVendor) -> None:
    for count in range(3):
        body = Body(vendor.frames(Said())[:count], then=breaks)
        with pytest.raises(TemporaryError) as failed:
            await ask(streamed(vendor, body), stream=True)
        assert failed.value.error_class == "connection"


@both_ways
async def test_a_server_that_cannot_be_reached_is_a_connection_error(
    vendor: ChatVendor, stream: bool
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(TemporaryError) as failed:
        await ask(over(vendor, refuse), stream=stream)
    assert failed.value.error_class == "connection"


@both_ways
async def test_a_server_that_never_answers_is_a_timeout(vendor: ChatVendor, stream: bool) -> None:
    async def hang(request: httpx.Request) -> httpx.Response:
        del request
        await asyncio.Event().wait()
        raise AssertionError("it never ends")

    with pytest.raises(TemporaryError) as failed:
        await ask(over(vendor, hang), stream=stream, context=replace(CALL, timeout_seconds=0.01))
    assert failed.value.error_class == "timeout"


# --- what is not asked --------------------------------------------------------------------------------


def unasked(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"it must not be sent: {request.url}")


@both_ways
async def test_the_vendor_is_not_asked_without_a_key(vendor: ChatVendor, stream: bool) -> None:
    if vendor.keyless is None:
        pytest.skip("it needs no key")
    model = vendor.keyless(Transport.over_httpx(httpx.MockTransport(unasked)))
    with pytest.raises(PermanentError, match="'main'") as failed:
        await ask(model, stream=stream)
    assert failed.value.error_class == "authentication"


@both_ways
async def test_options_of_the_authors_cannot_replace_what_the_service_sets(
    vendor: ChatVendor, stream: bool
) -> None:
    for key in vendor.reserved:
        with pytest.raises(PermanentError, match=repr(key)) as failed:
            await ask(over(vendor, unasked), replace(QUESTION, extra={key: 1}), stream=stream)
        assert failed.value.error_class == "invalid_request"


@both_ways
async def test_text_that_is_no_unicode_is_refused(vendor: ChatVendor, stream: bool) -> None:
    request = replace(QUESTION, messages=[Message(role="user", content="\ud800")])
    with pytest.raises(PermanentError) as failed:
        await ask(over(vendor, unasked), request, stream=stream)
    assert failed.value.error_class == "invalid_request"


# --- requests -----------------------------------------------------------------------------------------


@both_ways
async def test_a_request_carries_the_key_and_the_idempotency_key_and_nothing_secret_in_its_url(
    vendor: ChatVendor, stream: bool
) -> None:
    sent: list[httpx.Request] = []

    def server(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if not stream:
            return vendor.whole(Said())
        return httpx.Response(200, stream=Body(vendor.frames(Said())), headers=vendor.stream_headers)

    conversation = [
        Message(role="system", content="Be brief."),
        Message(role="user", content="What is a b?"),
        Message(role="assistant", content="", extra={"tool_calls": [tool_call(CALLS[0])]}),
        Message(role="tool", content="A letter.", extra={"tool_call_id": "call-0"}),
    ]
    request = replace(QUESTION, messages=conversation, tools=[LOOK_UP], max_tokens=20, stop=["END"])
    await ask(over(vendor, server), request, stream=stream)
    assert any(KEY in value for value in sent[0].headers.values()) is vendor.sends_key
    assert sent[0].headers["idempotency-key"] == "r:p"
    assert KEY not in str(sent[0].url)
    body = sent[0].content.decode()
    for part in ("Be brief.", "What is a b?", "look_up", "A letter.", "END", "20"):
        assert part in body


# --- answers ------------------------------------------------------------------------------------------


def tool_call(call: SaidCall) -> dict[str, Any]:
    """A call in the shape in which all adapters give and take it."""
    arguments = orjson.dumps(call.arguments).decode()
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


@both_ways
async def test_an_answer_has_its_text_model_and_usage(vendor: ChatVendor, stream: bool) -> None:
    said = Said()
    result = await ask(speaking(vendor, said, stream=stream), stream=stream)
    assert (result.text, result.model, result.finish_reason) == (said.text, MODEL, "stop")
    assert (result.usage.input_tokens, result.usage.output_tokens) == (12, 3)
    assert list(result.tool_calls) == []


@pytest.mark.parametrize(
    "said",
    [
        Said(),
        Said(pieces=("",)),
        Said(pieces=("", "a", "", "\n\ndata: b", " ")),
        Said(pieces=("Let me see.",), calls=CALLS, finish_reason="tool_calls"),
        Said(pieces=(), calls=CALLS[1:], finish_reason="tool_calls"),
    ],
    ids=["text", "empty", "odd text", "text and calls", "calls"],
)
async def test_a_streamed_answer_is_the_unstreamed_one_in_pieces(vendor: ChatVendor, said: Said) -> None:
    *deltas, last = await items(speaking(vendor, said, stream=True))
    assert all(isinstance(delta, ChatDelta) for delta in deltas)
    assert [delta.text for delta in deltas] == [piece for piece in said.pieces if piece]
    assert last == await ask(speaking(vendor, said, stream=False), stream=False)
    assert last.text == said.text


async def test_a_stream_may_be_cut_anywhere_on_its_way(vendor: ChatVendor) -> None:
    said = Said(calls=CALLS[:1], finish_reason="tool_calls")
    body = b"".join(vendor.frames(said))
    bytewise = streamed(vendor, [body[place : place + 1] for place in range(len(body))])
    assert await items(bytewise) == await items(streamed(vendor, [body]))


@both_ways
async def test_tool_calls_have_one_shape(vendor: ChatVendor, stream: bool) -> None:
    said = Said(pieces=(), calls=CALLS, finish_reason="tool_calls")
    result = await ask(
        speaking(vendor, said, stream=stream), replace(QUESTION, tools=[LOOK_UP]), stream=stream
    )
    assert (result.text, result.finish_reason) == ("", "tool_calls")
    given = list(result.tool_calls)
    ids = [call["id"] for call in given]
    assert given == [{**tool_call(call), "id": made} for call, made in zip(CALLS, ids, strict=True)]
    assert ids == ["call-0", "call-1"] if vendor.keeps_call_ids else len(set(filter(None, ids))) == 2


@both_ways
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter"])
async def test_finish_reasons_are_translated(vendor: ChatVendor, reason: Any, stream: bool) -> None:
    if reason not in vendor.reasons:
        pytest.skip("the vendor has no word for it")
    model = speaking(vendor, Said(finish_reason=reason), stream=stream)
    assert (await ask(model, stream=stream)).finish_reason == reason


@both_ways
async def test_calls_at_the_same_time_do_not_mix(vendor: ChatVendor, stream: bool) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        name = "ann" if b"ann" in request.content else "bob"
        said = Said(pieces=(name, "!"))
        if not stream:
            return vendor.whole(said)
        return httpx.Response(200, stream=Body(vendor.frames(said)), headers=vendor.stream_headers)

    model = over(vendor, server)
    asked = [replace(QUESTION, messages=[Message(role="user", content=name)]) for name in ("ann", "bob") * 5]
    answers = await asyncio.gather(*(ask(model, request, stream=stream) for request in asked))
    assert [answer.text for answer in answers] == ["ann!", "bob!"] * 5


# --- ending early -------------------------------------------------------------------------------------


@both_ways
async def test_cancelling_aborts_a_call_that_waits_for_its_answer(vendor: ChatVendor, stream: bool) -> None:
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

    task = asyncio.create_task(ask(over(vendor, hang), stream=stream))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert aborted.is_set()


async def test_cancelling_a_stream_lets_go_of_the_connection(vendor: ChatVendor) -> None:
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    body = Body(vendor.frames(Said())[:2], then=hang)
    task = asyncio.create_task(ask(streamed(vendor, body), stream=True))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert body.closed.is_set()


async def test_leaving_a_stream_lets_go_of_the_connection(vendor: ChatVendor) -> None:
    body = Body(vendor.frames(Said()))
    stream = streamed(vendor, body).stream(QUESTION, CALL)
    assert isinstance(await anext(stream), ChatDelta)
    await stream.aclose()  # type: ignore[attr-defined]  # the port promises an iterator, these are generators
    assert body.closed.is_set()
