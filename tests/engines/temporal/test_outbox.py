"""The outbox tells Temporal of runs until it has heard, and the rules for task queues."""

from __future__ import annotations

import asyncio

from app.engines.temporal.outbox import NotPlaced, Outbox
from app.engines.temporal.queues import TaskQueues


class Cluster:
    """A stand-in for Temporal that is away when it is told to be."""

    def __init__(self) -> None:
        self.away = False
        self.calls: list[tuple[str, str, bool]] = []
        self.refused = asyncio.Event()

    async def check(self) -> None:
        if self.away:
            raise NotPlaced("away")

    async def placed(self, queue: str, *, limit: int) -> frozenset[str]:
        if self.away:
            raise NotPlaced("away")
        return frozenset()

    async def place(self, run_id: str, *, queue: str, wake: bool) -> None:
        await asyncio.sleep(0)
        if self.away:
            self.refused.set()
            raise NotPlaced("away")
        self.calls.append((run_id, queue, wake))


async def test_what_temporal_refused_is_told_again_once_it_is_back() -> None:
    cluster = Cluster()
    cluster.away = True
    outbox = Outbox(cluster)
    outbox.start()
    for number in range(50):
        outbox.offer(f"run-{number}", queue="q")
    await cluster.refused.wait()
    assert cluster.calls == []
    cluster.away = False
    await outbox.stop(seconds=10)
    assert sorted(run_id for run_id, _, _ in cluster.calls) == sorted(f"run-{n}" for n in range(50))
    assert len(outbox) == 0


async def test_a_stop_leaves_to_the_store_what_temporal_does_not_take() -> None:
    cluster = Cluster()
    cluster.away = True
    outbox = Outbox(cluster)
    outbox.start()
    outbox.offer("run", queue="q")
    await cluster.refused.wait()
    await outbox.stop(seconds=0)
    assert cluster.calls == []


async def test_a_run_that_is_offered_twice_is_told_of_once_and_woken_if_either_says_so() -> None:
    cluster = Cluster()
    outbox = Outbox(cluster)
    outbox.offer("run", queue="q", wake=True)
    outbox.offer("run", queue="q")
    outbox.start()
    await outbox.stop(seconds=10)
    assert cluster.calls == [("run", "q", True)]


def test_a_tenants_queue_goes_before_that_of_a_label_and_the_common_one_is_last() -> None:
    queues = TaskQueues(common="all", by_tenant={"acme": "acme-q"}, by_label={"tier=gpu": "gpu", "a=b": "ab"})
    assert queues.of("other", {"tier": "cpu"}) == "all"
    assert queues.of("acme", {"tier": "gpu"}) == "acme-q"
    assert queues.of("other", {"tier": "gpu"}) == "gpu"
    assert queues.of("other", {"tier": "gpu", "a": "b"}) == "ab"
