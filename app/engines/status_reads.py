"""The statuses of many runs in one read: whoever asks within one turn of the event loop shares it.

A run that is taken up asks for every run that it waits for, all at once; one read each would make a run of
many calls quadratic, for it is taken up at the end of every one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from app.ports.runs import RunStatus, RunStore

Statuses = Mapping[str, RunStatus]


class StatusReads:
    """For all runs of a process."""

    def __init__(self, runs: RunStore) -> None:
        self._runs = runs
        self._gathering: tuple[set[str], asyncio.Future[Statuses]] | None = None

    async def of(self, run_id: str) -> RunStatus | None:
        """The run's status as it is stored; None for one that there is not. Raises `StoreError`."""
        while self._gathering is not None:
            wanted, reading = self._gathering
            wanted.add(run_id)
            await asyncio.wait({reading})
            if not reading.cancelled():
                return reading.result().get(run_id)
            # Who was to read was aborted: somebody else does.
        return (await self._read(run_id)).get(run_id)

    async def _read(self, run_id: str) -> Statuses:
        wanted: set[str] = {run_id}
        reading: asyncio.Future[Statuses] = asyncio.get_running_loop().create_future()
        self._gathering = wanted, reading
        try:
            try:
                await asyncio.sleep(0)
            finally:
                self._gathering = None
            statuses = await self._runs.statuses(wanted)
        except asyncio.CancelledError:
            reading.cancel()
            raise
        except Exception as error:
            reading.set_exception(error)
            reading.exception()  # it may be that nobody else asked
            raise
        reading.set_result(statuses)
        return statuses
