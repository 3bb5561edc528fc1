"""Idempotency keys: the first answer under a key is the only one.

The record of an answer goes into the same transaction as what it answers, so a key survives a crash
exactly if its effect did. Within a process a key is taken while its first request is in flight; between
processes the store's unique key decides, and the loser replays the winner's answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256

import structlog

from app.ports.clock import Clock
from app.ports.errors import AlreadyExists, StoreUnavailable
from app.ports.records import record
from app.ports.runs import IdempotencyRecord, IdempotencyStore
from app.services.errors import IdempotencyKeyInUse, IdempotencyKeyReused

log = structlog.get_logger(__name__)


@record
class Answer:
    """A response as it goes out, and as it is replayed: byte for byte."""

    status_code: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyKey:
    """A key with the fingerprint of the request that came under it."""

    key: str
    fingerprint: str

    def request(self, tenant: str) -> str:
        """An id (SHA-256, hex) of the request: of the tenant, the key and what makes it the same."""
        parts = (tenant, self.key, self.fingerprint)
        return sha256("\0".join(parts).encode()).hexdigest()


def fingerprint(method: str, path: str, body: bytes) -> str:
    """SHA-256 (hex) of what makes two requests the same."""
    return sha256(b"\0".join((method.encode(), path.encode(), body))).hexdigest()


Record = Callable[[Answer], IdempotencyRecord | None]
"""What is stored in the transaction of a write, so that its answer is given again; None without a key."""
Write = Callable[[Record], Awaitable[Answer]]
Taken = Callable[[AlreadyExists], Awaitable[Answer]]


class Idempotency:
    """Guards the writes of one process."""

    def __init__(self, store: IdempotencyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._in_flight: set[tuple[str, str]] = set()

    async def earlier(self, tenant: str, key: IdempotencyKey) -> Answer | None:
        """The answer given before. Raises `IdempotencyKeyReused` if it was to another request."""
        record = await self._store.find(tenant, key.key)
        if record is None:
            return None
        if record.fingerprint != key.fingerprint:
            raise IdempotencyKeyReused(
                f"the idempotency key {key.key!r} was used for another request; send a new key"
            )
        return Answer(status_code=record.status_code, headers=record.headers, body=record.body)

    @contextmanager
    def hold(self, tenant: str, key: IdempotencyKey) -> Iterator[None]:
        """Take the key while its request is in flight. Raises `IdempotencyKeyInUse` if it is taken."""
        held = (tenant, key.key)
        if held in self._in_flight:
            raise IdempotencyKeyInUse(
                f"the first request under the idempotency key {key.key!r} is in flight; "
                "send it again in a moment to get its answer",
                retry_after=1,
            )
        self._in_flight.add(held)
        try:
            yield
        finally:
            self._in_flight.discard(held)

    def record(self, tenant: str, key: IdempotencyKey, answer: Answer) -> IdempotencyRecord:
        """What the store keeps."""
        return IdempotencyRecord(
            tenant=tenant,
            key=key.key,
            fingerprint=key.fingerprint,
            status_code=answer.status_code,
            headers=answer.headers,
            body=answer.body,
            created_at=self._clock.now(),
        )

    async def save(self, tenant: str, key: IdempotencyKey, answer: Answer) -> None:
        """Keep an answer whose effect is stored already; an earlier one stays."""
        try:
            await self._store.save(self.record(tenant, key, answer))
        except AlreadyExists:
            await self.earlier(tenant, key)

    async def once(
        self, tenant: str, key: IdempotencyKey | None, act: Callable[[], Awaitable[Answer]]
    ) -> tuple[Answer, bool]:
        """Do what is durable by itself, once a key; the answer, and whether it was given before.

        Raises what `act` raises, `IdempotencyKeyReused` and `IdempotencyKeyInUse`.
        """
        with self.hold(tenant, key) if key else nullcontext():
            if key and (earlier := await self.earlier(tenant, key)):
                return earlier, True
            answer = await act()
            if key:
                try:
                    await self.save(tenant, key, answer)
                except StoreUnavailable:
                    # what was done is durable: a refusal would say that it is not
                    log.warning("idempotency.not_saved")
            return answer, False

    async def with_write(
        self, tenant: str, key: IdempotencyKey | None, write: Write, *, taken: Taken | None = None
    ) -> tuple[Answer, bool]:
        """Do what stores its answer in its own transaction, once a key; the answer, and whether it was given
        before.

        Where `write` finds something taken, and it is not the key that another process stored meanwhile,
        `taken` answers or refuses; without it nothing else can be taken than the key. Raises what they
        raise, `IdempotencyKeyReused` and `IdempotencyKeyInUse`.
        """

        def record(answer: Answer) -> IdempotencyRecord | None:
            return self.record(tenant, key, answer) if key else None

        with self.hold(tenant, key) if key else nullcontext():
            if key and (earlier := await self.earlier(tenant, key)):
                return earlier, True
            try:
                return await write(record), False
            except AlreadyExists as error:
                if key and (earlier := await self.earlier(tenant, key)):
                    return earlier, True
                if taken is not None:
                    return await taken(error), False
                raise IdempotencyKeyInUse(
                    "the idempotency key is being used; send the request again", retry_after=1
                ) from error
