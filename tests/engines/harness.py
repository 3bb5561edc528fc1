"""An engine over the in-memory store, with a chat model that does what a test tells it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import uuid_utils

from app.dsl.catalog import Catalog
from app.dsl.policies import PlanDefaults
from app.engines.account import Accounting
from app.engines.attempts import AttemptLimits, Attempts
from app.engines.called_runs import CalledRuns
from app.engines.decisions import Decisions
from app.engines.embedded import EmbeddedEngine, EngineLimits
from app.engines.engine import Submission
from app.engines.history import History
from app.engines.live import LiveEvents
from app.engines.observer import RunObserver
from app.engines.recovery import RunLoader
from app.engines.runner import RunnerTools
from app.engines.slots import Slots
from app.engines.step_cache import CachedOutcomes
from app.observability.recorder import NoMetrics, Recorder
from app.observability.tracing import NullTracer
from app.ports.clock import Clock
from app.ports.lock import ExecutorLock
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, Usage
from app.ports.prices import Prices
from app.ports.runs import RunRow, Store
from app.providers.prices import ListPrices
from app.steps.registry import STEP_KINDS
from app.stores.memory import MemoryStore
from app.stores.memory_lock import MemoryLock
from app.templating.limits import RenderLimits
from app.templating.renderer import Renderer
from tests.steps.fakes import FakeServices

Script = Callable[[ChatRequest, CallContext], Awaitable[str]]


async def answer_at_once(request: ChatRequest, context: CallContext) -> str:
    """The step's own name."""
    return f"{context.path} done"


@dataclass
class ScriptedChat:
    """Answers with what `script` returns or raises; counts the calls of each step."""

    script: Script = answer_at_once
    usage: Callable[[ChatRequest, CallContext], Usage] = lambda request, context: Usage(
        input_tokens=3, output_tokens=2
    )
    calls: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        self.calls[context.path] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.started.set()
        try:
            text = await self.script(request, context)
        finally:
            self.in_flight -= 1
        usage = self.usage(request, context)
        return ChatResult(text=text, model=request.model, finish_reason="stop", usage=usage)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        result = await self.complete(request, context)
        for word in result.text.split():
            yield ChatDelta(text=word)
        yield result


