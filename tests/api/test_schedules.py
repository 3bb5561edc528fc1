"""Schedules over HTTP: what is refused and where, what is kept, what control does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.api.v1.schemas.schedules import Schedule, ScheduleList
from app.services.principal import Principal, Role
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow

UNKNOWN = "0197d6a0-7c1e-7000-8000-00000000ffff"
KEY = {"idempotency-key": "order 4711"}
INPUTS = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
BODY: dict[str, Any] = {"name": "digest", "workflow": "test", "inputs": {"n": 1}, "cron": "0 9 * * *"}


@pytest.fixture
async def service() -> AsyncIterator[Api]:
    async with api() as started:
        await started.client.post("/v1/workflows", json=workflow(llm("a"), inputs=INPUTS))
        yield started


async def created(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/schedules", json=BODY | body)
    assert answer.status_code == 201, answer.text
    Schedule.model_validate_json(answer.content)
    schedule: dict[str, Any] = answer.json()
    return schedule


async def read(client: httpx.AsyncClient, schedule: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(schedule["links"]["self"])
    Schedule.model_validate_json(answer.content)
    found: dict[str, Any] = answer.json()
    return found


def body_of(schedule: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A schedule as it would be sent again."""
    return BODY | {"name": schedule["name"]} | changes


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "pointers"),
    [
        ({"cron": "0 25 * * *"}, ["/cron"]),
        ({"cron": "0 0 31 2 *"}, ["/cron"]),
        ({"time_zone": "Europe/Berln"}, ["/time_zone"]),
        ({"cron": None}, [""]),
        ({"interval_seconds": 5}, ["/interval_seconds"]),
        ({"workflow": "tset"}, ["/workflow"]),
        ({"version": "7"}, ["/version"]),
        ({"start_at": "1900-01-01T00:00:00Z"}, ["/start_at"]),
        ({"start_at": "2090-01-02T00:00:00Z", "end_at": "2090-01-01T00:00:00Z"}, ["/end_at"]),
        ({"end_at": "2020-01-01T00:00:00Z"}, ["/end_at"]),
        ({"cron": "x", "time_zone": "y", "workflow": "z"}, ["/time_zone", "/cron", "/workflow"]),
    ],
)
async def test_what_makes_no_sense_is_refused_with_place_and_hint_and_nothing_is_kept(
    service: Api, changes: dict[str, Any], pointers: list[str]
) -> None:
    answer = await service.client.post("/v1/schedules", json=BODY | changes)
    refusal = problem(answer, 422, "schedule_invalid")
    assert [error.pointer for error in refusal.errors] == pointers
    for error in refusal.errors:
        assert error.hint
        assert error.line == 1
    assert (await service.client.get("/v1/schedules")).json()["data"] == []


async def test_inputs_that_do_not_fit_are_refused_where_they_stand(service: Api) -> None:
    answer = await service.client.post("/v1/schedules", json=BODY | {"inputs": {"n": "one"}})
    refusal = problem(answer, 422, "inputs_invalid")
    assert [(error.pointer, error.line) for error in refusal.errors] == [("/inputs/n", 1)]


@pytest.mark.parametrize(
    "changes",
    [
        {"interval_seconds": 0},
        {"interval_seconds": 1.5},
        {"overlap": "all"},
        {"catch_up": "some"},
        {"catch_up_seconds": -1},
        {"start_at": 1_800_000_000},
        {"start_at": "tomorrow"},
        {"paused": "yes"},
        {"unknown": 1},
        {"workflow": {"name": "inline", "steps": []}},
        {"labels": {f"l{number}": "" for number in range(63)}},
    ],
)
async def test_what_the_schema_does_not_know_is_refused(service: Api, changes: dict[str, Any]) -> None:
    problem(await service.client.post("/v1/schedules", json=BODY | changes), 422, "invalid_request")


async def test_names_are_taken_once(service: Api) -> None:
    first = await created(service.client)
    problem(await service.client.post("/v1/schedules", json=BODY), 409, "schedule_name_taken")
    second = await created(service.client, name="other")
    again = await service.client.put(second["links"]["self"], json=BODY)
    problem(again, 409, "schedule_name_taken")
    assert (await service.client.put(first["links"]["self"], json=BODY)).status_code == 200


