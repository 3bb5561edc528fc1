"""The in-memory twin of the executor lock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class ExecutorSlot:
    """What in-memory locks compete for, in place of a file."""

    holder: MemoryLock | None = None


class MemoryLock:
    """`app.ports.lock.ExecutorLock` among the locks that share a slot; alone it always succeeds."""

    def __init__(self, slot: ExecutorSlot | None = None) -> None:
        self._slot = ExecutorSlot() if slot is None else slot

    @property
    def held(self) -> bool:
        """Whether this lock is the holder."""
        return self._slot.holder is self

    async def acquire(self) -> bool:
        """Try once; True when held now."""
        if self._slot.holder is None:
            self._slot.holder = self
        return self.held

    async def release(self) -> None:
        """Give it up; harmless when not held."""
        if self.held:
            self._slot.holder = None
