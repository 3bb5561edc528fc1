"""Who may execute the runs of a store."""

from __future__ import annotations

from typing import Protocol


class ExecutorLock(Protocol):
    """At most one holder a store, over all processes; freed when the holder dies."""

    async def acquire(self) -> bool:
        """Try once; True when this process holds the lock now."""
        ...

    async def release(self) -> None:
        """Give it up; harmless when not held."""
        ...

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        ...
