"""Deliveries are sent at least once, signed, to whom the policy allows; one that fails delays no other."""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from app.ports.errors import StoreUnavailable
from app.ports.lock import ExecutorLock
from app.ports.runs import Store
from app.ports.webhooks import Delivery, DeliveryOutcome, DueDelivery, Endpoint, WebhookStore
from app.providers.transport import Transport
from app.providers.webhook_http import WebhookHttp
from app.security.egress import EgressPolicy
from app.services.webhook_decisions import DeliveryPolicy
from app.services.webhook_delivery import WebhookDispatcher
from app.services.webhook_sender import WebhookSender
from app.stores.memory import MemoryStore
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from app.stores.memory_webhooks import MemoryWebhooks
from app.stores.sql.schema import DATABASE_FILE
from app.stores.sql.sqlite import SqliteStore
from tests.engines.harness import Bench, WallClock, bench, llm
from tests.stores.webhook_samples import OTHER_SECRET, SECRET, a_delivery, an_endpoint

T = TypeVar("T")
Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]
HASTY = DeliveryPolicy(max_attempts=3, retry_seconds=0.001, retry_factor=1, timeout_seconds=5)
DOCUMENT = {"name": "w", "steps": [llm("a")], "outputs": {"said": "{{ steps.a.text }}"}}


async def ok(request: httpx.Request) -> httpx.Response:
    return httpx.Response(204)


def answering(*statuses: int, **headers: str) -> Answer:
    """These, one after the other, then the last one."""
    left = list(statuses)

    async def answer(request: httpx.Request) -> httpx.Response:
        status = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(status, headers=headers, text="as told")

    return answer


@dataclass
class Counted:
    """What the dispatcher reported."""

    outcomes: Counter[str] = field(default_factory=Counter)
    pending: int = -1
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def webhook_attempt(self, outcome: str) -> None:
        self.outcomes[outcome] += 1

    def webhooks_pending(self, n: int) -> None:
        self.pending = n
        self.asked.set()


@dataclass
class Post:
    """A dispatcher under test, over an engine that runs workflows."""

    bench: Bench
    dispatcher: WebhookDispatcher
    received: list[httpx.Request]
    counted: Counted

    @property
    def store(self) -> Store:
        return self.bench.store

    async def settled(self, endpoint_id: str = "e1") -> Delivery:
        """The newest delivery of an endpoint, once it has ended."""

        async def newest() -> Delivery | None:
            found = await self.store.webhooks.deliveries("default", endpoint_id=endpoint_id, limit=1)
            return found[0] if found and found[0].finished_at is not None else None

        return await until(newest)

    async def idle(self) -> None:
        """Wait until nothing is owed."""

        async def nothing() -> bool:
            return not await self.store.webhooks.pending()

        await until(nothing)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.content) for request in self.received]


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    """The first thing that is something; a store has no event to wait for."""
    async with asyncio.timeout(10):
        while not (found := await look()):  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.005)
    return found


def ours(endpoint_id: str = "e1", **changes: Any) -> Endpoint:
    return an_endpoint(endpoint_id, tenant="default", **changes)


@asynccontextmanager
async def post(
    answer: Answer = ok,
    *,
    policy: DeliveryPolicy = HASTY,
    default_secret: str | None = None,
    store: Store | None = None,
    lock: ExecutorLock | None = None,
) -> AsyncIterator[Post]:
    received: list[httpx.Request] = []

    async def receive(request: httpx.Request) -> httpx.Response:
        received.append(request)
        return await answer(request)

    transport = Transport.over_httpx(httpx.MockTransport(receive))
    counted = Counted()
    async with bench(store=store, lock=lock) as engine:
        dispatcher = WebhookDispatcher(
            webhooks=engine.store.webhooks,
            sender=WebhookSender(
                http=WebhookHttp(transport, EgressPolicy()),
                journal=engine.store.journal,
                clock=WallClock(),
                policy=policy,
                default_secret=default_secret,
            ),
            engine=engine.engine,
            clock=WallClock(),
            recorder=counted,
            policy=policy,
            poll_seconds=0.005,
        )
        dispatcher.start()
        try:
            yield Post(bench=engine, dispatcher=dispatcher, received=received, counted=counted)
        finally:
            await dispatcher.stop()
            await transport.aclose()


