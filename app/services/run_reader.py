"""Stored runs for readers, folded without keeping the event loop.

A small journal is read at once and folded on the spot, which is the usual case. A large one is read page
by page and folded in a thread, a few runs at a time, so that neither its rows nor its readers pile up.
What does not belong here: who may read it, what of it is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, TypeVar

from app.core import events as e
from app.core.transitions import InvalidTransition
from app.dsl.compiled import CompiledWorkflow
from app.engines.codec import decode
from app.engines.history import History, new_history
from app.engines.recovery import StoredRun, UnreadableRun
from app.ports.runs import Journal, JournalRow
from app.ports.turns import computed
from app.services.definitions import Definitions, UnreadableDefinition

P = ParamSpec("P")
T = TypeVar("T")

PAGE_ROWS: Final = 512
"""Rows of a journal that are folded on the spot, in some 5 ms; more of them go to a thread."""
PAGE_BYTES: Final = 1024 * 1024
"""Of the rows that are in memory at once where what steps brought is left out."""
BULKY: Final = frozenset({"inputs", "outputs", "items", "form"})
"""What events carry that may be of any size."""
SMALL_STEPS: Final = 512
"""Step instances of a run that is looked through on the spot."""
MOST_AT_ONCE: Final = 2
"""Large runs that are read at the same time."""


class RunReader:
    """Reads runs of a store. One a process: it bounds what large ones take together."""

    def __init__(self, journal: Journal, definitions: Definitions) -> None:
        self._journal = journal
        self._definitions = definitions
        self._large = asyncio.Semaphore(MOST_AT_ONCE)

    async def read(self, run_id: str, *, upto: int | None = None, lean: bool = False) -> StoredRun | None:
        """The run as it was after event `upto` (from 1), or as it is; None if it has no events.

        Where the journal is shorter, `history.seq` is less than `upto`. A `lean` one lacks its inputs and
        what its steps brought: it takes memory by its attempts, not by its data. Raises `UnreadableRun`,
        `StoreUnavailable`.
        """
        if lean:
            return await self._read_lean(run_id)
        rows = await self._page(run_id, 0, upto)
        if not rows:
            return None
        workflow = await self._workflow(rows[0])
        history = new_history(run_id, workflow.plan)
        if len(rows) < PAGE_ROWS:
            _fold(history, rows)
            return StoredRun(workflow=workflow, history=history)
        async with self._large:
            while rows:
                await computed(_fold, history, rows)
                rows = await self._page(run_id, history.seq, upto)
        return StoredRun(workflow=workflow, history=history)

    async def _read_lean(self, run_id: str) -> StoredRun | None:
        async with self._large:
            stored = None
            after = 0
            while rows := await self._journal.read(
                run_id, after=after, limit=PAGE_ROWS, max_bytes=PAGE_BYTES
            ):
                if stored is None:
                    workflow = await self._workflow(rows[0])
                    stored = StoredRun(workflow=workflow, history=new_history(run_id, workflow.plan))
                after = rows[-1].seq
                await computed(_fold, stored.history, rows, without=BULKY)
        return stored

    async def _page(self, run_id: str, after: int, upto: int | None) -> Sequence[JournalRow]:
        limit = PAGE_ROWS if upto is None else min(PAGE_ROWS, upto - after)
        return await self._journal.read(run_id, after=after, limit=limit) if limit > 0 else ()

    async def _workflow(self, first: JournalRow) -> CompiledWorkflow:
        try:
            event, data = decode(first)
            if not isinstance(event, e.RunSubmitted) or data is None:
                raise UnreadableRun(f"the journal of run {first.run_id!r} does not begin with its submission")
            return await self._definitions.workflow(data["definition"])
        except (UnreadableDefinition, ValueError, TypeError, KeyError) as error:
            raise _unreadable(first.run_id, error) from error


async def aside(history: History, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Do what walks over the whole of a run: on the spot for a small one, else in a thread."""
    if len(history.state.steps) <= SMALL_STEPS:
        return work(*args, **kwargs)
    return await computed(work, *args, **kwargs)


def _fold(history: History, rows: Sequence[JournalRow], without: frozenset[str] = frozenset()) -> None:
    try:
        for row in rows:
            event, data = decode(row)
            if without and data is not None:
                data = {name: value for name, value in data.items() if name not in without}
            history.apply(event, data)
    except (InvalidTransition, ValueError, TypeError, KeyError) as error:
        raise _unreadable(history.state.run_id, error) from error


def _unreadable(run_id: str, error: Exception) -> UnreadableRun:
    return UnreadableRun(f"run {run_id!r} cannot be read by this version ({type(error).__name__}): {error}")
