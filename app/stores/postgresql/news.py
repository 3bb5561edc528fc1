"""Hears at once what other processes say through the database, on one connection.

`NOTIFY` comes from triggers of the database (a run waits, something is asked of one) and from processes that
tell each other of runs. Nothing rests on it: whoever hears looks by itself now and then, so a notification
that is missed costs a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from app.stores.postgresql.connection import Address
from app.stores.postgresql.faults import ERRORS
from app.stores.postgresql.text import load_sql, numbered

CHANNEL: Final = "orchestrator_work"
TELL_SECONDS: Final = 5.0
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 2.0

log = structlog.get_logger(__name__)


class _Cut(ConnectionError):
    """The connection ended."""


class News:
    """Calls `heard` for every notification of work, and after every time that some may have been missed."""

    def __init__(self, address: Address, heard: Callable[[], None]) -> None:
        self._address = address
        self._channels: dict[str, Callable[[str], None]] = {CHANNEL: lambda _: heard()}
        self._joined: list[Callable[[], None]] = [heard]
        self._notify, _ = numbered(load_sql()["notify"])
        self._telling = asyncio.Lock()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether notifications come, as far as it is known."""
        return self._connection is not None and not self._connection.is_closed()

    def follow(self, channel: str, heard: Callable[[str], None]) -> None:
        """Have what is said on a channel passed on, too; to be asked for before the start."""
        self._channels[channel] = heard

    def on_joined(self, joined: Callable[[], None]) -> None:
        """Have this called, too, after every time that something may have been missed."""
        self._joined.append(joined)

    def start(self) -> None:
        """Listen from now on."""
        self._listening = asyncio.create_task(self._listen(), name="store-news")

    async def stop(self) -> None:
        """Listen no longer; harmless when not started."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def notify(self, said: Sequence[tuple[str, str]]) -> None:
        """Say payloads (under 8,000 bytes) on channels, in this order. Raises one of `ERRORS`."""
        async with self._telling:
            if self._connection is None:
                raise _Cut
            channels, payloads = [channel for channel, _ in said], [payload for _, payload in said]
            await self._connection.execute(self._notify, channels, payloads, timeout=TELL_SECONDS)

    async def _listen(self) -> None:
        while True:
            # Anew after every connection that stood: the next wait is a short one.
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(Exception),
                wait=wait_exponential_jitter(multiplier=FIRST_PAUSE, jitter=FIRST_PAUSE, max=LONGEST_PAUSE),
                before_sleep=_tell_defect,
            ):
                with attempt:
                    await self._listen_once()
            await asyncio.sleep(FIRST_PAUSE)

    async def _listen_once(self) -> None:
        """Until the connection ends, once there is one."""
        # A notification is kept by nobody, so nobody needs to wait for the disk.
        connection = await self._address.connect(synchronous_commit="off")
        try:
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            for channel in self._channels:
                await connection.add_listener(channel, self._notified)
            self._connection = connection
            for joined in self._joined:
                joined()
            await ended.wait()
            log.warning("store_news_cut")
        finally:
            self._connection = None
            connection.terminate()

    def _notified(self, _connection: Any, _process: int, channel: str, payload: object) -> None:
        self._channels[channel](str(payload))


def _tell_defect(state: RetryCallState) -> None:
    """Say so where listening failed for another reason than a database that is away."""
    error = None if state.outcome is None else state.outcome.exception()
    if error is not None and not isinstance(error, ERRORS):
        log.error("store_news_failed", exc_info=error)
