"""A wrapped instance against a server that breaks every rule: classified in time, bounded, nothing kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import psutil
import pytest

from app.observability.recorder import NoMetrics
from app.observability.tracing import NullTracer
from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatRequest, EmbedRequest, Message
from app.ports.provider_status import Bounds, CallsStatus
from app.providers.breaker import BreakerPolicy
from app.providers.instances import Instance
from app.providers.openai.adapter import OpenAIConfig
from app.providers.transport import Transport
from app.providers.wrapping import InstanceTerms, Wrapping, build_instance
from tests.simulator.misbehaving import (
    BODIES,
    EVENT,
    EVENTS,
    STREAMS,
    Misbehaving,
    Play,
    chunk,
    failing,
    misbehaving,
    stalls_after,
)
from tests.stopwatch import Stopwatch

DEADLINE = 0.3
QUESTION = ChatRequest(model="m", messages=[Message(role="user", content="Why?")])
CALL = CallContext(run_id="r", path="p", attempt=1, idempotency_key="k", timeout_seconds=DEADLINE)
CLASSES = {
    "stalls": "timeout",
    "drips": "timeout",
    "resets": "connection",
    "ends": "connection",
    "says": "server_error",
    "is": "server_error",
    "sends": "invalid_output",
    "floods": "too_large",
}
"""By the first word of what it does."""
EXCEPTIONS = {
    "says too long a length": "connection",
    "sends a gzip bomb": "too_large",
    "floods with headers": "server_error",
    "floods with one header": "server_error",
    "floods with interim answers": "timeout",
}
ENDLESS = {"floods with events", "floods with comments"}
"""What is right as it goes on, so that either bound may be met first."""
BOUNDS = InstanceTerms(bounds=Bounds(max_concurrency=50), models={"m": Bounds(max_concurrency=40)})

Operation = Callable[[Instance, CallContext], Coroutine[Any, Any, Any]]


async def complete(instance: Instance, context: CallContext) -> Any:
    assert instance.chat is not None
    return await instance.chat.complete(QUESTION, context)


async def stream(instance: Instance, context: CallContext) -> Any:
    assert instance.chat is not None
    return [item async for item in instance.chat.stream(QUESTION, context)]


async def embed(instance: Instance, context: CallContext) -> Any:
    assert instance.embedder is not None
    return await instance.embedder.embed(EmbedRequest(model="m", texts=["x"]), context)


@asynccontextmanager
async def against(
    play: Play, breaker: BreakerPolicy | None = None
) -> AsyncIterator[tuple[Misbehaving, Instance]]:
    """An instance of that server, with everything around it."""
    transport = Transport.over_sockets()
    async with misbehaving(play) as server:
        config = OpenAIConfig(name="bad", base_url=server.base_url)
        wrapping = Wrapping(recorder=NoMetrics(), tracer=NullTracer(), breaker=breaker)
        try:
            yield server, build_instance(config, transport, wrapping, BOUNDS)
        finally:
            await transport.aclose()


def calls(instance: Instance) -> CallsStatus:
    assert instance.guard is not None
    (status,) = instance.guard.status()
    return status


@pytest.mark.parametrize(
    ("operation", "name", "play"),
    [(operation, name, play) for operation in (complete, stream, embed) for name, play in BODIES.items()]
    + [(stream, name, play) for name, play in STREAMS.items()],
    ids=lambda it: it if isinstance(it, str) else getattr(it, "__name__", None),
)
async def test_it_is_classified_in_time_and_its_connection_closed(
    operation: Operation, name: str, play: Play
) -> None:
    async with against(play) as (server, instance):
        with Stopwatch() as watch, pytest.raises(CallError) as failed:
            await operation(instance, CALL)
        assert watch.seconds < DEADLINE + 1
        error_class = failed.value.error_class
        if name in ENDLESS:
            assert error_class in {"timeout", "too_large"}
        else:
            assert error_class == EXCEPTIONS.get(name, CLASSES[name.split(maxsplit=1)[0]])
        assert isinstance(failed.value, PermanentError if error_class == "too_large" else TemporaryError)
        assert "'bad'" in str(failed.value)
        await server.until(open_at_most=0)
        assert server.requests == 1
        assert (calls(instance).in_flight, calls(instance).waiting) == (0, 0)


@pytest.mark.quiet
@pytest.mark.parametrize("operation", [complete, stream, embed])
async def test_floods_do_not_fill_the_memory(operation: Operation) -> None:
    process = psutil.Process()
    floods = [play for name, play in {**BODIES, **STREAMS}.items() if name.startswith("floods")]
    async with against(floods[0]) as (_, instance):
        with pytest.raises(CallError):
            await operation(instance, CALL)
    before = process.memory_info().rss
    for play in floods:
        async with against(play) as (_, instance):
            for _ in range(2):
                with pytest.raises(CallError):
                    await operation(instance, CALL)
    assert process.memory_info().rss - before < 120_000_000


@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (429, "rate_limit"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "server_error"),
        (504, "timeout"),
    ],
)
@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0.5", 0.5),
        ("-1", 0.0),
        ("99999999999999999999", 3600.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("tomorrow", None),
        ("1e9", None),
        ("5; 6", None),
        ("\u00b2", None),
    ],
)
async def test_odd_delays_of_a_storm_of_errors_are_read_or_passed_over(
    status: int, error_class: str, said: str, seconds: float | None
) -> None:
    async with against(failing(status, retry_after=said)) as (_, instance):
        results = await asyncio.gather(
            *(
                operation(instance, replace(CALL, timeout_seconds=5))
                for operation in (complete, stream, embed)
            ),
            return_exceptions=True,
        )
    for failed in results:
        assert isinstance(failed, TemporaryError)
        assert (failed.error_class, failed.status, failed.retry_after) == (error_class, status, seconds)


async def test_a_storm_of_429_opens_no_breaker_and_one_of_503_does() -> None:
    policy = BreakerPolicy(min_calls=10)
    for status, requests in ((429, 30), (503, 10)):
        async with against(failing(status), policy) as (server, instance):
            for _ in range(30):
                with pytest.raises(TemporaryError):
                    await complete(instance, replace(CALL, timeout_seconds=5))
            assert server.requests == requests


@pytest.mark.parametrize("operation", [complete, stream, embed])
@pytest.mark.parametrize(
    "play", [stalls_after(b""), stalls_after(EVENTS + chunk(EVENT))], ids=["before the head", "in the body"]
)
async def test_a_thousand_cancelled_calls_keep_no_connection_and_no_place(
    operation: Operation, play: Play
) -> None:
    patient = replace(CALL, timeout_seconds=30)
    async with against(play) as (server, instance):
        for round_ in range(1, 11):
            tasks = [
                asyncio.create_task(operation(instance, replace(patient, tenant=str(number % 3))))
                for number in range(100)
            ]
            await server.until(requests=40 * round_)
            assert (calls(instance).in_flight, calls(instance).waiting) == (40, 60)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (calls(instance).in_flight, calls(instance).waiting) == (0, 0)
        await server.until(open_at_most=0)
