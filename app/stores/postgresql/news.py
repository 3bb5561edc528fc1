"""Hears at once what other processes stored: that a run waits, that something is asked of one.

`NOTIFY` comes from triggers of the database. Nothing rests on it: whoever executes looks by itself now and
then, so a notification that is missed costs a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from app.stores.postgresql.connection import Address
from app.stores.postgresql.faults import ERRORS

CHANNEL: Final = "orchestrator_work"

log = structlog.get_logger(__name__)


class _Cut(ConnectionError):
    """The connection ended."""


class News:
    """Calls `heard` for every notification, and after every time that some may have been missed."""

    def __init__(self, address: Address, heard: Callable[[], None]) -> None:
        self._address = address
        self._heard = heard
        self._listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen from now on."""
        self._listening = asyncio.create_task(self._listen(), name="store-news")

    async def stop(self) -> None:
        """Listen no longer; harmless when not started."""
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self) -> None:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(ERRORS),
            wait=wait_exponential_jitter(multiplier=0.1, jitter=0.1, max=2.0),
        ):
            with attempt:
                await self._listen_once()

    async def _listen_once(self) -> None:
        connection = await self._address.connect()
        try:
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(CHANNEL, self._notified)
            self._heard()
            await ended.wait()
            log.warning("store_news_cut")
            raise _Cut
        finally:
            connection.terminate()

    def _notified(self, *_: Any) -> None:
        self._heard()
