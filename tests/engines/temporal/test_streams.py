"""A reader at any API process sees every event and every word of a run that a worker executes, in order."""

from __future__ import annotations

import pytest

from tests.engines.temporal.cluster import Cluster
from tests.recovery import streams

pytestmark = [pytest.mark.temporal, pytest.mark.timeout(240)]


def promise(cluster: Cluster, others: int) -> None:
    """One worker executes what one API process accepted and others read."""
    accepting = cluster.client()
    readers = [cluster.client() for _ in range(others)] or [accepting]
    cluster.worker()
    streams.assert_a_resumed_reader_misses_nothing(accepting, readers[-1], cluster.simulator)
    cluster.simulator.reset()
    streams.assert_each_reader_sees_everything(accepting, readers, cluster.simulator)


def test_words_go_on_when_another_worker_has_the_run(on_postgresql: Cluster) -> None:
    client = on_postgresql.client()
    first = on_postgresql.worker()
    run_id = streams.submit(client, on_postgresql.simulator)
    seen: list[streams.Event] = []
    with streams.reading(client, run_id) as events:
        for event in events:
            seen.append(event)
            if event["type"] == "step.delta" and first.process.poll() is None:
                first.kill()
                on_postgresql.worker()
    assert streams.history_of(seen) == streams.stored_events(client, run_id)
    streams.assert_in_order(seen)
    assert [event["path"] for event in seen if event["type"] == "step.attempt_failed"][:1] == ["first"]
    for step in ("left", "right", "last"):
        assert streams.deltas(seen, step) == streams.text_of(step)


def test_two_api_processes_on_postgresql(on_postgresql: Cluster) -> None:
    promise(on_postgresql, 1)


def test_one_api_process_on_a_shared_folder(cluster: Cluster) -> None:
    promise(cluster, 0)
