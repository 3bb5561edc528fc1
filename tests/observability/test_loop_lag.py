"""The probe of the event loop sees a callback that does not yield."""

from __future__ import annotations

import asyncio
import time

from app.observability.loop_lag import LoopLag
from app.observability.recorder import NoMetrics


class Lags(NoMetrics):
    def __init__(self) -> None:
        self.seen: list[float] = []
        self.more = asyncio.Event()

    def loop_lag(self, seconds: float) -> None:
        self.seen.append(seconds)
        self.more.set()


async def test_a_blocking_callback_shows_as_lag() -> None:
    lags = Lags()
    probe = LoopLag(lags, interval=0.01)
    probe.start()
    time.sleep(0.1)  # noqa: ASYNC251  blocking the loop is what is measured
    assert probe.since_last_tick() >= 0.1
    await asyncio.wait_for(lags.more.wait(), 5)
    probe.stop()
    assert lags.seen[0] >= 0.05
    assert probe.latest == lags.seen[-1]


async def test_ticks_go_on_until_it_is_stopped() -> None:
    lags = Lags()
    probe = LoopLag(lags, interval=0.001)
    probe.stop()
    assert not probe.running
    probe.start()
    while len(lags.seen) < 3:
        lags.more.clear()
        await asyncio.wait_for(lags.more.wait(), 5)
    probe.stop()
    assert not probe.running
    count = len(lags.seen)
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.01)
    assert len(lags.seen) == count
