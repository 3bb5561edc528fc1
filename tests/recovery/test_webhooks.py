"""A process that is killed loses no delivery: what it owed is sent by the next one, under the same id."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Final

from tests.recovery.receiver import Receiver, receiving
from tests.recovery.services import Client, Services, client_of
from tests.stores.webhook_samples import SECRET

HASTY: Final = {
    "ORCHESTRATOR_EGRESS__ALLOW_PRIVATE": "true",
    "ORCHESTRATOR_WEBHOOKS__SECRET": SECRET,
    "ORCHESTRATOR_WEBHOOKS__RETRY_SECONDS": "0.05",
    "ORCHESTRATOR_WEBHOOKS__RETRY_FACTOR": "1.5",
    "ORCHESTRATOR_WEBHOOKS__MAX_ATTEMPTS": "20",
}
TICK: Final = {"name": "tick", "steps": [{"id": "one", "type": "transform", "expression": "1"}]}


def submit(client: Client, receiver: Receiver) -> str:
    answer = client.http.post("/v1/runs", json={"workflow": TICK, "webhook": receiver.url})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def deliveries_of(client: Client, run_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        client.http.get(f"/v1/runs/{run_id}/deliveries").raise_for_status().json()["data"]
    )
    return found


def delivered(client: Client, run_id: str) -> dict[str, Any]:
    """The delivery of a run once it is recorded as such."""
    deadline = time.monotonic() + 60
    while True:
        (delivery,) = deliveries_of(client, run_id)
        if delivery["status"] == "delivered":
            return delivery
        assert time.monotonic() < deadline, delivery
        time.sleep(0.02)


def test_a_kill_before_the_answer_sends_it_again_under_the_same_id(services: Services) -> None:
    dead = threading.Event()

    def answer(number: int) -> int:
        if number == 1:
            dead.wait(60)
        return 204

    with receiving(SECRET, answer) as receiver:
        service = services.ready(environment=HASTY)
        with client_of(service) as client:
            run_id = submit(client, receiver)
        receiver.wait(lambda: len(receiver.arrived) == 1)
        service.kill()
        dead.set()
        service = services.ready(environment=HASTY)
        receiver.wait(lambda: len(receiver.arrived) == 2)
        with client_of(service) as client:
            delivery = delivered(client, run_id)
            assert client.ended(run_id)["status"] == "completed"
    assert {message_id for message_id, _ in receiver.arrived} == {delivery["id"]}
    assert {body["data"]["run_id"] for _, body in receiver.arrived} == {run_id}
    assert receiver.forged == 0
    assert SECRET.removeprefix("whsec_") not in service.log()


def test_a_kill_between_the_end_of_a_run_and_its_delivery_loses_nothing(services: Services) -> None:
    """Nobody listens while the first process lives, so nothing can have been delivered before it dies."""
    with receiving(SECRET, lambda _: 200) as closed:
        pass
    patient = HASTY | {"ORCHESTRATOR_WEBHOOKS__RETRY_SECONDS": "3600"}
    service = services.ready(environment=patient)
    with client_of(service) as client:
        made = client.http.post("/v1/webhooks", json={"url": closed.url})
        assert made.status_code == 201, made.text
        run_ids = [client.ended(submit(client, closed))["id"] for _ in range(5)]
    service.kill()
    service = services.ready(environment=patient)
    with client_of(service) as client:
        for run_id in run_ids:
            assert len(deliveries_of(client, run_id)) == 2
        path = made.json()["links"]["self"]
        with receiving(made.json()["secret"], lambda _: 200) as receiver:
            assert client.http.patch(path, json={"url": receiver.url}).status_code == 200
            for delivery in client.http.get(f"{path}/deliveries").json()["data"]:
                assert client.http.post(delivery["links"]["redeliver"]).status_code == 202
            receiver.wait(lambda: len(set(receiver.accepted)) == len(run_ids))
    assert {body["data"]["run_id"] for _, body in receiver.arrived} == set(run_ids)


def test_kills_under_load_and_a_receiver_that_fails_lose_no_delivery(services: Services) -> None:
    chance = random.Random(20260131)
    acknowledged: set[str] = set()
    with receiving(SECRET, lambda number: 500 if number % 3 else 200) as receiver:
        for _ in range(3):
            service = services.ready(environment=HASTY)
            with client_of(service) as client:
                acknowledged |= {submit(client, receiver) for _ in range(20)}
                time.sleep(chance.uniform(0.0, 0.4))
            service.kill()
        service = services.ready(environment=HASTY)
        receiver.wait(lambda: len(set(receiver.accepted)) >= len(acknowledged))
        with client_of(service) as client:
            ids = {delivered(client, run_id)["id"] for run_id in acknowledged}
    assert len(acknowledged) == 60
    assert ids == set(receiver.accepted) == {message_id for message_id, _ in receiver.arrived}
    assert {body["data"]["run_id"] for _, body in receiver.arrived} == acknowledged
    assert receiver.forged == 0
