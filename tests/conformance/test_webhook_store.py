"""What every store of webhooks does, over each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.ports.errors import AlreadyExists, Fenced, StoreUnavailable
from app.ports.runs import RunStatus, StatusChange, Store
from app.ports.webhooks import Delivery, DeliveryOutcome, DueDelivery, SendAttempt, delivery_id_of
from tests.conformance.test_store import STORES
from tests.stores.samples import DEFINITION, NOON, a_run, an_answer, events
from tests.stores.webhook_samples import OTHER_SECRET, a_delivery, an_endpoint

LATER = NOON + 1000


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = STORES[request.param](tmp_path)
    await opened.open()
    yield opened
    await opened.close()


def keys(found: Sequence[Delivery]) -> list[tuple[str, str]]:
    return [(delivery.endpoint_id, delivery.id) for delivery in found]


async def due(store: Store, now: float = LATER, *, limit: int = 100) -> list[DueDelivery]:
    return list(await store.webhooks.due(now, limit=limit, per_target=limit))


async def owed(store: Store) -> list[tuple[str, str]]:
    """Endpoint and event of everything that is due."""
    return sorted((it.endpoint.id, it.delivery.event) for it in await due(store))


async def end_run(store: Store, status: RunStatus = "completed", run_id: str = "r1", **run: Any) -> None:
    await store.runs.create(a_run(run_id, **run), events(1, 1, run_id), DEFINITION)
    await store.journal.append(events(2, 3, run_id), StatusChange(status=status, finished_at=NOON + 1))


def settle(delivery: Delivery, **changes: Any) -> DeliveryOutcome:
    ended: dict[str, Any] = {"status": "delivered", "tries": 1, "next_attempt_at": None, "finished_at": LATER}
    return DeliveryOutcome(delivery=replace(delivery, **(ended | changes)))


class TestEndpoints:
    async def test_a_taken_id_or_key_stores_nothing(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint(), an_answer())
        with pytest.raises(AlreadyExists, match="'e1'"):
            await store.webhooks.create(an_endpoint(url="https://other.example"), an_answer("k2"))
        with pytest.raises(AlreadyExists, match="'k1'"):
            await store.webhooks.create(an_endpoint("e2"), an_answer())
        assert await store.webhooks.get("t1", "e1") == an_endpoint()
        assert await store.webhooks.get("t1", "e2") is None
        assert await store.idempotency.find("t1", "k2") is None

    async def test_another_tenants_endpoint_does_not_exist(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        assert await store.webhooks.get("t2", "e1") is None
        assert await store.webhooks.list("t2", limit=10) == []
        assert not await store.webhooks.update(an_endpoint(tenant="t2", revision=2), now=NOON)
        assert not await store.webhooks.delete("t2", "e1")
        assert await store.webhooks.get("t1", "e1") == an_endpoint()

    async def test_an_endpoint_comes_back_as_it_was_stored(self, store: Store) -> None:
        full = an_endpoint(
            workflow="w",
            labels={"k": "ü"},
            description="d",
            enabled=False,
            disabled_reason="gone",
            include_outputs=True,
            old_secret=OTHER_SECRET,
            old_secret_until=LATER,
            revision=3,
        )
        await store.webhooks.create(full)
        assert await store.webhooks.get("t1", "e1") == full
        assert "whsec" not in repr(full)

    async def test_a_write_on_top_of_another_one_is_refused(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        assert not await store.webhooks.update(an_endpoint(revision=3), now=NOON, idempotency=an_answer())
        assert await store.idempotency.find("t1", "k1") is None
        changed = an_endpoint(revision=2, url="https://b.example", secret=OTHER_SECRET)
        assert await store.webhooks.update(changed, now=NOON, idempotency=an_answer())
        assert not await store.webhooks.update(changed, now=NOON)
        assert await store.webhooks.get("t1", "e1") == changed
        assert await store.idempotency.find("t1", "k1") is not None

    async def test_no_more_than_the_most_are_kept_however_many_come_at_once(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint("other", tenant="t2"))
        bound = an_endpoint("e0", run_id="r1")
        await store.runs.create(a_run(), events(1, 1), DEFINITION, webhook=bound)
        made = await asyncio.gather(
            *(
                store.webhooks.create(an_endpoint(f"e{n}"), an_answer(key=f"k{n}"), most=3)
                for n in range(1, 9)
            )
        )
        assert sorted(made) == [False] * 5 + [True] * 3
        assert len(await store.webhooks.list("t1", limit=9)) == 3
        kept = [await store.idempotency.find("t1", f"k{n}") is not None for n in range(1, 9)]
        assert kept == made

    async def test_lists_go_by_id_and_leave_out_what_runs_brought(self, store: Store) -> None:
        for endpoint_id in ("e2", "e1", "e3"):
            await store.webhooks.create(an_endpoint(endpoint_id))
        bound = an_endpoint("e0", run_id="r1")
        await store.runs.create(a_run(), events(1, 1), DEFINITION, webhook=bound)
        assert [it.id for it in await store.webhooks.list("t1", limit=2)] == ["e1", "e2"]
        assert [it.id for it in await store.webhooks.list("t1", limit=2, after="e2")] == ["e3"]
        assert await store.webhooks.get("t1", "e0") == bound

    async def test_deleting_takes_the_log_along(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        await store.webhooks.create(an_endpoint("e2"))
        await end_run(store)
        assert await store.webhooks.delete("t1", "e1")
        assert not await store.webhooks.delete("t1", "e1")
        assert [it.endpoint.id for it in await due(store)] == ["e2"]
        assert await store.webhooks.deliveries("t1", endpoint_id="e1", limit=10) == []


class TestOwing:
    async def test_a_refused_append_owes_nothing(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        await store.runs.create(a_run(), events(1, 2), DEFINITION)
        with pytest.raises(Fenced):
            await store.journal.append(events(2, 2), StatusChange(status="failed", finished_at=NOON))
        assert await due(store) == []

    async def test_a_refused_run_leaves_no_endpoint(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        with pytest.raises(AlreadyExists):
            await store.runs.create(a_run(), events(1, 1), DEFINITION, webhook=an_endpoint("e9", run_id="r1"))
        assert await store.webhooks.get("t1", "e9") is None

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"tenant": "t2"}, id="another tenant"),
            pytest.param({"events": ("run.failed",)}, id="another event"),
            pytest.param({"workflow": "other"}, id="another workflow"),
            pytest.param({"labels": {"a": "1", "b": "2"}}, id="a label that is missing"),
            pytest.param({"labels": {"a": "2"}}, id="a label of another value"),
            pytest.param({"enabled": False}, id="disabled"),
            pytest.param({"run_id": "r2"}, id="bound to another run"),
        ],
    )
    async def test_who_does_not_want_it_is_not_owed_it(self, store: Store, changes: dict[str, Any]) -> None:
        await store.webhooks.create(an_endpoint(**changes))
        await end_run(store, labels={"a": "1"})
        assert await store.webhooks.pending() == 0

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({}, id="everything"),
            pytest.param({"workflow": "w", "labels": {"a": "1"}}, id="filtered"),
        ],
    )
    async def test_a_delivery_is_owed_with_the_event_that_ends_a_run(
        self, store: Store, changes: dict[str, Any]
    ) -> None:
        await store.webhooks.create(an_endpoint(**changes))
        await end_run(store, labels={"a": "1", "b": "2"})
        (found,) = await due(store)
        at = events(3, 3)[0].at
        assert found.delivery == a_delivery(
            delivery_id_of("r1", 3),
            run_id="r1",
            seq=3,
            event="run.completed",
            created_at=at,
            next_attempt_at=at,
        )
        assert found.endpoint == an_endpoint(**changes)
        assert found.run == await store.runs.get("t1", "r1")

    @pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "timed_out", "waiting", "paused"])
    async def test_every_status_that_tells_something_is_an_event(
        self, store: Store, status: RunStatus
    ) -> None:
        await store.webhooks.create(an_endpoint(events=("run.waiting", "run.paused")))
        await store.webhooks.create(an_endpoint("e2"))
        await end_run(store, status)
        wants = "e1" if status in {"waiting", "paused"} else "e2"
        assert await owed(store) == [(wants, f"run.{status}")]

    async def test_a_run_that_ends_as_it_is_created_is_told_of(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        run = a_run(status="completed", finished_at=NOON)
        await store.runs.create(run, events(1, 4), DEFINITION, webhook=an_endpoint("e2", run_id="r1"))
        assert await owed(store) == [("e1", "run.completed"), ("e2", "run.completed")]
        assert {it.delivery.id for it in await due(store)} == {delivery_id_of("r1", 4)}

    async def test_a_run_tells_only_its_own_webhook_and_the_registered_ones(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        for run_id in ("r1", "r2"):
            bound = an_endpoint(f"of-{run_id}", run_id=run_id)
            await store.runs.create(a_run(run_id), events(1, 1, run_id), DEFINITION, webhook=bound)
        await store.journal.append(events(2, 2, "r2"), StatusChange(status="failed", finished_at=NOON))
        assert await owed(store) == [("e1", "run.failed"), ("of-r2", "run.failed")]

    async def test_every_event_of_one_batch_is_owed(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint(events=("run.waiting", "run.completed")))
        await asyncio.gather(
            *(store.runs.create(a_run(f"r{n}"), events(1, 1, f"r{n}"), DEFINITION) for n in range(50)),
            *(store.journal.append(events(2, 2, f"r{n}"), StatusChange(status="waiting")) for n in range(50)),
            *(
                store.journal.append(
                    events(3, 3, f"r{n}"), StatusChange(status="completed", finished_at=NOON)
                )
                for n in range(50)
            ),
        )
        assert len({it.delivery.id for it in await due(store)}) == 100
        assert await store.webhooks.pending() == 100

    async def test_an_endpoint_hears_of_what_comes_after_it_only(self, store: Store) -> None:
        await end_run(store)
        await store.webhooks.create(an_endpoint())
        await end_run(store, run_id="r2")
        assert [it.delivery.run_id for it in await due(store)] == ["r2"]


class TestSending:
    async def test_what_is_not_due_ended_or_excluded_is_left_out(self, store: Store) -> None:
        for number, target in enumerate(("a", "a", "b", "c")):
            await store.webhooks.create(an_endpoint(f"e{number}"))
            await store.webhooks.add(
                a_delivery(endpoint_id=f"e{number}", target=target, next_attempt_at=NOON + number)
            )
        found = await store.webhooks.due(NOON + 2, limit=10, per_target=10)
        assert [it.endpoint.id for it in found] == ["e0", "e2", "e1"]
        found = await store.webhooks.due(NOON + 9, limit=10, per_target=10, exclude=frozenset({"a"}))
        assert [it.endpoint.id for it in found] == ["e2", "e3"]
        await store.webhooks.record([settle(found[0].delivery)], now=NOON)
        assert [it.endpoint.id for it in await due(store, limit=2)] == ["e0", "e3"]
        assert [it.endpoint.id for it in await due(store)] == ["e0", "e3", "e1"]
        assert await store.webhooks.pending() == 3

    async def test_every_target_gets_its_turn_whatever_is_owed_to_the_others(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint("e1"))
        for number, target in enumerate(("a", "a", "a", "b", "b", "c")):
            await store.webhooks.add(
                a_delivery(f"msg_{number}", target=target, next_attempt_at=NOON + number)
            )
        found = await store.webhooks.due(LATER, limit=10, per_target=2)
        assert [it.delivery.id for it in found] == ["msg_0", "msg_3", "msg_5", "msg_1", "msg_4"]
        found = await store.webhooks.due(LATER, limit=2, per_target=9)
        assert [it.delivery.id for it in found] == ["msg_0", "msg_3"]
        found = await store.webhooks.due(NOON + 3, limit=9, per_target=1)
        assert [it.delivery.id for it in found] == ["msg_0", "msg_3"]

    async def test_what_became_of_attempts_is_kept(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        await store.webhooks.add(a_delivery())
        attempt = SendAttempt(at=NOON, seconds=0.25, status_code=503, error="answered 503")
        failed = replace(a_delivery(), tries=1, attempts=(attempt,), next_attempt_at=NOON + 5)
        await store.webhooks.record([DeliveryOutcome(delivery=failed)], now=NOON)
        assert await store.webhooks.delivery("t1", "e1", "msg_1") == failed
        assert await due(store, NOON + 4) == []
        assert len(await due(store, NOON + 5)) == 1

    async def test_what_was_asked_for_again_meanwhile_stays_asked_for(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        await store.webhooks.add(a_delivery())
        assert await store.webhooks.redeliver("t1", "e1", "msg_1", now=NOON + 1)
        await store.webhooks.record([settle(a_delivery(), status="dead")], now=NOON)
        (found,) = await due(store)
        assert (found.delivery.status, found.delivery.round, found.delivery.tries) == ("pending", 1, 0)

    async def test_what_a_process_says_that_was_overtaken_by_another_counts_for_nothing(
        self, store: Store
    ) -> None:
        await store.webhooks.create(an_endpoint())
        for delivery_id in ("msg_1", "msg_2"):
            await store.webhooks.add(a_delivery(delivery_id))
        delivered = settle(a_delivery("msg_1"))
        later = settle(
            a_delivery("msg_2"), status="pending", tries=3, next_attempt_at=LATER, finished_at=None
        )
        await store.webhooks.record([delivered, later], now=NOON)
        for delivery_id in ("msg_1", "msg_2"):
            late = settle(
                a_delivery(delivery_id), status="pending", tries=2, next_attempt_at=NOON, finished_at=None
            )
            await store.webhooks.record([late], now=NOON)
        assert await store.webhooks.delivery("t1", "e1", "msg_1") == delivered.delivery
        assert await store.webhooks.delivery("t1", "e1", "msg_2") == later.delivery

    async def test_a_dead_delivery_can_be_asked_for_again(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        await store.webhooks.add(a_delivery())
        await store.webhooks.record([settle(a_delivery(), status="dead", tries=8)], now=NOON)
        assert not await store.webhooks.redeliver("t2", "e1", "msg_1", now=NOON)
        assert not await store.webhooks.redeliver("t1", "e1", "msg_2", now=NOON, idempotency=an_answer())
        assert await store.idempotency.find("t1", "k1") is None
        assert await store.webhooks.redeliver("t1", "e1", "msg_1", now=LATER, idempotency=an_answer())
        assert await store.idempotency.find("t1", "k1") is not None
        (found,) = await due(store)
        assert found.delivery == a_delivery(round=1, next_attempt_at=LATER)

    async def test_a_disabled_endpoint_is_owed_and_not_sent_to(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        for delivery_id in ("msg_1", "msg_2"):
            await store.webhooks.add(a_delivery(delivery_id))
        outcome = settle(a_delivery(), status="dead")
        await store.webhooks.record([replace(outcome, disable="410")], now=LATER)
        row = await store.webhooks.get("t1", "e1")
        assert row == an_endpoint(enabled=False, disabled_reason="410", revision=2, updated_at=LATER)
        assert await due(store) == []
        # An attempt that was under way ends later.
        late = settle(a_delivery("msg_2"), status="pending", next_attempt_at=NOON + 5, finished_at=None)
        await store.webhooks.record([late], now=LATER)
        held = await store.webhooks.delivery("t1", "e1", "msg_2")
        assert held is not None
        assert held.next_attempt_at is None
        assert await store.webhooks.update(an_endpoint(revision=3), now=LATER)
        assert [it.delivery.id for it in await due(store)] == ["msg_2"]

    async def test_a_delivery_whose_run_is_gone_is_still_due(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        await store.webhooks.add(a_delivery(run_id="r9", seq=3, event="run.completed"))
        assert [it.run for it in await due(store)] == [None]

    async def test_a_taken_key_or_id_adds_nothing(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        await store.webhooks.add(a_delivery(), an_answer())
        with pytest.raises(AlreadyExists, match="'k1'"):
            await store.webhooks.add(a_delivery("msg_2"), an_answer())
        with pytest.raises(AlreadyExists, match="'msg_1'"):
            await store.webhooks.add(a_delivery())
        assert await store.webhooks.pending() == 1


class TestLog:
    async def test_another_tenant_sees_nothing(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        await end_run(store)
        assert await store.webhooks.deliveries("t2", endpoint_id="e1", limit=10) == []
        assert await store.webhooks.deliveries("t2", run_id="r1", limit=10) == []
        assert await store.webhooks.delivery("t2", "e1", delivery_id_of("r1", 3)) is None

    async def test_pages_go_from_new_to_old(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        for number in range(5):
            await store.webhooks.add(a_delivery(f"msg_{number}", created_at=NOON + number // 2))
        first = await store.webhooks.deliveries("t1", endpoint_id="e1", limit=3)
        assert [it.id for it in first] == ["msg_4", "msg_3", "msg_2"]
        last = first[-1]
        rest = await store.webhooks.deliveries(
            "t1", endpoint_id="e1", limit=3, before=(last.created_at, last.endpoint_id, last.id)
        )
        assert [it.id for it in rest] == ["msg_1", "msg_0"]

    async def test_dead_letters_are_found_by_their_status(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        for number in range(3):
            await store.webhooks.add(a_delivery(f"msg_{number}"))
        await store.webhooks.record([settle(a_delivery("msg_1"), status="dead")], now=NOON)
        dead = await store.webhooks.deliveries("t1", endpoint_id="e1", status="dead", limit=10)
        assert keys(dead) == [("e1", "msg_1")]

    async def test_a_run_knows_who_was_told_of_it(self, store: Store) -> None:
        for endpoint_id in ("e1", "e2"):
            await store.webhooks.create(an_endpoint(endpoint_id))
        await end_run(store)
        await end_run(store, run_id="r2")
        found = await store.webhooks.deliveries("t1", run_id="r1", limit=10)
        assert keys(found) == [("e2", "msg_r1_3"), ("e1", "msg_r1_3")]


class TestPruning:
    async def test_what_is_owed_or_young_stays(self, store: Store) -> None:
        await store.webhooks.create(an_endpoint())
        for number in range(4):
            await store.webhooks.add(a_delivery(f"msg_{number}"))
        await store.webhooks.record([settle(a_delivery("msg_0"), finished_at=NOON)], now=NOON)
        await store.webhooks.record([settle(a_delivery("msg_1"), finished_at=NOON + 9)], now=NOON)
        await store.webhooks.record([settle(a_delivery("msg_2"), finished_at=NOON + 1)], now=NOON)
        assert await store.webhooks.prune(NOON + 9, limit=1) == 1
        assert await store.webhooks.prune(NOON + 9, limit=10) == 1
        left = await store.webhooks.deliveries("t1", endpoint_id="e1", limit=10)
        assert keys(left) == [("e1", "msg_3"), ("e1", "msg_1")]

    async def test_the_webhook_of_a_run_goes_once_nothing_needs_it(self, store: Store) -> None:
        for run_id in ("r1", "r2"):
            bound = an_endpoint(f"of-{run_id}", run_id=run_id)
            await store.runs.create(a_run(run_id), events(1, 1, run_id), DEFINITION, webhook=bound)
        await store.webhooks.create(an_endpoint())
        await store.journal.append(events(2, 2), StatusChange(status="completed", finished_at=NOON))
        await store.webhooks.prune(LATER, limit=10)
        assert await store.webhooks.get("t1", "of-r1") is not None, "it is owed a delivery"
        outcomes = [settle(it.delivery, finished_at=NOON) for it in await due(store)]
        await store.webhooks.record(outcomes, now=NOON)
        await store.webhooks.prune(LATER, limit=10)
        assert await store.webhooks.get("t1", "of-r1") is None
        assert await store.webhooks.get("t1", "of-r2") is not None, "its run goes on"
        assert await store.webhooks.get("t1", "e1") is not None


async def test_a_closed_store_refuses(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.webhooks.create(an_endpoint())
    with pytest.raises(StoreUnavailable):
        await store.webhooks.due(NOON, limit=1, per_target=1)


async def test_an_endpoint_of_another_process_hears_of_the_next_event(tmp_path: Path) -> None:
    ours, theirs = STORES["sqlite"](tmp_path), STORES["sqlite"](tmp_path)
    await ours.open()
    await theirs.open()
    try:
        await end_run(ours)
        await theirs.webhooks.create(an_endpoint())
        await end_run(ours, run_id="r2")
        assert [it.delivery.run_id for it in await due(theirs)] == ["r2"]
    finally:
        await ours.close()
        await theirs.close()
