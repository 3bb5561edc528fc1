"""Whether the runs that Temporal has on our task queues are those of our store.

An API on one database with workers on another, or two installations on one queue, would place runs where
nobody knows them. A worker that is given such a run refuses it (`activities`); at a start it shows before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from app.ports.errors import PermanentError
from app.ports.runs import RunStore

SAMPLE: Final = 100
"""Runs that are looked for. One that is found will do: some may be younger than a restored backup."""


class Placed(Protocol):
    """Who knows which runs are placed."""

    async def placed(self, queue: str, *, limit: int) -> frozenset[str]:
        """Ids of the newest runs on this queue that have not ended. Raises `NotPlaced`."""
        ...


async def require_own_runs(queues: Iterable[str], placed: Placed, runs: RunStore) -> None:
    """Raise `PermanentError` where a queue holds runs, and none that the store has. Raises `NotPlaced`."""
    for queue in queues:
        found = await placed.placed(queue, limit=SAMPLE)
        if found and not await runs.statuses(found):
            raise PermanentError(
                "invalid_config",
                f"task queue {queue!r} holds runs of another store, such as {min(found)!r}: set store.url or "
                "data_dir to theirs, or temporal.task_queue to one of this installation's own; if their "
                "store is gone, terminate their workflows in Temporal",
            )