@dataclass
class Bench:
    """One engine under test."""

    engine: EmbeddedEngine
    store: Store
    chat: ScriptedChat
    catalog: Catalog
    slots: Slots
    renderer: Renderer
    prices: Prices

    async def submit(
        self, document: Mapping[str, Any], inputs: Mapping[str, Any] | None = None, **run: Any
    ) -> str:
        """Submit; the run's id."""
        workflow = self.catalog.compile(document)
        row = RunRow(
            id=str(uuid_utils.uuid7()),
            tenant="default",
            workflow=workflow.name,
            version=workflow.version,
            status="pending",
            definition_hash=workflow.definition.hash,
            priority=0,
            labels={},
            created_at=time.time(),
        )
        timeout = run.pop("timeout_seconds", None)
        budget = run.pop("budget", None)
        reuse, fresh = run.pop("reuse", None), run.pop("fresh", frozenset())
        submission = Submission(
            run=replace(row, **run),
            definition=workflow.definition,
            inputs=workflow.validate_inputs(inputs or {}),
            timeout_seconds=timeout,
            budget=budget,
            reuse=reuse,
            fresh=fresh,
        )
        await self.engine.submit(submission)
        return submission.run.id

    async def finish(self, run_id: str, seconds: float = 10.0) -> History:
        """Wait for the end of a run."""
        try:
            return await asyncio.wait_for(self.engine.wait(run_id), seconds)
        except TimeoutError:
            status = (await self.read(run_id)).status
            raise AssertionError(f"the run is {status} after {seconds} s") from None

    async def run(self, document: Mapping[str, Any], inputs: Mapping[str, Any] | None = None) -> History:
        """Submit and wait."""
        return await self.finish(await self.submit(document, inputs))

    async def read(self, run_id: str) -> History:
        """Fold what is stored."""
        stored = await RunLoader(self.store, self.catalog).load(run_id)
        assert stored is not None
        return stored.history

    async def types(self, run_id: str) -> list[str]:
        """Types of the stored events, in order."""
        return [row.type for row in await self.store.journal.read(run_id)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What an engine under test is given."""

    tools: RunnerTools
    called: CalledRuns
    cached: CachedOutcomes
    live: LiveEvents


def _tools(
    store: Store, catalog: Catalog, renderer: Renderer, chat: ScriptedChat, more: Mapping[str, Any]
) -> _Made:
    clock, live = more["clock"], LiveEvents()
    limits = more["attempt_limits"] or AttemptLimits()
    prices: Prices = more["prices"]
    cached = CachedOutcomes(store.cache, renderer, clock, limits, more["recorder"] or NoMetrics())
    called = CalledRuns(store, catalog, clock)
    tools = RunnerTools(
        journal=store.journal,
        attempts=Attempts(
            FakeServices(chat_model=chat), renderer, clock, limits, cache=cached, prices=prices
        ),
        decisions=Decisions(renderer, clock, limits, called),
        slots=Slots(more["attempt_slots"]),
        clock=clock,
        observer=RunObserver(NoMetrics(), NullTracer(), live, clock),
        children=called,
        accounting=Accounting(prices=prices, max_tokens=more["max_tokens"]),
    )
    return _Made(tools=tools, called=called, cached=cached, live=live)


@asynccontextmanager
async def bench(
    *,
    script: Script = answer_at_once,
    store: Store | None = None,
    lock: ExecutorLock | None = None,
    limits: EngineLimits | None = None,
    attempt_slots: int = 100,
    attempt_limits: AttemptLimits | None = None,
    defaults: PlanDefaults | None = None,
    recorder: Recorder | None = None,
    prices: Prices | None = None,
    max_tokens: int = 100,
    clock: Clock | None = None,
    look_seconds: float | None = None,
) -> AsyncIterator[Bench]:
    """A started engine; let go of abruptly at the end, as by a crash that loses nothing durable.

    `look_seconds`: runs also look at their items, as where nobody tells them of their ends.
    """
    given = store is not None
    store = store or MemoryStore()
    if not given:
        await store.open()
    chat, renderer, catalog = ScriptedChat(script), Renderer(RenderLimits()), Catalog(STEP_KINDS, defaults)
    prices = prices or ListPrices(vendors={})
    more: dict[str, Any] = {"recorder": recorder, "prices": prices, "max_tokens": max_tokens}
    more |= {"attempt_limits": attempt_limits, "attempt_slots": attempt_slots}
    more |= {"clock": clock or WallClock()}
    made = _tools(store, catalog, renderer, chat, more)
    engine = EmbeddedEngine(
        store=store,
        catalog=catalog,
        tools=made.tools,
        called=made.called,
        live=made.live,
        lock=lock or MemoryLock(),
        limits=limits or EngineLimits(poll_seconds=0.02),
    )
    await engine.start()
    made.called.look_seconds = look_seconds
    try:
        yield Bench(engine, store, chat, catalog, made.tools.slots, renderer, prices)
    finally:
        await engine.drain(0.0)
        await made.cached.close()
        await renderer.close()
        if not given:
            await store.close()


class WallClock:
    """The machine's clock."""

    machine = "harness"

    def now(self) -> float:
        return time.time()

    def uptime(self) -> float:
        return time.time()


class SetClock(WallClock):
    """A clock that somebody sets."""

    def __init__(self, machine: str = "set") -> None:
        self.by = 0.0
        """Seconds ahead of the machine's."""
        self.machine = machine

    def now(self) -> float:
        return super().now() + self.by


def llm(step_id: str, prompt: str = "say something", **more: Any) -> dict[str, Any]:
    """An `llm` step of the scripted model; tries again without delay."""
    retry = {"max_attempts": 3, "initial_delay_ms": 1, "jitter": "none"}
    return {
        "id": step_id,
        "type": "llm",
        "provider": "own",
        "model": "m",
        "prompt": prompt,
        "retry": retry,
        **more,
    }


def workflow(*steps: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A document."""
    return {"name": "test", "steps": list(steps), **more}


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds, for 5 s at most."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.005)
