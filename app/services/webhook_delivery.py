"""Sends what is owed: one task for all deliveries, in the process that executes runs.

A delivery is sent at least once. What became of it is stored before it is let go of; a process that dies
in between leaves it owed, and the next one sends it again, under the same id. A target that keeps failing
is tried one at a time, and all of those together never take more than half of the places, so that a dead
receiver delays nobody else.

What does not belong here: the attempt itself (`webhook_sender`), what follows from an answer
(`webhook_decisions`), that a delivery is owed at all (the store).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Final, Protocol

import structlog

from app.engines.engine import Engine
from app.ports.clock import Clock
from app.ports.errors import StoreError
from app.ports.webhooks import DeliveryOutcome, DueDelivery, WebhookStore
from app.services.webhook_decisions import DeliveryPolicy, Reply, settled
from app.services.webhook_sender import WebhookSender

POLL_SECONDS: Final = 0.25
"""How often to look for what is due; looking costs some tenths of a millisecond."""
STORE_SECONDS: Final = 1.0
"""Between two tries to store what became of deliveries."""
FLUSH_SECONDS: Final = 5.0
"""How long a stop waits for that."""
GAUGE_SECONDS: Final = 15.0
PRUNE_SECONDS: Final = 3600.0
PRUNE_BATCH: Final = 500
MOST_FAILING: Final = 1000
"""Targets whose failures are remembered."""
FAILURES: Final = 3
"""In a row, that make a target one that fails."""
INTERNAL: Final = "an internal error; see the log of the service"

Key = tuple[str, str]
log = structlog.get_logger(__name__)


class DeliveryRecorder(Protocol):
    """Where deliveries are counted."""

    def webhook_attempt(self, outcome: str) -> None:
        """An attempt ended: `delivered`, `retrying` or `dead`."""
        ...

    def webhooks_pending(self, n: int) -> None:
        """How many deliveries have not ended."""
        ...


class WebhookDispatcher:
    """Owns its tasks. `start` it after the engine, `stop` it while the engine drains."""

    def __init__(
        self,
        *,
        webhooks: WebhookStore,
        sender: WebhookSender,
        engine: Engine,
        clock: Clock,
        recorder: DeliveryRecorder,
        policy: DeliveryPolicy | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._webhooks = webhooks
        self._sender = sender
        self._engine = engine
        self._clock = clock
        self._recorder = recorder
        self._policy = policy or DeliveryPolicy()
        self._poll_seconds = poll_seconds
        self._in_hand: dict[Key, str] = {}
        """Deliveries that are being sent or recorded, with their targets."""
        self._let_go_of: set[Key] = set()
        """Since the last look began: it may have found them due although they are settled by now."""
        self._active: Counter[str] = Counter()
        self._failures: dict[str, int] = {}
        """Of each target, since its last success."""
        self._outcomes: list[DeliveryOutcome] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._to_record = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._recording: asyncio.Task[None] | None = None
        self._gauge_due = self._prune_due = 0.0

    # --- life -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to send."""
        self._closing = False
        self._task = asyncio.create_task(self._tick(), name="webhook-dispatcher")
        self._recording = asyncio.create_task(self._record(), name="webhook-recorder")

    def wake(self) -> None:
        """Something is due: look now."""
        self._wake.set()

    async def stop(self, grace_seconds: float = 0.0) -> None:
        """Take nothing new, give what is being sent that long, store what became of it. Harmless twice."""
        self._closing = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._sending:
            await asyncio.wait(self._sending, timeout=grace_seconds)
        for sending in self._sending:
            sending.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        recording, self._recording = self._recording, None
        if recording is not None:
            self._to_record.set()
            await asyncio.wait({recording}, timeout=FLUSH_SECONDS)
            recording.cancel()
            await asyncio.gather(recording, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            self._wake.clear()
            try:
                if self._engine.stats().role == "executor":
                    await self.dispatch()
                    await self._look_after()
            except StoreError:
                log.warning("webhooks.store_unavailable", exc_info=True)
            except Exception:
                # Whatever it is, the next pass may succeed, and without passes nothing is sent.
                log.exception("webhooks.pass_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._wake.wait()

    async def _look_after(self) -> None:
        """Count what is owed and forget what is old, now and then."""
        now = asyncio.get_running_loop().time()
        if now >= self._gauge_due:
            self._gauge_due = now + GAUGE_SECONDS
            self._recorder.webhooks_pending(await self._webhooks.pending())
        if now >= self._prune_due:
            older_than = self._clock.now() - self._policy.keep_seconds
            if await self._webhooks.prune(older_than, limit=PRUNE_BATCH) < PRUNE_BATCH:
                self._prune_due = now + PRUNE_SECONDS

    # --- what to send ---------------------------------------------------------------------------------

    async def dispatch(self) -> None:
        """Begin to send what is due, as far as there is room. Raises `StoreError` where it got stuck."""
        most, each = self._policy.concurrency, self._policy.concurrency_per_target
        while len(self._in_hand) < most:
            self._let_go_of.clear()
            # What is in hand is due as well, so that as many more have to be asked for.
            due = await self._webhooks.due(
                self._clock.now(), limit=2 * most, per_target=2 * each, exclude=self._full()
            )
            if not sum(self._take(delivery) for delivery in due):
                return

    def _take(self, due: DueDelivery) -> bool:
        key, target = (due.delivery.endpoint_id, due.delivery.id), due.delivery.target
        if key in self._in_hand or key in self._let_go_of:
            return False
        if len(self._in_hand) >= self._policy.concurrency or self._is_full(target):
            return False
        self._in_hand[key] = target
        self._active[target] += 1
        task = asyncio.create_task(self._deliver(due), name="webhook-send")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return True

    def _is_full(self, target: str) -> bool:
        if not self._is_failing(target):
            return self._active[target] >= self._policy.concurrency_per_target
        return self._active[target] >= 1 or self._failing_take_their_share()

    def _is_failing(self, target: str) -> bool:
        return self._failures.get(target, 0) >= FAILURES

    def _failing_take_their_share(self) -> bool:
        taken = sum(count for target, count in self._active.items() if self._is_failing(target))
        return taken >= max(1, self._policy.concurrency // 2)

    def _full(self) -> frozenset[str]:
        """Targets that nothing more is to be sent to for now."""
        full = {
            target
            for target, count in self._active.items()
            if count >= (1 if self._is_failing(target) else self._policy.concurrency_per_target)
        }
        if self._failing_take_their_share():
            full.update(filter(self._is_failing, self._failures))
        return frozenset(full)

    def _let_go(self, key: Key) -> None:
        self._let_go_of.add(key)
        target = self._in_hand.pop(key, None)
        if target is not None:
            self._active[target] -= 1
            if not self._active[target]:
                del self._active[target]

    def _learn(self, target: str, *, failed: bool) -> None:
        failures = self._failures.pop(target, 0)
        if failed:
            self._failures[target] = failures + 1
            if len(self._failures) > MOST_FAILING:
                del self._failures[next(iter(self._failures))]

    # --- sending --------------------------------------------------------------------------------------

    async def _deliver(self, due: DueDelivery) -> None:
        delivery = due.delivery
        key = (delivery.endpoint_id, delivery.id)
        at, started = self._clock.now(), asyncio.get_running_loop().time()
        try:
            reply = await self._sender.attempt(due, at)
        except StoreError:
            log.warning("webhook.unreadable", webhook_id=key[0], delivery_id=key[1], exc_info=True)
            self._let_go(key)
            return
        except asyncio.CancelledError:
            self._let_go(key)
            raise
        except Exception:
            # A defect that met one delivery must not keep it, and its place, for ever.
            log.exception("webhook.crashed", webhook_id=key[0], delivery_id=key[1])
            seconds = asyncio.get_running_loop().time() - started
            reply = Reply(at=at, seconds=seconds, error=INTERNAL)
        self._learn(delivery.target, failed=reply.error is not None)
        outcome = settled(delivery, reply, self._policy, now=self._clock.now())
        self._report(outcome, reply)
        self._outcomes.append(outcome)
        self._to_record.set()

    # --- what became of it ----------------------------------------------------------------------------

    def _report(self, outcome: DeliveryOutcome, reply: Reply) -> None:
        delivery = outcome.delivery
        name = "retrying" if delivery.status == "pending" else delivery.status
        self._recorder.webhook_attempt(name)
        write = log.info if delivery.status == "delivered" else log.warning
        write(
            f"webhook.{name}",
            webhook_id=delivery.endpoint_id,
            delivery_id=delivery.id,
            tries=delivery.tries,
            status_code=reply.status_code,
            disabled=outcome.disable is not None,
        )

    async def _record(self) -> None:
        """Store outcomes, all that there are at once; ends when nothing is left and a stop was asked for."""
        while True:
            await self._to_record.wait()
            self._to_record.clear()
            while self._outcomes:
                batch, self._outcomes = self._outcomes, []
                await self._store(batch)
            if self._closing and not self._sending:
                return

    async def _store(self, batch: list[DeliveryOutcome]) -> None:
        """Places are kept until it succeeds: what is not recorded must not be sent again at once."""
        while True:
            try:
                await self._webhooks.record(batch, now=self._clock.now())
                break
            except StoreError:
                log.warning("webhooks.not_recorded", deliveries=len(batch), exc_info=True)
            except Exception:
                # Whatever it is, it must not end the task: without it all places would stay taken.
                log.exception("webhooks.record_failed", deliveries=len(batch))
            await asyncio.sleep(STORE_SECONDS)
        for outcome in batch:
            self._let_go((outcome.delivery.endpoint_id, outcome.delivery.id))
        self.wake()
