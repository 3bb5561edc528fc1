"""Calls behind a guard: bounded, refused while their callee rests, and let go whatever happens to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.observability.metrics import Metrics
from app.ports.errors import ErrorClass, PermanentError, TemporaryError
from app.ports.models import (
    CallContext,
    ChatDelta,
    ChatRequest,
    ChatResult,
    EmbedRequest,
    EmbedResult,
    Message,
    RerankRequest,
    RerankResult,
    Usage,
)
from app.ports.provider_status import Bounds, CallsStatus
from app.providers.breaker import BreakerPolicy
from app.providers.guard import MOST_MODELS, Clocks, Guard, GuardTerms
from app.providers.guarded import GuardedChat, GuardedEmbedder, GuardedReranker

USAGE = Usage(input_tokens=10, output_tokens=5)
POLICY = BreakerPolicy(min_calls=4, open_seconds=5, max_open_seconds=20, probe_seconds=8)


class Vendor:
    """Answers, fails or waits at a gate, as it is told."""

    max_batch = 7
    max_batch_tokens: int | None = 70
    max_documents = 9

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.calls: list[str] = []
        self.timeouts: list[float] = []
        self.failure: BaseException | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        await self._pass(request.model, context)
        return ChatResult(text="", model=request.model, finish_reason="stop", usage=USAGE)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        await self._pass(request.model, context)
        self.inside.append(request.model)
        try:
            for _ in range(3):
                yield ChatDelta(text="x")
            yield ChatResult(text="xxx", model=request.model, finish_reason="stop", usage=USAGE)
        finally:
            self.inside.remove(request.model)

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        await self._pass(request.model, context)
        return EmbedResult(vectors=[], model=request.model, usage=USAGE)

    async def rerank(self, request: RerankRequest, context: CallContext) -> RerankResult:
        await self._pass(request.model, context)
        return RerankResult(ranking=[], model=request.model, usage=USAGE)

    async def _pass(self, name: str, context: CallContext) -> None:
        self.calls.append(name)
        self.timeouts.append(context.timeout_seconds)
        self.inside.append(name)
        try:
            await self.open.wait()
            if self.failure is not None:
                raise self.failure
        finally:
            self.inside.remove(name)


class World:
    """A vendor behind a guard, and a clock that goes by itself only with `real`."""

    def __init__(self, *, real: bool = False, breaker: BreakerPolicy | None = POLICY, **more: Any) -> None:
        self.time = 1000.0
        self.registry = CollectorRegistry()
        monotonic: Callable[[], float] = time.monotonic if real else lambda: self.time
        self.guard = Guard(
            "main",
            GuardTerms(breaker=breaker, bounds=more.pop("bounds", Bounds()), models=more.pop("models", {})),
            Metrics(self.registry),
            Clocks(monotonic=monotonic, now=lambda: 1_767_605_400.0),
        )
        self.vendor = Vendor()
        self.chat = GuardedChat(self.vendor, self.guard)
        self.context = CallContext(run_id="r", path="p", attempt=1, idempotency_key="k", timeout_seconds=10.0)

    async def ask(self, model: str = "m", **context: Any) -> ChatResult:
        return await self.chat.complete(named(model), replace(self.context, **context))

    def task(self, model: str = "m", **context: Any) -> asyncio.Task[ChatResult]:
        return asyncio.create_task(self.ask(model, **context))

    async def fails(self, error: BaseException, times: int = 1) -> None:
        """Calls that end so."""
        self.vendor.failure = error
        for _ in range(times):
            with pytest.raises(type(error)):
                await self.ask()
        self.vendor.failure = None

    async def opened(self, error_class: ErrorClass = "server_error") -> None:
        await self.fails(TemporaryError(error_class, "no", status=503), times=4)
        assert self.status().breaker is not None
        assert self.state() == "open"

    def status(self, model: str = "m") -> CallsStatus:
        return next(it for it in self.guard.status() if it.name == model)

    def state(self) -> str:
        breaker = self.status().breaker
        return "" if breaker is None else breaker.state

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"orchestrator_provider_{name}", {"provider": "main", **labels})


def named(model: str, text: str = "") -> ChatRequest:
    return ChatRequest(model=model, messages=[Message(role="user", content=text)])


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


# --- the breaker --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error_class", ["server_error", "timeout", "connection"])
async def test_a_model_that_fails_is_left_alone_and_who_asks_is_told_why(error_class: ErrorClass) -> None:
    world = World()
    await world.opened(error_class)
    calls = len(world.vendor.calls)
    with pytest.raises(TemporaryError) as refused:
        await world.ask()
    assert len(world.vendor.calls) == calls
    assert (refused.value.error_class, refused.value.retry_after) == (error_class, 5.0)
    assert refused.value.unsent
    assert "model 'm' of instance 'main' was not called" in str(refused.value)
    assert "rests until 2026-01-05T09:30:05Z" in str(refused.value)
    assert world.sample("refused_total", model="m", reason="breaker") == 1
    assert world.sample("breaker_state", model="m") == 2


@pytest.mark.parametrize(
    "error",
    [
        TemporaryError("rate_limit", "slow down", status=429),
        TemporaryError("invalid_output", "no JSON"),
        PermanentError("invalid_request", "no", status=400),
        PermanentError("authentication", "there is no key"),
        PermanentError("server_error", "never", status=501),
        ZeroDivisionError(),
        asyncio.CancelledError(),
    ],
    ids=repr,
)
async def test_other_failures_open_nothing(error: BaseException) -> None:
    world = World()
    await world.fails(error, times=50)
    assert world.state() == "closed"


async def test_other_models_of_the_instance_go_on() -> None:
    world = World()
    await world.opened()
    assert (await world.ask("n")).model == "n"


async def test_a_probe_that_succeeds_lets_everybody_in_again() -> None:
    world = World()
    await world.opened()
    world.time += 5
    world.vendor.open.clear()
    probe = world.task()
    await settle()
    assert world.sample("breaker_state", model="m") == 1
    with pytest.raises(TemporaryError):
        await world.ask()
    world.vendor.open.set()
    await probe
    await world.ask()
    assert world.sample("breaker_state", model="m") == 0


async def test_a_probe_that_fails_doubles_the_rest() -> None:
    world = World()
    await world.opened()
    world.time += 5
    await world.fails(TemporaryError("timeout", "no"))
    with pytest.raises(TemporaryError) as refused:
        await world.ask()
    assert (refused.value.error_class, refused.value.retry_after) == ("timeout", 10.0)


@pytest.mark.parametrize("answer", ["rate_limit", "invalid_request"])
async def test_a_probe_that_is_answered_closes_whatever_the_answer(answer: ErrorClass) -> None:
    world = World()
    await world.opened()
    world.time += 5
    await world.fails(TemporaryError(answer, "no", status=429))
    assert world.state() == "closed"


async def test_a_probe_that_is_cancelled_makes_room_for_the_next() -> None:
    world = World()
    await world.opened()
    world.time += 5
    world.vendor.open.clear()
    probe = world.task()
    await settle()
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    world.vendor.open.set()
    await world.ask()
    assert world.state() == "closed"


async def test_a_probe_that_hangs_makes_room_in_time() -> None:
    world = World()
    await world.opened()
    world.time += 5
    world.vendor.open.clear()
    hanging = world.task()
    await settle()
    world.time += POLICY.probe_seconds
    world.vendor.open.set()
    await world.ask()
    assert world.state() == "closed"
    await hanging


async def test_a_stream_proves_itself_with_its_first_item() -> None:
    world = World()
    await world.opened()
    world.time += 5
    stream: Any = world.chat.stream(named("m"), world.context)
    await anext(stream)
    assert world.state() == "closed"
    await world.ask()
    await stream.aclose()
    assert world.status().in_flight == 0


async def test_a_call_cancelled_when_its_time_was_up_was_not_answered() -> None:
    world = World()
    world.vendor.open.clear()
    tasks = [world.task() for _ in range(4)]
    await settle()
    world.time += 9.9
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert world.state() == "open"
    with pytest.raises(TemporaryError) as refused:
        await world.ask()
    assert refused.value.error_class == "timeout"


async def test_an_impatient_caller_closes_nothing_to_the_others() -> None:
    world = World()
    world.vendor.failure = TemporaryError("timeout", "it did not answer within 1 s")
    for _ in range(20):
        with pytest.raises(TemporaryError):
            await world.ask(timeout_seconds=1.0)
    world.vendor.open.clear()
    tasks = [world.task(timeout_seconds=1.0) for _ in range(20)]
    await settle()
    world.time += 1.0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert world.state() == "closed"


async def test_who_waits_for_room_is_refused_when_the_breaker_opens() -> None:
    world = World(bounds=Bounds(max_concurrency=4))
    world.vendor.open.clear()
    world.vendor.failure = TemporaryError("server_error", "no", status=500)
    tasks = [world.task() for _ in range(30)]
    await settle()
    world.vendor.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(it, TemporaryError) for it in results)
    assert 4 <= len(world.vendor.calls) < 12
    assert world.guard.limiter is not None
    assert (world.guard.limiter.in_flight, world.guard.limiter.waiting) == (0, 0)


# --- bounds -------------------------------------------------------------------------------------------


async def test_calls_of_all_sorts_stay_within_the_instances_bound() -> None:
    world = World(bounds=Bounds(max_concurrency=2))
    world.vendor.open.clear()
    embedder, reranker = (
        GuardedEmbedder(world.vendor, world.guard),
        GuardedReranker(world.vendor, world.guard),
    )
    assert (embedder.max_batch, embedder.max_batch_tokens, reranker.max_documents) == (7, 70, 9)
    tasks: list[asyncio.Task[Any]] = [
        world.task("a"),
        asyncio.create_task(embedder.embed(EmbedRequest(model="b", texts=["x"]), world.context)),
        asyncio.create_task(
            reranker.rerank(RerankRequest(model="c", query="q", documents=["d"]), world.context)
        ),
    ]
    await settle()
    assert world.vendor.inside == ["a", "b"]
    assert world.status("c").waiting == 1
    assert world.sample("calls_waiting") == 1
    world.vendor.open.set()
    await asyncio.gather(*tasks)
    assert world.sample("calls_waiting") == 0


async def test_a_model_has_bounds_of_its_own_and_leaves_room_to_the_others() -> None:
    world = World(bounds=Bounds(max_concurrency=3), models={"big": Bounds(max_concurrency=1)})
    world.vendor.open.clear()
    tasks = [world.task("big") for _ in range(5)] + [world.task("small") for _ in range(5)]
    await settle()
    assert sorted(world.vendor.inside) == ["big", "small", "small"]
    world.vendor.open.set()
    await asyncio.gather(*tasks)


async def test_a_wait_that_takes_too_long_is_a_rate_limit_that_says_which() -> None:
    world = World(real=True, bounds=Bounds(max_concurrency=1))
    world.vendor.open.clear()
    first = world.task()
    await settle()
    with pytest.raises(TemporaryError, match=r"main' is at its limit \(max_concurrency 1\)") as refused:
        await world.ask(timeout_seconds=0.05)
    assert refused.value.error_class == "rate_limit"
    assert refused.value.retry_after == 1.0
    assert refused.value.unsent
    assert world.sample("refused_total", model="m", reason="limit") == 1
    world.vendor.open.set()
    await first


async def test_time_spent_waiting_is_taken_off_the_call() -> None:
    world = World(bounds=Bounds(max_concurrency=1))
    world.vendor.open.clear()
    first, second = world.task(), world.task()
    await settle()
    world.time += 4
    world.vendor.open.set()
    await asyncio.gather(first, second)
    assert world.vendor.timeouts == [10.0, 6.0]


async def test_tenants_take_turns() -> None:
    world = World(bounds=Bounds(max_concurrency=1))
    world.vendor.open.clear()
    tasks = [world.task(f"a{n}", tenant="a") for n in range(4)]
    await settle()
    tasks += [world.task(f"b{n}", tenant="b") for n in range(2)]
    await settle()
    world.vendor.open.set()
    await asyncio.gather(*tasks)
    assert world.vendor.calls == ["a0", "a1", "b0", "a2", "b1", "a3"]


async def test_tokens_are_reserved_by_an_estimate_and_settled_by_what_was_used() -> None:
    world = World(models={"m": Bounds(tokens_per_minute=20_000)})
    world.vendor.open.clear()
    parts = [{"type": "text", "text": "x" * 400}, {"type": "image_url"}]
    request = ChatRequest(model="m", messages=[Message(role="user", content=parts)], max_tokens=890)
    task = asyncio.create_task(world.chat.complete(request, world.context))
    await settle()
    limiter = world.guard.lane("m").limiter
    assert limiter is not None
    assert not limiter.enter_now(10)  # 991 of the 1,000 that may be taken at once
    world.vendor.open.set()
    await task
    assert limiter.enter_now(985)
    assert not limiter.enter_now(1)


async def test_a_stream_holds_its_place_until_it_is_left() -> None:
    world = World(bounds=Bounds(max_concurrency=1))
    stream: Any = world.chat.stream(named("s"), world.context)
    await anext(stream)
    waiting = world.task("c")
    await settle()
    assert world.vendor.inside == ["s"]
    await stream.aclose()
    await waiting
    assert world.vendor.calls == ["s", "c"]


async def test_a_thousand_cancelled_calls_keep_no_place() -> None:
    world = World(
        bounds=Bounds(max_concurrency=5, requests_per_minute=10**6),
        models={"m": Bounds(max_concurrency=3, tokens_per_minute=10**8)},
    )
    world.vendor.open.clear()
    for _ in range(10):
        tasks = [world.task(tenant=str(n % 7)) for n in range(100)]
        await settle()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    lane = world.guard.lane("m")
    for limiter in (world.guard.limiter, lane.limiter):
        assert limiter is not None
        assert (limiter.in_flight, limiter.waiting) == (0, 0)
    assert (lane.in_flight, lane.waiting, world.sample("calls_waiting")) == (0, 0, 0)
    world.vendor.open.set()
    await asyncio.gather(*(world.task() for _ in range(20)))


# --- what is told -------------------------------------------------------------------------------------


async def test_models_past_the_first_ones_share_a_line() -> None:
    world = World()
    for number in range(MOST_MODELS + 50):
        await world.ask(f"model-{number}")
    await world.ask("x" * 100_000)
    names = [it.name for it in world.guard.status()]
    assert len(names) == MOST_MODELS + 1
    assert world.status("other").calls == 51


async def test_the_latest_failure_is_told() -> None:
    world = World()
    await world.ask()
    assert world.status().last_failure is None
    await world.fails(PermanentError("context_length", "too long", status=400))
    failure = world.status().last_failure
    assert failure is not None
    assert (failure.error_class, failure.at) == ("context_length", 1_767_605_400.0)
    assert world.status().calls == 2


def test_bounds_that_cannot_work_are_refused_with_their_instance() -> None:
    with pytest.raises(ValueError, match="tokens_per_minute of model 'm' of instance 'main' must be"):
        World(models={"m": Bounds(tokens_per_minute=0)})


async def test_without_bounds_and_breaker_calls_go_through() -> None:
    world = World(breaker=None)
    await world.fails(TemporaryError("server_error", "no"), times=50)
    await world.ask()
    assert world.status().breaker is None