class _Raw(httpx.AsyncByteStream):
    """A body as it is on the wire, and how it ends."""

    def __init__(self, content: bytes, then: Exception | None = None) -> None:
        self._content = content
        self._then = then

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content
        if self._then is not None:
            raise self._then


class _Full(MemoryWebhooks):
    """Takes no outcome while it is `stuck`."""

    stuck = True

    def adopt(self, other: WebhookStore) -> _Full:
        assert isinstance(other, MemoryWebhooks)
        self.__dict__.update(other.__dict__)
        self.refused = asyncio.Event()
        return self

    async def record(self, outcomes: Sequence[DeliveryOutcome], *, now: float) -> None:
        if self.stuck:
            self.refused.set()
            raise StoreUnavailable("the disk is full")
        await super().record(outcomes, now=now)


class _Late(_Full):
    """The second look at what is due is answered when what it found is settled already."""

    stuck = False

    def begin(self) -> None:
        self.looks, self.looked, self.recorded = 0, asyncio.Event(), asyncio.Event()

    async def due(self, *args: Any, **options: Any) -> Sequence[DueDelivery]:
        found = await super().due(*args, **options)
        self.looks += bool(found)
        if self.looks == 2:
            self.looked.set()
            await self.recorded.wait()
        return found

    async def record(self, outcomes: Sequence[DeliveryOutcome], *, now: float) -> None:
        await super().record(outcomes, now=now)
        self.recorded.set()


