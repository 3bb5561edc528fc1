"""Probes: liveness asks for the loop only, readiness for every check at once."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from app.api import health
from app.api.services import NotReady, ReadinessCheck
from app.api.v1.schemas.health import Liveness, Readiness
from tests.api.harness import api


async def test_a_stalled_loop_is_not_alive() -> None:
    async with api(lag=11.0) as service:
        answer = await service.client.get("/healthz")
        assert answer.status_code == 503
        assert Liveness.model_validate_json(answer.content).status == "stalled"


async def test_one_failed_check_makes_the_process_not_ready_and_leaves_it_alive() -> None:
    async def full() -> str | None:
        raise NotReady("the disk is full; make room")

    async def broken() -> str | None:
        raise ZeroDivisionError("secret")

    async def fine() -> str | None:
        return "executor"

    checks = [ReadinessCheck(name=check.__name__, check=check) for check in (full, broken, fine)]
    async with api(checks=checks) as service:
        answer = await service.client.get("/readyz")
        assert answer.status_code == 503
        ready = Readiness.model_validate_json(answer.content)
        found = {name: (check.status, check.detail) for name, check in ready.checks.items()}
        assert found == {
            "full": ("failed", "the disk is full; make room"),
            "broken": ("failed", "the check failed; see the log"),
            "fine": ("ok", "executor"),
            "draining": ("ok", None),
        }
        assert (await service.client.get("/healthz")).status_code == 200


async def test_a_hanging_check_fails_in_time_and_holds_no_other_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_SECONDS", 0.02)

    async def hanging() -> str | None:
        await asyncio.Event().wait()
        return None

    checks = [ReadinessCheck(name=name, check=hanging) for name in "abc"]
    async with api(checks=checks) as service:
        ready = Readiness.model_validate_json((await service.client.get("/readyz")).content)
        assert {check.status for name, check in ready.checks.items() if name in "abc"} == {"failed"}
        assert "no answer" in (ready.checks["a"].detail or "")


async def test_a_draining_process_is_not_ready() -> None:
    async with api() as service:
        assert (await service.client.get("/readyz")).status_code == 200
        service.services.close()
        answer = await service.client.get("/readyz")
        assert (answer.status_code, answer.json()["checks"]["draining"]["status"]) == (503, "failed")


async def test_metrics_are_given_as_they_are_exposed(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.text == "up 1\n"
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_may_leave_the_body_out(client: httpx.AsyncClient, path: str) -> None:
    asked, told = await client.head(path), await client.get(path)
    assert asked.status_code == told.status_code == 200
    assert asked.headers["content-type"] == told.headers["content-type"]
    refused = await client.post(path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
