"""Webhooks over HTTP: registering, secrets, the log, and what runs bring along."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx
import pytest

from app.api.v1.schemas.webhooks import Delivery, DeliveryList, Webhook, WebhookCreated, WebhookList
from app.ports.webhooks import DeliveryOutcome
from app.services.principal import Principal
from app.services.webhook_rules import WebhookRules
from app.services.webhook_signing import is_secret
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow
from tests.stores.webhook_samples import OTHER_SECRET

URL = "https://example.com/hook"
NOBODY = "0197d6a0-7c1e-7000-8000-00000000ffff"
DOCUMENT = {"name": "w", "steps": [llm("a")]}


async def register(client: httpx.AsyncClient, **settings: Any) -> dict[str, Any]:
    answer = await client.post("/v1/webhooks", json={"url": URL, **settings})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def log_of(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    answer = await client.get(f"{path}/deliveries")
    DeliveryList.model_validate(answer.json())
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


class TestSettings:
    @pytest.mark.parametrize(
        "url",
        [
            "http://169.254.169.254/latest",
            "http://127.0.0.1:9/",
            "http://[::1]/",
            "http://10.1.2.3/",
            "https://user:pass@example.com/",
            "https://2130706433/",
            "https://example.com:99999/",
        ],
    )
    async def test_an_address_that_may_not_be_connected_to_is_refused_with_its_place(
        self, client: httpx.AsyncClient, url: str
    ) -> None:
        refused = problem(await client.post("/v1/webhooks", json={"url": url}), 422, "webhook_invalid")
        (error,) = refused.errors
        assert (error.pointer, error.line) == ("/url", 1)
        made = await register(client)
        refused = problem(
            await client.patch(f"/v1/webhooks/{made['id']}", json={"url": url}), 422, "webhook_invalid"
        )
        assert (await client.get(f"/v1/webhooks/{made['id']}")).json()["url"] == URL

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"url": "ftp://example.com/"},
            {"url": "https://example.com/ü"},
            {"url": URL, "events": []},
            {"url": URL, "events": ["run.started"]},
            {"url": URL, "secret": OTHER_SECRET},
            {"url": URL, "labels": {"a": 1}},
            {"url": None},
        ],
    )
    async def test_what_does_not_fit_is_refused(
        self, client: httpx.AsyncClient, body: dict[str, Any]
    ) -> None:
        problem(await client.post("/v1/webhooks", json=body), 422, "invalid_request")
        assert (await client.get("/v1/webhooks")).json()["data"] == []

    @pytest.mark.parametrize(
        "path", ["", "/rotate", "/test", "/deliveries", f"/deliveries/msg_{NOBODY}_1/redeliver"]
    )
    async def test_what_is_not_there_is_not_found(self, client: httpx.AsyncClient, path: str) -> None:
        method = "GET" if path in {"", "/deliveries"} else "POST"
        answer = await client.request(method, f"/v1/webhooks/{NOBODY}{path}")
        problem(answer, 404, "webhook_not_found")

    async def test_only_developers_change_webhooks(self) -> None:
        executor = Principal(tenant="default", subject="e", roles=frozenset({"executor"}))
        async with api(principal=executor) as it:
            problem(await it.client.post("/v1/webhooks", json={"url": URL}), 403, "permission_denied")
            assert (await it.client.get("/v1/webhooks")).status_code == 200

    async def test_a_tenant_has_a_hundred_at_most(self, client: httpx.AsyncClient) -> None:
        for _ in range(100):
            await register(client)
        problem(await client.post("/v1/webhooks", json={"url": URL}), 409, "too_many_webhooks")

    async def test_a_workflow_that_is_not_registered_is_warned_of(self, client: httpx.AsyncClient) -> None:
        await client.post("/v1/workflows", json=workflow(llm("a"), name="billing"))
        (warning,) = (await register(client, workflow="biling"))["warnings"]
        assert (warning["pointer"], warning["line"]) == ("/workflow", 1)
        assert warning["detail"] == "workflow 'biling' is not registered"
        assert (await register(client, workflow="billing"))["warnings"] == []
        assert (await register(client))["warnings"] == []

    async def test_the_secret_is_shown_once(self, client: httpx.AsyncClient) -> None:
        made = await register(client, description="d", labels={"team": "a"})
        WebhookCreated.model_validate(made)
        assert is_secret(made["secret"])
        assert made["events"] == ["run.completed", "run.failed", "run.cancelled", "run.timed_out"]
        path = f"/v1/webhooks/{made['id']}"
        for answer in (
            await client.get(path),
            await client.get("/v1/webhooks"),
            await client.patch(path, json={"description": None}),
        ):
            assert answer.status_code == 200
            assert "whsec" not in answer.text
        Webhook.model_validate((await client.get(path)).json())

    async def test_a_repeated_registration_says_that_the_secret_was_shown(self, service: Api) -> None:
        client, headers = service.client, {"Idempotency-Key": "k"}
        first, second = [
            await client.post("/v1/webhooks", json={"url": URL}, headers=headers) for _ in range(2)
        ]
        secret = first.json()["secret"]
        kept = await service.bench.store.idempotency.find("default", "k")
        assert kept is not None
        assert secret.encode() not in kept.body
        assert second.json() == {**first.json(), "secret": None, "secret_shown_before": True}
        WebhookCreated.model_validate(second.json())
        assert second.headers["Idempotency-Replayed"] == "true"
        assert len((await client.get("/v1/webhooks")).json()["data"]) == 1
        other = await client.post("/v1/webhooks", json={"url": URL + "2"}, headers=headers)
        problem(other, 422, "idempotency_key_reused")

    async def test_changes_leave_the_rest_as_it_is(self, client: httpx.AsyncClient) -> None:
        made = await register(client, workflow="w", labels={"a": "b"}, include_outputs=True)
        path = f"/v1/webhooks/{made['id']}"
        changed = (await client.patch(path, json={"events": ["run.failed", "run.failed"]})).json()
        del made["secret"], made["secret_shown_before"], made["warnings"]
        assert changed == {**made, "events": ["run.failed"], "updated_at": changed["updated_at"]}
        assert (await client.patch(path, json={"workflow": None})).json()["workflow"] is None
        assert (await client.patch(path, json={})).json()["include_outputs"] is True

    async def test_rotation_keeps_the_old_secret_for_a_while(self, service: Api) -> None:
        made = await register(service.client)
        path = f"/v1/webhooks/{made['id']}/rotate"
        rotated = (await service.client.post(path)).json()
        assert is_secret(rotated["secret"])
        assert rotated["secret"] != made["secret"]
        row = await service.bench.store.webhooks.get("default", made["id"])
        assert row is not None
        assert (row.secret, row.old_secret) == (rotated["secret"], made["secret"])
        assert rotated["rotating_until"] is not None
        at_once = (await service.client.post(path, json={"keep_old_seconds": 0})).json()
        assert at_once["rotating_until"] is None
        row = await service.bench.store.webhooks.get("default", made["id"])
        assert row is not None
        assert row.old_secret is None

    async def test_a_repeated_rotation_rotates_once(self, client: httpx.AsyncClient) -> None:
        made = await register(client)
        path, headers = f"/v1/webhooks/{made['id']}/rotate", {"Idempotency-Key": "k"}
        first, second = [await client.post(path, headers=headers) for _ in range(2)]
        assert is_secret(first.json()["secret"])
        assert second.json() == {**first.json(), "secret": None, "secret_shown_before": True}
        assert (await client.get(f"/v1/webhooks/{made['id']}")).json()["rotating_until"] is not None

    async def test_pages_follow_their_cursors(self, client: httpx.AsyncClient) -> None:
        made = [(await register(client))["id"] for _ in range(3)]
        first = (await client.get("/v1/webhooks?limit=2")).json()
        WebhookList.model_validate(first)
        second = (await client.get(f"/v1/webhooks?limit=2&cursor={first['next_cursor']}")).json()
        assert [it["id"] for it in first["data"] + second["data"]] == made
        problem(await client.get("/v1/webhooks?cursor=AAAA"), 400, "invalid_cursor")

    async def test_a_deleted_one_is_gone(self, client: httpx.AsyncClient) -> None:
        path = f"/v1/webhooks/{(await register(client))['id']}"
        assert (await client.delete(path)).status_code == 204
        problem(await client.delete(path), 404, "webhook_not_found")


class TestDeliveries:
    async def test_a_disabled_one_is_not_sent_to(self, client: httpx.AsyncClient) -> None:
        made = await register(client, enabled=False)
        problem(await client.post(f"/v1/webhooks/{made['id']}/test"), 409, "webhook_disabled")

    async def test_a_delivery_that_is_not_there_is_not_found(self, client: httpx.AsyncClient) -> None:
        path = f"/v1/webhooks/{(await register(client))['id']}/deliveries"
        problem(await client.post(f"{path}/msg_{NOBODY}_1/redeliver"), 404, "delivery_not_found")
        problem(await client.post(f"{path}/nonsense/redeliver"), 422, "invalid_request")
        problem(await client.get(f"/v1/runs/{NOBODY}/deliveries"), 404, "run_not_found")
        problem(await client.get(f"{path}?status=lost"), 422, "invalid_request")

    async def test_a_run_that_ends_is_in_the_log_of_who_asked_for_it(self, service: Api) -> None:
        made = await register(service.client)
        other = await register(service.client, events=["run.failed"])
        run = await service.run(DOCUMENT)
        (delivery,) = await log_of(service.client, f"/v1/webhooks/{made['id']}")
        assert (delivery["run_id"], delivery["event"], delivery["status"]) == (
            run["id"],
            "run.completed",
            "pending",
        )
        assert await log_of(service.client, f"/v1/webhooks/{other['id']}") == []
        assert await log_of(service.client, f"/v1/runs/{run['id']}") == [delivery]

    async def test_a_test_is_owed_at_once_and_only_once_a_key(self, client: httpx.AsyncClient) -> None:
        path = f"/v1/webhooks/{(await register(client))['id']}"
        headers = {"Idempotency-Key": "k"}
        first, second = [await client.post(f"{path}/test", headers=headers) for _ in range(2)]
        assert (first.status_code, first.json()) == (202, second.json())
        Delivery.model_validate(first.json())
        (delivery,) = await log_of(client, path)
        assert (delivery["event"], delivery["run_id"]) == ("webhook.test", None)

    async def test_a_dead_letter_is_found_and_sent_again_under_its_id(self, service: Api) -> None:
        made = await register(service.client)
        await service.run(DOCUMENT)
        store = service.bench.store.webhooks
        (row,) = await store.deliveries("default", endpoint_id=made["id"], limit=5)
        dead = replace(row, status="dead", tries=1, next_attempt_at=None, finished_at=row.created_at)
        await store.record([DeliveryOutcome(delivery=dead)], now=row.created_at)
        path = f"/v1/webhooks/{made['id']}/deliveries"
        (found,) = (await service.client.get(f"{path}?status=dead")).json()["data"]
        answer = await service.client.post(found["links"]["redeliver"])
        assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (202, row.id, "pending")
        assert (await service.client.get(f"{path}?status=dead")).json()["data"] == []
        assert [it.delivery.id for it in await store.due(answer_time(answer), limit=5, per_target=5)] == [
            row.id
        ]


def answer_time(answer: httpx.Response) -> float:
    """When the delivery of an answer is due."""
    return datetime.fromisoformat(answer.json()["next_attempt_at"]).timestamp()


class TestRuns:
    @pytest.mark.parametrize(
        ("webhook", "pointer"),
        [
            ("http://10.0.0.1/", "/webhook/url"),
            ({"url": "http://localhost.:1/", "secret": "whsec_" + "A" * 33}, "/webhook/secret"),
        ],
    )
    async def test_a_webhook_that_cannot_be_kept_refuses_the_run(
        self, client: httpx.AsyncClient, webhook: Any, pointer: str
    ) -> None:
        answer = await client.post("/v1/runs", json={"workflow": DOCUMENT, "webhook": webhook})
        refused = problem(answer, 422, "webhook_invalid")
        assert pointer in {error.pointer for error in refused.errors}
        assert "AAAA" not in answer.text
        assert (await client.get("/v1/runs")).json()["data"] == []

    async def test_without_any_secret_the_run_is_refused_and_told_what_to_set(self, service: Api) -> None:
        service.services.runs._webhooks = WebhookRules()
        answer = await service.client.post("/v1/runs", json={"workflow": DOCUMENT, "webhook": URL})
        refused = problem(answer, 422, "webhook_invalid")
        assert "ORCHESTRATOR_WEBHOOKS__SECRET" in (refused.errors[0].hint or "")
        signed = {"url": URL, "secret": OTHER_SECRET}
        answer = await service.client.post("/v1/runs", json={"workflow": DOCUMENT, "webhook": signed})
        assert answer.status_code == 202

    @pytest.mark.parametrize(
        "webhook", [URL, {"url": URL, "secret": OTHER_SECRET, "events": ["run.completed", "run.failed"]}]
    )
    async def test_a_run_brings_its_own_webhook(self, service: Api, webhook: Any) -> None:
        run = await service.run(DOCUMENT, webhook=webhook)
        other = await service.run(DOCUMENT)
        (delivery,) = await log_of(service.client, f"/v1/runs/{run['id']}")
        assert delivery["event"] == "run.completed"
        assert await log_of(service.client, f"/v1/runs/{other['id']}") == []
        found = (await service.client.get(delivery["links"]["webhook"])).json()
        assert (found["run_id"], found["url"]) == (run["id"], URL)
        assert (await service.client.get("/v1/webhooks")).json()["data"] == []
        problem(
            await service.client.patch(delivery["links"]["webhook"], json={"enabled": False}),
            409,
            "webhook_of_run",
        )
        events = await service.client.get(f"/v1/runs/{run['id']}/events")
        journal = await service.bench.store.journal.read(run["id"])
        assert "whsec" not in events.text + str(run)
        assert not any(b"whsec" in row.payload for row in journal)

    async def test_a_registered_workflow_takes_one_too(self, service: Api) -> None:
        await service.client.post("/v1/workflows", json=DOCUMENT)
        answer = await service.client.post("/v1/workflows/w/runs?wait=10", json={"webhook": URL})
        assert len(await log_of(service.client, f"/v1/runs/{answer.json()['id']}")) == 1
