"""An earlier run whose outcomes stand in for steps that would do the same again.

Where a step of the same path succeeded there after it was asked the same (by content hash), its outputs
are taken and no call is made; everything else runs. The new run's journal keeps the outputs itself, so
it stands alone: once the earlier run is pruned, nothing of the new one is lost, only nothing more is
reused. What does not belong here: which steps must run again (the service that asks for the new run).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from app.core import events as e
from app.engines.brought import Brought
from app.engines.codec import decode
from app.engines.patience import patiently
from app.ports.errors import StoreError
from app.ports.runs import Journal, JournalRow

log = structlog.get_logger(__name__)

PAGE_ROWS: Final = 64
"""Rows of the earlier journal that are in memory at once."""
_SUCCEEDED: Final = e.StepSucceeded.__name__
_CALLED: Final = e.ChildStarted.__name__


@dataclass(frozen=True, slots=True)
class _Success:
    content: str
    seq: int


@dataclass(frozen=True, slots=True)
class _Index:
    successes: dict[str, _Success] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)
    """Runs that `workflow` steps called."""

    def add(self, row: JournalRow) -> None:
        if row.type not in {_SUCCEEDED, _CALLED}:
            return
        match decode(row):
            case e.StepSucceeded(path=path), data:
                content = (data or {}).get("hash")
                if content is not None:
                    self.successes[path] = _Success(content, row.seq)
            case e.ChildStarted(path=path, run_id=run_id), _:
                self.called[path] = run_id


class EarlierRun:
    """Where the earlier run's outcomes are, by path; the outcomes themselves stay in the store.

    The index takes some 200 bytes a step and is made when it is first asked.
    """

    def __init__(self, journal: Journal, run_id: str, fresh: frozenset[str]) -> None:
        self._journal = journal
        self._run_id = run_id
        self.fresh = fresh
        """Steps of the plan that run again whatever they brought earlier."""
        self._index: _Index | None = None
        self._indexing = asyncio.Lock()

    def must_run(self, key: str) -> bool:
        """Whether a step of the plan runs again whatever it brought earlier."""
        return key in self.fresh

    async def outcome(self, key: str, path: str, content: str | None) -> Brought | None:
        """What the step brought when it was asked the same; None if it has to run.

        Waits for a store that cannot be read: what must not repeat would run twice otherwise.
        """
        if content is None or self.must_run(key):
            return None
        return await patiently(
            lambda: self._find(path, content), event="reuse.not_read", errors=(StoreError,)
        )

    async def called(self, key: str, path: str) -> str | None:
        """The run that a `workflow` step called: the one it calls now may reuse it in its turn."""
        if self.must_run(key):
            return None
        index = await patiently(self._indexed, event="reuse.not_read", errors=(StoreError,))
        return index.called.get(path)

    async def _find(self, path: str, content: str) -> Brought | None:
        known = (await self._indexed()).successes.get(path)
        if known is None or known.content != content:
            return None
        rows = await self._journal.read(self._run_id, after=known.seq - 1, limit=1)
        return self._brought(rows)

    async def _indexed(self) -> _Index:
        async with self._indexing:
            if self._index is None:
                self._index = await self._read()
            return self._index

    async def _read(self) -> _Index:
        index = _Index()
        after = 0
        while rows := await self._journal.read(self._run_id, after=after, limit=PAGE_ROWS):
            after = rows[-1].seq
            for row in rows:
                index.add(row)
        if not after:
            log.info("reuse.earlier_run_gone", earlier_run_id=self._run_id)
        return index

    def _brought(self, rows: Sequence[JournalRow]) -> Brought | None:
        if not rows or rows[0].type != _SUCCEEDED:
            return None  # pruned meanwhile
        _, data = decode(rows[0])
        kept = data or {}
        return Brought(outputs=kept["outputs"], source=self._source(kept))

    def _source(self, kept: Mapping[str, Any]) -> Mapping[str, Any]:
        """The run that made the call, which may be earlier still, and what the call cost."""
        source: Mapping[str, Any] | None = kept.get("source")
        if source is None:
            return {"run_id": self._run_id, "saved": kept.get("billing")}
        return {"run_id": source.get("run_id") or self._run_id, "saved": source.get("saved")}


def earlier_run(submitted: Mapping[str, Any], journal: Journal) -> EarlierRun | None:
    """The earlier run that a submission names, as the journal keeps it; None if it names none."""
    reuse = submitted.get("reuse")
    if reuse is None:
        return None
    return EarlierRun(journal, reuse["run_id"], frozenset(reuse["fresh"]))
