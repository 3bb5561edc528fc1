"""A schedule that fires every second, in a process that is killed again and again: each second is one run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tests.recovery.services import Client, Services, client_of

LIVES = (1.3, 0.7, 1.9)
"""Seconds from one start to the next kill."""
SETTINGS = {
    "name": "every second",
    "workflow": "tick",
    "interval_seconds": 1,
    "overlap": "queue",
    "catch_up": "all",
}
TICK = {"name": "tick", "steps": [{"id": "one", "type": "transform", "expression": "1"}]}


def schedule_of(client: Client, path: str) -> Mapping[str, Any]:
    return dict(client.http.get(path).raise_for_status().json())


def runs_of(client: Client, schedule: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Every run of it, from the first one on."""
    found: list[Mapping[str, Any]] = []
    page = client.http.get(schedule["links"]["runs"] + "&limit=100").raise_for_status()
    found += page.json()["data"]
    while "next" in page.links:
        page = client.http.get(page.links["next"]["url"]).raise_for_status()
        found += page.json()["data"]
    return found[::-1]


def test_a_schedule_survives_kills_and_fires_each_time_once(services: Services) -> None:
    service = services.ready()
    with client_of(service) as client:
        assert client.http.post("/v1/workflows", json=TICK).status_code == 201
        answer = client.http.post("/v1/schedules", json=SETTINGS)
        assert answer.status_code == 201, answer.text
        path = answer.json()["links"]["self"]
    for seconds in LIVES:
        time.sleep(seconds)
        service.kill()
        service = services.ready()
    with client_of(service) as client:
        first = datetime.fromisoformat(answer.json()["next_fire_at"])
        wanted = len(LIVES) + 4
        deadline = time.monotonic() + 60
        while schedule_of(client, path)["counts"]["started"] < wanted:
            assert time.monotonic() < deadline, schedule_of(client, path)
            time.sleep(0.1)
        assert client.http.post(f"{path}/pause").status_code == 200
        schedule = schedule_of(client, path)
        runs = runs_of(client, schedule)
    times = [datetime.fromisoformat(run["labels"]["scheduled_for"]) for run in runs]
    assert [(at - first).total_seconds() for at in times] == list(range(len(times)))
    assert len({run["id"] for run in runs}) == len(runs)
    counts = schedule["counts"]
    assert (counts["skipped"], counts["failed"], counts["missed"]) == (0, 0, 0)
    assert len(runs) - counts["started"] in (0, 1)  # one may have been about to be recorded