@pytest.mark.parametrize(
    ("method", "suffix"),
    [
        ("GET", ""),
        ("PUT", ""),
        ("DELETE", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/trigger"),
    ],
)
async def test_what_is_not_there_is_not_found(service: Api, method: str, suffix: str) -> None:
    body = BODY if method == "PUT" else None
    answer = await service.client.request(method, f"/v1/schedules/{UNKNOWN}{suffix}", json=body)
    problem(answer, 404, "schedule_not_found")


@pytest.mark.parametrize(("role", "writes"), [("viewer", False), ("executor", True)])
async def test_viewers_read_and_executors_write(role: Role, writes: bool) -> None:
    principal = Principal(tenant="default", subject="x", roles=frozenset({role}))
    async with api(principal=principal) as service:
        assert (await service.client.get("/v1/schedules")).status_code == 200
        answer = await service.client.post("/v1/schedules", json=BODY)
        if writes:
            problem(answer, 422, "schedule_invalid")
        else:
            problem(answer, 403, "permission_denied")


async def test_a_change_of_what_somebody_else_changed_is_refused(service: Api) -> None:
    schedule = await created(service.client)
    path = schedule["links"]["self"]
    tag = (await service.client.get(path)).headers["etag"]
    changed = await service.client.put(path, json=BODY | {"priority": 3}, headers={"if-match": tag})
    assert (changed.status_code, changed.json()["revision"]) == (200, 2)
    assert changed.headers["etag"] != tag
    stale = {"if-match": tag}
    problem(await service.client.put(path, json=BODY, headers=stale), 412, "version_mismatch")
    problem(await service.client.delete(path, headers=stale), 412, "version_mismatch")
    assert (await service.client.delete(path, headers={"if-match": "*"})).status_code == 204


# --- settings -----------------------------------------------------------------------------------------


async def test_a_schedule_tells_when_it_will_fire(service: Api) -> None:
    answer = await service.client.post(
        "/v1/schedules", json=BODY | {"cron": "0 9 * * MON-FRI", "time_zone": "America/New_York"}
    )
    schedule = answer.json()
    assert answer.headers["location"] == schedule["links"]["self"]
    times = [datetime.fromisoformat(time) for time in schedule["next_fire_times"]]
    assert len(times) == 5
    assert times == sorted(times)
    assert all(time.weekday() < 5 and time.hour in (13, 14) for time in times)
    assert schedule["next_fire_at"] == schedule["next_fire_times"][0]
    assert (schedule["state"], schedule["last_fire"], schedule["last_run_id"]) == ("active", None, None)


async def test_an_interval_begins_at_its_start(service: Api) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    schedule = await created(
        service.client,
        cron=None,
        interval_seconds=90,
        start_at=start.isoformat(),
        end_at=(start + timedelta(seconds=200)).isoformat(),
    )
    times = [datetime.fromisoformat(time) for time in schedule["next_fire_times"]]
    assert times == [start + timedelta(seconds=90 * number) for number in range(3)]


async def test_a_change_of_anything_but_the_times_leaves_the_next_time(service: Api) -> None:
    schedule = await created(service.client, cron=None, interval_seconds=1000)
    path = schedule["links"]["self"]
    same_times = BODY | {"cron": None, "interval_seconds": 1000, "overlap": "queue"}
    changed = (await service.client.put(path, json=same_times)).json()
    assert changed["next_fire_times"] == schedule["next_fire_times"]
    assert (changed["overlap"], changed["revision"]) == ("queue", 2)
    assert (await service.client.put(path, json=same_times)).json()["revision"] == 2
    other_times = BODY | {"cron": None, "interval_seconds": 2000}
    changed = (await service.client.put(path, json=other_times)).json()
    assert changed["next_fire_at"] > schedule["next_fire_at"]


async def test_replacing_keeps_a_pause_unless_told_otherwise(service: Api) -> None:
    schedule = await created(service.client, paused=True)
    assert (schedule["state"], schedule["next_fire_times"]) == ("paused", [])
    path = schedule["links"]["self"]
    assert (await service.client.put(path, json=BODY)).json()["state"] == "paused"
    changed = (await service.client.put(path, json=BODY | {"paused": False})).json()
    assert (changed["state"], len(changed["next_fire_times"])) == ("active", 5)


async def test_lists_by_name_in_pages(service: Api) -> None:
    for name in ("b", "c", "a"):
        await created(service.client, name=name)
    first = await service.client.get("/v1/schedules?limit=2")
    ScheduleList.model_validate_json(first.content)
    assert [item["name"] for item in first.json()["data"]] == ["a", "b"]
    rest = await service.client.get(first.links["next"]["url"])
    assert [item["name"] for item in rest.json()["data"]] == ["c"]
    assert rest.json()["next_cursor"] is None
    problem(await service.client.get("/v1/schedules?cursor=abc"), 400, "invalid_cursor")


async def test_what_is_deleted_is_gone_and_its_name_is_free(service: Api) -> None:
    schedule = await created(service.client)
    path = schedule["links"]["self"]
    assert (await service.client.delete(path)).status_code == 204
    problem(await service.client.delete(path), 404, "schedule_not_found")
    await created(service.client)


async def test_creating_is_replayed(service: Api) -> None:
    first = await service.client.post("/v1/schedules", json=BODY, headers=KEY)
    again = await service.client.post("/v1/schedules", json=BODY, headers=KEY)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    other = await service.client.post("/v1/schedules", json=BODY | {"name": "x"}, headers=KEY)
    problem(other, 422, "idempotency_key_reused")


async def test_a_hundred_concurrent_requests_make_one_schedule(service: Api) -> None:
    answers = await asyncio.gather(
        *(service.client.post("/v1/schedules", json=BODY, headers=KEY) for _ in range(100))
    )
    made = {answer.content for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len((await service.client.get("/v1/schedules")).json()["data"]) == 1


# --- control ------------------------------------------------------------------------------------------


async def test_a_pause_stops_the_times_and_a_resume_goes_on_from_now(service: Api) -> None:
    schedule = await created(service.client, cron=None, interval_seconds=60)
    path = schedule["links"]["self"]
    paused = await service.client.post(f"{path}/pause", headers=KEY)
    assert (paused.status_code, paused.json()["state"]) == (200, "paused")
    assert paused.json()["next_fire_at"] is None
    again = await service.client.post(f"{path}/pause", headers=KEY)
    assert again.headers["idempotency-replayed"] == "true"
    resumed = (await service.client.post(f"{path}/resume")).json()
    assert (resumed["state"], resumed["next_fire_times"]) == ("active", schedule["next_fire_times"])
    assert (await service.client.post(f"{path}/resume")).json()["revision"] == resumed["revision"]


async def test_a_trigger_starts_a_run_of_a_paused_schedule_too(service: Api) -> None:
    schedule = await created(service.client, paused=True, labels={"team": "x"})
    answer = await service.client.post(f"{schedule['links']['self']}/trigger", headers=KEY)
    assert answer.status_code == 202
    run = answer.json()
    assert answer.headers["location"] == run["links"]["self"]
    again = await service.client.post(f"{schedule['links']['self']}/trigger", headers=KEY)
    assert again.content == answer.content
    after = await read(service.client, schedule)
    assert (after["last_run_id"], after["counts"]["started"]) == (run["id"], 1)
    assert (after["last_fire"]["manual"], after["last_fire"]["outcome"]) == (True, "started")
    assert after["state"] == "paused"
    found = (await service.client.get(after["links"]["runs"])).json()["data"]
    assert [item["id"] for item in found] == [run["id"]]
    assert found[0]["labels"]["team"] == "x"
    await service.bench.finish(run["id"])


async def test_a_trigger_of_what_cannot_be_run_is_refused(service: Api) -> None:
    schedule = await created(service.client)
    await service.client.delete("/v1/workflows/test")
    answer = await service.client.post(f"{schedule['links']['self']}/trigger")
    problem(answer, 404, "workflow_not_found")
    assert (await read(service.client, schedule))["last_fire"] is None
