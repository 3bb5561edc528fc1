"""A clock that is set while runs are under way: what is to last a time lasts that time.

Proven with real processes in `tests/recovery`; here are the moments that no process can be caught at.
"""

from __future__ import annotations

import time

import pytest

from app.engines.timekeeping import brought_up
from app.ports.errors import TemporaryError
from app.ports.models import CallContext, ChatRequest
from app.stores.memory import MemoryStore
from tests.engines.harness import SetClock, bench, llm, workflow
from tests.engines.test_waiting import WAIT, until, waiting

HOUR = 3600.0
DELAY = 0.5


class ClockSetAtOnce(SetClock):
    """Once `armed`, it is set right after it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.armed: float | None = None

    def now(self) -> float:
        read = super().now()
        if self.armed is not None:
            self.by, self.armed = self.by + self.armed, None
        return read


@pytest.mark.parametrize("by", [HOUR, -HOUR])
async def test_a_try_that_ended_just_before_the_clock_was_set_is_repeated_after_its_delay(by: float) -> None:
    clock = ClockSetAtOnce()
    called: list[float] = []

    async def fail_once(request: ChatRequest, context: CallContext) -> str:
        called.append(time.monotonic())
        if len(called) == 1:
            clock.armed = by
            raise TemporaryError("rate_limit", "slow down")
        return "x"

    retry = {"max_attempts": 2, "initial_delay_ms": round(1000 * DELAY), "jitter": "none"}
    async with bench(script=fail_once, clock=clock) as it:
        run_id = await it.submit(workflow(llm("a", retry=retry)))
        assert (await it.finish(run_id)).status == "completed"
        types = await it.types(run_id)
    assert types.index("ClockMoved") < types.index("AttemptFailed")
    assert called[1] - called[0] > 0.9 * DELAY


async def test_a_clock_that_was_set_back_while_nobody_executed_is_noticed_whichever_run_is_due_first() -> (
    None
):
    store, clock = MemoryStore(), SetClock()
    await store.open()
    sooner = workflow({"id": "rest", "type": "wait", "seconds": 40})
    async with bench(store=store, clock=SetClock("another machine")) as it:
        await until(it, await it.submit(sooner), waiting)
    async with bench(store=store, clock=clock) as it:
        run_id = await it.submit(WAIT)
        await until(it, run_id, waiting)
    clock.by = -HOUR
    async with bench(store=store, clock=clock) as it:
        history = await until(it, run_id, lambda one: one.wake_at is not None and one.wake_at < time.time())
        assert history.wake_at == pytest.approx(history.submitted_at - HOUR + 60, abs=5)
        types = await it.types(run_id)
        assert types[-1] == "RunParked"
        assert "ClockMoved" in types


@pytest.mark.parametrize(
    ("at", "by", "now", "is_"),
    [
        (99.5, HOUR, 100.0 + HOUR, 99.5 + HOUR),
        (99.5, -HOUR, 100.0 - HOUR, 99.5 - HOUR),
        (99.5 + HOUR, HOUR, 100.0 + HOUR, 99.5 + HOUR),
    ],
)
def test_a_time_is_brought_up_where_it_was_told_before_the_clock_was_set(
    at: float, by: float, now: float, is_: float
) -> None:
    assert brought_up(at, by, now) == is_
