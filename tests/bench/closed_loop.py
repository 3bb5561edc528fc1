"""A closed loop: N workers repeat one coroutine for a time; what came out is counted and timed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Latencies in milliseconds; `per_second` counts successes only."""

    count: int
    errors: int
    seconds: float
    per_second: float
    p50: float
    p95: float
    p99: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


async def measure(
    once: Callable[[], Awaitable[bool]], *, concurrency: int, seconds: float, warmup: float, limit: int = 0
) -> Measurement:
    """Repeat `once` (True: success) in `concurrency` workers; `limit` bounds the repetitions, 0 does not."""
    latencies: list[float] = []
    errors = 0
    started = 0
    begin = time.perf_counter() + warmup
    end = begin + seconds

    async def worker() -> None:
        nonlocal errors, started
        while time.perf_counter() < end and (not limit or started < limit):
            started += 1
            at = time.perf_counter()
            good = await once()
            now = time.perf_counter()
            if begin <= now and (now <= end or limit):
                if good:
                    latencies.append(now - at)
                else:
                    errors += 1

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    took = min(time.perf_counter(), end) - begin if not limit else time.perf_counter() - begin
    latencies.sort()
    return Measurement(
        count=len(latencies),
        errors=errors,
        seconds=took,
        per_second=len(latencies) / took if took > 0 else 0.0,
        p50=_percentile(latencies, 0.50),
        p95=_percentile(latencies, 0.95),
        p99=_percentile(latencies, 0.99),
    )


def _percentile(ordered: list[float], share: float) -> float:
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000
