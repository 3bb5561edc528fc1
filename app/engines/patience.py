"""Waiting for a store that is out of order: what must not be lost is offered until it is taken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from app.ports.errors import OrchestratorError, StoreUnavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")


async def patiently(
    do: Callable[[], Awaitable[T]],
    *,
    event: str,
    errors: tuple[type[OrchestratorError], ...] = (StoreUnavailable,),
) -> T:
    """Do it again until it raises none of these errors; the first time is told in the log as `event`."""
    try:
        return await do()
    except errors as error:
        log.warning(event, error=str(error))
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(errors),
        wait=wait_exponential_jitter(multiplier=0.1, jitter=0.1, max=5.0),
    ):
        with attempt:
            done = await do()
    return done
