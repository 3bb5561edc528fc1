"""Everything is killed at once and started again on what it left: runs go on, and old ones are forgotten."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.acceptance.client import Caller
from tests.acceptance.documents import approval, ask, completed, flow, transform
from tests.acceptance.installations import WAYS
from tests.simulator.process import Simulator

pytestmark = pytest.mark.timeout(300)

KEEP = {"ORCHESTRATOR_RUNS__KEEP_FINISHED_DAYS": "0.00001"}
"""Less than a second."""
FORGOTTEN_SECONDS = 60.0


def until_forgotten(caller: Caller, run_id: str) -> None:
    deadline = time.monotonic() + FORGOTTEN_SECONDS
    while caller.http.get(f"/v1/runs/{run_id}").status_code != 404:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_runs_outlive_every_process_and_ended_ones_are_forgotten_when_it_is_time(
    way: str, settings: Mapping[str, str], vendor: Simulator, tmp_path: Path
) -> None:
    vendor.reset()
    vendor.fail("held", "stall", times=1)
    key, short = str(uuid.uuid4()), flow(transform("a", "1"))
    with WAYS[way](tmp_path, vendor, settings) as first, Caller(first.url) as caller:
        done = caller.begin(short, key=key)
        completed(caller.until_ended(done))
        resting = caller.begin(flow(approval(), transform("after", "steps.ask.action")))
        caller.reached(resting, "run.waiting")
        steps = [
            ask("before"),
            ask("held", model="held", depends_on=["before"]),
            approval(depends_on=["held"]),
        ]
        under_way = caller.begin(flow(*steps))
        vendor.wait(calls=2)
    with WAYS[way](tmp_path, vendor, {**settings, **KEEP}) as second, Caller(second.url) as caller:
        caller.reached(under_way, "run.waiting")
        until_forgotten(caller, done)
        again = caller.submit(short, key=key)
        assert (again.json()["id"], again.headers["idempotency-replayed"]) == (done, "true")
        for run_id in (resting, under_way):
            (question,) = caller.http.get("/v1/approvals", params={"run_id": run_id}).json()["data"]
            caller.post(f"/v1/approvals/{question['id']}", {"action": "approve"}, expect=200)
        assert completed(caller.until_ended(resting)) == {"after": "approve"}
        completed(caller.until_ended(under_way))
        tried = {
            step["path"]: [attempt["outcome"] for attempt in step["attempts"]]
            for step in caller.get(under_way, include="attempts")["steps"]
        }
        assert (tried["before"], tried["held"]) == (["succeeded"], ["lost", "succeeded"])
    assert vendor.stats().by_key == {f"{under_way}:before": 1, f"{under_way}:held": 2}
