"""Group commit: whatever the tasks of one event loop want stored goes out in as few commits as possible.

The loop gathers units while the writer thread commits; when it is done, one call back into the loop
settles that batch and hands over the next. So batches grow with the load by themselves, and under load
a commit costs one wake-up in each direction. A waiting caller that is cancelled leaves its unit in.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeVar, cast

import structlog

from app.ports.errors import StoreError, StoreUnavailable
from app.ports.turns import SHORT_TURNS
from app.stores.sql.connections import Connection
from app.stores.sql.units import GroupUnit, Solo, Unit

T = TypeVar("T")
Future = asyncio.Future[Any]
Entry = tuple[Unit, Future]
Outcome = tuple[Future, Any]

SOLO_PAGES: Final = 20
"""What an action of its own writes at most, as a rule: the probe."""
MAX_BATCH: Final = 2048
"""Units in one hand-over, so that nobody waits for an endless transaction."""

log = structlog.get_logger(__name__)


class CommitObserver(Protocol):
    """Is told of every group commit, on the event loop."""

    def committed(self, batch_size: int, seconds: float) -> None:
        """`batch_size` units went out together and took this long, fsync included."""
        ...


class WriteSession(Protocol):
    """The one connection that writes. Used by one thread at a time."""

    @property
    def unsure(self) -> bool:
        """Whether it cannot tell at the moment what became of a batch: nothing is to be added to the wait."""
        ...

    def commit(self, units: Sequence[GroupUnit], /) -> Sequence[StoreError | None]:
        """Store them in one transaction; says for each unit why it was not stored, or None."""
        ...

    def run(self, action: Callable[[Connection], Any], /, *, pages: int, deletes: bool) -> Any:
        """Execute an action in a transaction of its own. Raises `StoreError`; then nothing was stored."""
        ...

    def checkpoint_if_due(self) -> None:
        """Do what is due between two batches."""
        ...

    def close(self) -> None:
        """Release the connection."""
        ...


class Writer:
    """Owns the thread and the session. Its methods belong to the loop that called `start`."""

    def __init__(self, session: WriteSession, observer: CommitObserver | None) -> None:
        self._session = session
        self._observer = observer
        self._inbox: SimpleQueue[list[Entry] | None] = SimpleQueue()
        self._gathered: list[Entry] = []
        self._in_hand = 0
        self._open = False
        self._drained = asyncio.Event()
        self._drained.set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def waiting(self) -> int:
        """Units that are not durable yet."""
        return len(self._gathered) + self._in_hand

    def start(self) -> None:
        """Accept units from the running loop."""
        self._loop = asyncio.get_running_loop()
        self._open = True
        # A daemon: a process that dies without closing must not hang on it, and loses nothing by it.
        self._thread = threading.Thread(target=self._work, name="store-write", daemon=True)
        self._thread.start()

    async def store(self, unit: GroupUnit) -> None:
        """Return when the unit is durable, raise why it was refused."""
        await self._submit(unit)

    async def run(
        self, action: Callable[[Connection], T], *, pages: int = SOLO_PAGES, deletes: bool = False
    ) -> T:
        """Execute an action in a transaction of its own and return its result when it is durable.

        `pages` is about what it writes; `deletes`: it may delete runs or definitions.
        """
        return cast("T", await self._submit(Solo(action, pages, deletes)))

    async def flush(self) -> None:
        """Return when nothing waits any more."""
        await self._drained.wait()

    async def close(self) -> None:
        """Refuse new units, store the waiting ones, then end the thread and the session."""
        self._open = False
        await self._drained.wait()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._inbox.put(None)
            await asyncio.to_thread(thread.join)

    def _submit(self, unit: Unit) -> Future:
        if not self._open or self._loop is None:
            raise StoreUnavailable("the store is closed: open it, or submit to a process that runs")
        if self._session.unsure:
            raise StoreUnavailable("the database went away in the middle of a commit: try again later")
        future: Future = self._loop.create_future()
        self._gathered.append((unit, future))
        if len(self._gathered) == 1 and not self._in_hand:
            # Everything else that is ready in this turn of the loop joins first.
            self._drained.clear()
            self._loop.call_soon(self._hand_over)
        return future

    def _hand_over(self) -> None:
        if self._in_hand:
            return
        batch, self._gathered = self._gathered[:MAX_BATCH], self._gathered[MAX_BATCH:]
        self._in_hand = len(batch)
        if batch:
            self._inbox.put(batch)
        else:
            self._drained.set()

    def _settle(self, outcomes: Sequence[Outcome], seconds: float | None) -> None:
        self._in_hand -= len(outcomes)
        for future, outcome in outcomes:
            if future.done():
                continue  # its caller was cancelled
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        if seconds is not None and self._observer is not None:
            self._observer.committed(len(outcomes), seconds)
        self._hand_over()

    def _work(self) -> None:
        """The thread: never ends but by `close` or with its loop."""
        try:
            while (batch := self._inbox.get()) is not None:
                self._store(batch)
                self._session.checkpoint_if_due()
        except RuntimeError as error:
            # The loop is gone, so nobody waits for an answer any more.
            log.warning("store_abandoned", error=str(error))
        finally:
            self._session.close()

    def _store(self, batch: list[Entry]) -> None:
        group = [(unit, future) for unit, future in batch if not isinstance(unit, Solo)]
        if group:
            started = time.perf_counter()
            results = self._commit([unit for unit, _ in group])
            seconds = time.perf_counter() - started
            self._post(
                [(future, result) for (_, future), result in zip(group, results, strict=True)], seconds
            )
        for unit, future in batch:
            if isinstance(unit, Solo):
                self._post([(future, self._run(unit))], None)

    def _commit(self, units: list[GroupUnit]) -> Sequence[StoreError | None]:
        try:
            return self._session.commit(units)
        except Exception as error:  # re-classified: the thread must outlive any defect
            log.exception("store_defect")
            return [_defect(error) for _ in units]

    def _run(self, unit: Solo) -> Any:
        try:
            with SHORT_TURNS:
                return self._session.run(unit.action, pages=unit.pages, deletes=unit.deletes)
        except StoreError as error:
            return error
        except Exception as error:  # re-classified: the thread must outlive any defect
            log.exception("store_defect")
            return _defect(error)

    def _post(self, outcomes: Sequence[Outcome], seconds: float | None) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._settle, outcomes, seconds)


def _defect(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"the store failed unexpectedly ({type(error).__name__}): report it with the log")
