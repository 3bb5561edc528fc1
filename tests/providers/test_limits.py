"""Concurrency limits: never more than so many, first come first served, cancelled waiters leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, EmbedResult, Usage
from app.providers.limits import LimitedChat, LimitedEmbedder


class Gate:
    """A vendor whose calls wait at a gate; it knows who is inside."""

    max_batch = 7

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.most = 0
        self.order: list[str] = []
        self.open = asyncio.Event()

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        await self._pass(request.model)
        return ChatResult(text="", model=request.model, finish_reason="stop", usage=Usage())

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        self.inside.append(request.model)
        try:
            while True:
                yield ChatDelta(text="x")
        finally:
            self.inside.remove(request.model)

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        await self._pass(request.model)
        return EmbedResult(vectors=[], model=request.model, usage=Usage())

    async def _pass(self, name: str) -> None:
        self.inside.append(name)
        self.order.append(name)
        self.most = max(self.most, len(self.inside))
        try:
            await self.open.wait()
        finally:
            self.inside.remove(name)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def named(name: int | str) -> ChatRequest:
    return ChatRequest(model=str(name), messages=[])


async def test_chat_and_embeddings_together_stay_below_the_limit_in_order(context: CallContext) -> None:
    gate, slots = Gate(), asyncio.Semaphore(2)
    chat, embedder = LimitedChat(gate, slots), LimitedEmbedder(gate, slots)
    tasks = []
    for number in range(6):
        if number % 2:
            call = embedder.embed(EmbedRequest(model=str(number), texts=[]), context)
            tasks.append(asyncio.ensure_future(call))
        else:
            tasks.append(asyncio.ensure_future(chat.complete(named(number), context)))  # type: ignore[arg-type]  # results of two kinds
        await settle()
    assert gate.inside == ["0", "1"]
    gate.open.set()
    await asyncio.gather(*tasks)
    assert gate.order == [str(number) for number in range(6)]
    assert gate.most == 2


async def test_a_cancelled_waiter_gives_its_place_up(context: CallContext) -> None:
    gate = Gate()
    chat = LimitedChat(gate, asyncio.Semaphore(1))
    first, second, third = (asyncio.create_task(chat.complete(named(n), context)) for n in range(3))
    await settle()
    second.cancel()
    gate.open.set()
    await asyncio.gather(first, third)
    assert gate.order == ["0", "2"]


async def test_a_cancelled_call_frees_its_slot(context: CallContext) -> None:
    gate = Gate()
    chat = LimitedChat(gate, asyncio.Semaphore(1))
    first, second = (asyncio.create_task(chat.complete(named(n), context)) for n in range(2))
    await settle()
    first.cancel()
    await settle()
    assert gate.inside == ["1"]
    gate.open.set()
    await second


async def test_a_stream_holds_its_slot_and_ends_when_it_is_left(context: CallContext) -> None:
    gate = Gate()
    chat = LimitedChat(gate, asyncio.Semaphore(1))
    stream = chat.stream(named("s"), context)
    await anext(stream)
    waiting = asyncio.create_task(chat.complete(named("c"), context))
    await settle()
    assert gate.inside == ["s"]
    await stream.aclose()  # type: ignore[attr-defined]  # the port promises an iterator, this one is a generator
    await settle()
    assert gate.inside == ["c"]
    gate.open.set()
    await waiting


@pytest.mark.parametrize("limit", [1, 3])
async def test_the_batch_size_is_the_vendors(limit: int) -> None:
    assert LimitedEmbedder(Gate(), asyncio.Semaphore(limit)).max_batch == 7
