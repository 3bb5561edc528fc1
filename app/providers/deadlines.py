"""One deadline over the several requests that one operation makes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.ports.errors import TemporaryError
from app.ports.models import CallContext


@asynccontextmanager
async def within(context: CallContext, *, instance: str) -> AsyncIterator[None]:
    """End the block after the call's time, with a `TemporaryError` of class `timeout`."""
    try:
        async with asyncio.timeout(context.timeout_seconds):
            yield
    except TimeoutError:
        raise TemporaryError(
            "timeout", f"instance {instance!r} did not finish within {context.timeout_seconds:g} s"
        ) from None


def lookup(timeout_seconds: float) -> CallContext:
    """The context of a question that belongs to no run."""
    return CallContext(
        run_id="", path="", attempt=1, idempotency_key="lookup", timeout_seconds=timeout_seconds
    )