class TestAttempts:
    async def test_a_private_address_is_never_connected_to(self) -> None:
        async with post() as it:
            for number, host in enumerate(
                ("169.254.169.254", "127.0.0.1", "[::ffff:10.0.0.1]", "2130706433")
            ):
                await it.store.webhooks.create(ours(f"e{number}", url=f"http://{host}/"))
            await it.bench.run(DOCUMENT)
            for number in range(4):
                delivery = await it.settled(f"e{number}")
                assert (delivery.status, delivery.tries) == ("dead", 1)
                assert delivery.attempts[0].status_code is None
        assert it.received == []

    async def test_a_redirect_is_not_followed(self) -> None:
        async with post(answering(302, location="http://169.254.169.254/")) as it:
            await it.store.webhooks.create(ours())
            await it.bench.run(DOCUMENT)
            delivery = await it.settled()
        assert delivery.status == "dead"
        assert {request.url.host for request in it.received} == {"example.com"}
        assert "redirects are not followed" in (delivery.attempts[0].error or "")

    async def test_a_receiver_that_fails_is_asked_again_with_the_same_id(self) -> None:
        async with post(answering(500, 503, 200)) as it:
            await it.store.webhooks.create(ours())
            run_id = await it.bench.submit(DOCUMENT)
            delivery = await it.settled()
        assert delivery.status == "delivered"
        assert [attempt.status_code for attempt in delivery.attempts] == [500, 503, 200]
        assert [attempt.error for attempt in delivery.attempts][2] is None
        assert {request.headers["webhook-id"] for request in it.received} == {delivery.id}
        assert delivery.run_id == run_id
        assert it.counted.outcomes == {"retrying": 2, "delivered": 1}

    async def test_the_last_failure_makes_it_dead(self) -> None:
        async with post(answering(500)) as it:
            await it.store.webhooks.create(ours())
            await it.bench.run(DOCUMENT)
            delivery = await it.settled()
        assert (delivery.status, delivery.tries, len(it.received)) == ("dead", 3, 3)
        assert delivery.attempts[-1].error == "answered 500: as told"
        assert it.counted.outcomes == {"retrying": 2, "dead": 1}

    async def test_nobody_there_is_a_failure_without_a_status(self) -> None:
        async def refuse(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused")

        async with post(refuse) as it:
            await it.store.webhooks.create(ours())
            await it.bench.run(DOCUMENT)
            delivery = await it.settled()
        assert delivery.status == "dead"
        assert {attempt.status_code for attempt in delivery.attempts} == {None}

    async def test_gone_disables_the_endpoint(self) -> None:
        async with post(answering(410)) as it:
            await it.store.webhooks.create(ours())
            await it.bench.run(DOCUMENT)
            assert (await it.settled()).status == "dead"
            row = await it.store.webhooks.get("default", "e1")
            assert row is not None
            assert (row.enabled, len(it.received)) == (False, 1)
            assert row.disabled_reason
            await it.bench.run(DOCUMENT)
            assert await it.store.webhooks.pending() == 0

    async def test_a_large_compressed_answer_costs_little(self) -> None:
        async def bomb(request: httpx.Request) -> httpx.Response:
            content = gzip.compress(b"x" * 50_000_000)
            return httpx.Response(500, headers={"content-encoding": "gzip"}, stream=_Raw(content))

        async with post(bomb, policy=replace(HASTY, max_attempts=1)) as it:
            await it.store.webhooks.create(ours())
            await it.bench.run(DOCUMENT)
            delivery = await it.settled()
        assert len(delivery.attempts[0].error or "") < 300

    async def test_an_answer_that_breaks_off_after_its_head_counts_by_its_status(self) -> None:
        async def broken(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=_Raw(b"beginning", then=httpx.ReadError("reset")))

        async with post(broken) as it:
            await it.store.webhooks.create(ours())
            await it.bench.run(DOCUMENT)
            assert (await it.settled()).status == "delivered"


class TestMessages:
    async def test_without_any_secret_nothing_is_sent(self) -> None:
        async with post() as it:
            await it.store.webhooks.create(ours(secret=None))
            await it.bench.run(DOCUMENT)
            delivery = await it.settled()
        assert it.received == []
        assert "webhooks.secret" in (delivery.attempts[0].error or "")

    async def test_a_failed_run_is_told_with_its_error_and_no_outputs(self) -> None:
        document = {"name": "w", "steps": [{"id": "a", "type": "transform", "expression": "1 / 0"}]}
        async with post() as it:
            await it.store.webhooks.create(ours(include_outputs=True))
            await it.bench.run(document)
            await it.settled()
        (body,) = it.bodies()
        assert (body["type"], body["data"]["status"]) == ("run.failed", "failed")
        assert body["data"]["error"]["path"] == "a"
        assert "outputs" not in body["data"]

    async def test_the_message_says_what_happened_and_is_signed(self) -> None:
        async with post() as it:
            await it.store.webhooks.create(ours())
            await it.bench.submit(DOCUMENT, labels={"team": "a"})
            delivery = await it.settled()
            row = await it.store.runs.get("default", delivery.run_id or "")
        (request,) = it.received
        body = Webhook(SECRET).verify(request.content, dict(request.headers))
        assert request.headers["content-type"] == "application/json"
        assert row is not None
        assert body["type"] == "run.completed"
        data = body["data"]
        assert (data["run_id"], data["workflow"], data["labels"]) == (row.id, "w", {"team": "a"})
        assert (data["status"], data["error"]) == ("completed", None)
        assert data["links"] == {"self": f"/v1/runs/{row.id}", "events": f"/v1/runs/{row.id}/events"}
        assert data["finished_at"] == body["timestamp"]
        assert "outputs" not in data

    async def test_outputs_are_sent_along_where_asked_for_unless_they_are_large(self) -> None:
        async with post(policy=replace(HASTY, max_output_bytes=30)) as it:
            await it.store.webhooks.create(ours(include_outputs=True))
            await it.bench.run(DOCUMENT)
            await it.settled()
            large = {**DOCUMENT, "outputs": {"said": "{{ steps.a.text }}" * 9}}
            await it.bench.run(large)
            await it.idle()
        small, large_data = (body["data"] for body in it.bodies())
        assert (small["outputs"], small["outputs_omitted"]) == ({"said": "a done"}, False)
        assert (large_data["outputs"], large_data["outputs_omitted"]) == (None, True)

    async def test_the_old_secret_signs_beside_the_new_one_until_its_time_is_over(self) -> None:
        now = WallClock().now()
        async with post(default_secret=SECRET) as it:
            rotated = {"secret": OTHER_SECRET, "old_secret": SECRET}
            await it.store.webhooks.create(ours("e1", **rotated, old_secret_until=now + 60))
            await it.store.webhooks.create(ours("e2", **rotated, old_secret_until=now - 60))
            await it.store.webhooks.create(ours("e3", secret=None))
            await it.bench.run(DOCUMENT)
            for endpoint_id in ("e1", "e2", "e3"):
                assert (await it.settled(endpoint_id)).status == "delivered"
        signatures = sorted(request.headers["webhook-signature"].count("v1,") for request in it.received)
        assert signatures == [1, 1, 2]
        both = next(it for it in it.received if " " in it.headers["webhook-signature"])
        for secret in (SECRET, OTHER_SECRET):
            Webhook(secret).verify(both.content, dict(both.headers))

    async def test_a_run_that_is_gone_leaves_nothing_to_tell(self) -> None:
        async with post() as it:
            await it.store.webhooks.create(ours())
            gone = Delivery(
                endpoint_id="e1",
                id="msg_x_3",
                tenant="default",
                target="t",
                run_id="x",
                seq=3,
                event="run.completed",
                next_attempt_at=1.0,
                created_at=1.0,
            )
            await it.store.webhooks.add(gone)
            assert (await it.settled()).status == "dead"
        assert it.received == []


class TestFairness:
    async def test_a_receiver_that_hangs_delays_no_other(self) -> None:
        over = asyncio.Event()

        async def answer(request: httpx.Request) -> httpx.Response:
            if request.url.host == "dead.example":
                await over.wait()
            return httpx.Response(200)

        policy = replace(HASTY, concurrency=4, concurrency_per_target=2)
        async with post(answer, policy=policy) as it:
            dead = {"url": "https://dead.example/", "target": "dead"}
            await it.store.webhooks.create(ours("dead", **dead))
            for _ in range(6):
                await it.bench.run(DOCUMENT)
            await it.store.webhooks.create(ours("live", target="live"))
            for _ in range(6):
                await it.bench.run(DOCUMENT)
                assert (await it.settled("live")).status == "delivered"
            hosts = Counter(request.url.host for request in it.received)
            assert hosts == {"dead.example": 2, "example.com": 6}
            over.set()

    async def test_targets_that_fail_are_tried_one_at_a_time_in_half_of_the_places(self) -> None:
        in_flight: Counter[str] = Counter()
        most: Counter[str] = Counter()

        async def answer(request: httpx.Request) -> httpx.Response:
            host = request.url.host
            in_flight[host] += 1
            in_flight["all"] += 1
            most[host] = max(most[host], in_flight[host])
            most["all"] = max(most["all"], in_flight["all"])
            await asyncio.sleep(0.01)
            in_flight[host] -= 1
            in_flight["all"] -= 1
            return httpx.Response(500)

        policy = replace(HASTY, concurrency=4, max_attempts=6)
        async with post(answer, policy=policy) as it:
            for number in range(3):
                host = f"dead{number}.example"
                await it.store.webhooks.create(ours(f"e{number}", url=f"https://{host}/", target=host))
            await it.bench.run(DOCUMENT)
            for number in range(3):
                await it.settled(f"e{number}")
            most.clear()
            for _ in range(3):
                await it.bench.run(DOCUMENT)
            await it.idle()
        assert most["all"] <= 2
        assert {most[f"dead{number}.example"] for number in range(3)} == {1}


class TestLife:
    async def test_a_process_that_stands_by_sends_nothing(self) -> None:
        slot = ExecutorSlot()
        await MemoryLock(slot).acquire()
        async with post(lock=MemoryLock(slot)) as it:
            await it.store.webhooks.create(ours())
            delivery = Delivery(
                endpoint_id="e1",
                id="msg_1",
                tenant="default",
                target="t",
                event="webhook.test",
                next_attempt_at=1.0,
                created_at=1.0,
            )
            await it.store.webhooks.add(delivery)
            it.dispatcher.wake()
            await asyncio.sleep(0.05)
            assert it.received == []

    async def test_what_cannot_be_recorded_is_not_sent_again_until_it_is(self) -> None:
        store = MemoryStore()
        webhooks = _Full.__new__(_Full).adopt(store.webhooks)
        store.webhooks = webhooks
        await store.open()
        async with post(store=store) as it:
            await webhooks.create(ours())
            await it.bench.run(DOCUMENT)
            await asyncio.wait_for(webhooks.refused.wait(), 5)
            assert len(it.received) == 1
            webhooks.stuck = False
            assert (await it.settled()).status == "delivered"
            assert len(it.received) == 1
        await store.close()

    async def test_what_was_settled_while_the_store_was_asked_for_it_is_not_sent_again(self) -> None:
        store = MemoryStore()
        webhooks = _Late.__new__(_Late)
        webhooks.adopt(store.webhooks)
        webhooks.begin()
        store.webhooks = webhooks
        await store.open()

        async def once_looked(request: httpx.Request) -> httpx.Response:
            await webhooks.looked.wait()
            return httpx.Response(204)

        async with post(once_looked, store=store) as it:
            await webhooks.create(ours())
            await it.bench.run(DOCUMENT)
            assert (await it.settled()).status == "delivered"
            await asyncio.sleep(0.05)
            assert len(it.received) == 1
        await store.close()

    async def test_a_stop_lets_what_is_under_way_end_and_records_it(self) -> None:
        under_way, go_on = asyncio.Event(), asyncio.Event()

        async def slow(request: httpx.Request) -> httpx.Response:
            under_way.set()
            await go_on.wait()
            return httpx.Response(200)

        async with post(slow) as it:
            await it.store.webhooks.create(ours())
            await it.bench.run(DOCUMENT)
            await asyncio.wait_for(under_way.wait(), 5)
            stopping = asyncio.create_task(it.dispatcher.stop(5.0))
            await asyncio.sleep(0)
            go_on.set()
            await stopping
            (delivery,) = await it.store.webhooks.deliveries("default", endpoint_id="e1", limit=5)
            assert delivery.status == "delivered"

    async def test_a_stop_without_grace_leaves_it_owed(self) -> None:
        under_way = asyncio.Event()

        async def hang(request: httpx.Request) -> httpx.Response:
            under_way.set()
            await asyncio.Event().wait()
            raise AssertionError

        async with post(hang) as it:
            await it.store.webhooks.create(ours())
            await it.bench.run(DOCUMENT)
            await asyncio.wait_for(under_way.wait(), 5)
            await it.dispatcher.stop(0.0)
            assert await it.store.webhooks.pending() == 1

    async def test_what_is_owed_is_counted(self) -> None:
        async with post() as it:
            await asyncio.wait_for(it.counted.asked.wait(), 5)
        assert it.counted.pending == 0

    @pytest.mark.parametrize("number", [200])
    async def test_many_deliveries_are_all_sent_once(self, number: int) -> None:
        async with post(policy=replace(HASTY, concurrency=10, concurrency_per_target=10)) as it:
            await it.store.webhooks.create(ours())
            await asyncio.gather(*(it.bench.run(DOCUMENT) for _ in range(number)))
            await it.idle()
        assert len({request.headers["webhook-id"] for request in it.received}) == number
        assert len(it.received) == number


class TestBacklogs:
    async def test_one_target_s_long_backlog_delays_nobody_else(self, tmp_path: Path) -> None:
        """50,000 deliveries are due to a receiver that never answers, and one to another since then."""
        store = SqliteStore(tmp_path)
        await store.open()
        await store.webhooks.create(ours("e1", url="https://dead.example/", target="dead"))
        await store.webhooks.create(ours("e2", url="https://alive.example/", target="alive"))
        with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as connection, connection:
            connection.executemany(
                "INSERT INTO webhook_deliveries VALUES ('e1', ?, 'default', 'dead', NULL, NULL, "
                "'webhook.test', 'pending', 0, 0, '[]', ?, 1.0, NULL)",
                ((f"msg_{number}", float(number)) for number in range(50_000)),
            )
        late = a_delivery("late", endpoint_id="e2", tenant="default", target="alive", event="webhook.test")
        await store.webhooks.add(replace(late, next_attempt_at=60_000.0, created_at=60_000.0))
        gone = asyncio.Event()

        async def answer(request: httpx.Request) -> httpx.Response:
            if request.url.host == "dead.example":
                await gone.wait()
            return httpx.Response(204)

        async with post(answer, store=store) as it:
            assert (await it.settled("e2")).status == "delivered"
            looks = time.process_time()
            for _ in range(50):
                await store.webhooks.due(70_000.0, limit=128, per_target=16, exclude=frozenset({"dead"}))
            assert time.process_time() - looks < 1  # 50,000 rows apiece would take several
            gone.set()
        await store.close()
