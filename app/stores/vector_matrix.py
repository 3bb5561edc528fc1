"""The vectors of one namespace in memory: float32 unit rows, searched exactly.

Invariants: slots `0 … count-1` are in use and hold no holes (a removed record's slot is taken by the
last one); `ids[slot]` and `slots[id]` mirror each other; rows are normalised when they come in, so a
cosine is a dot product. A zero vector stays zero and scores 0 against everything.

Order is exact, not only near: a fast float32 product finds the candidates, which are then scored again
in float64, row by row and in the same order of additions, so that equal vectors have equal scores and
their ids decide. numpy costs a tenth of a second and more to import: only what runs in the store's own
thread may import this module, and not before the first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.ports.vector_filters import FilterTree, fields_of
from app.stores.vector_blocks import BLOCK_ROWS, RowBlocks, Rows
from app.stores.vector_columns import Column, mask_of

_ID_BYTES: Final = 160
"""What an id costs beside its text: the string, its list and dictionary entries."""
_BASE_BYTES: Final = 4096
_MAX_COLUMNS: Final = 32


def row_bytes(dimensions: int) -> int:
    """Memory a resident record takes, about, without its metadata columns."""
    return dimensions * 4 + _ID_BYTES + 32


def unit_rows(rows: Rows) -> Rows:
    """The rows scaled to length one; zero rows stay zero."""
    wide = rows.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    norms[norms == 0.0] = 1.0
    units: Rows = (wide / norms[:, np.newaxis]).astype(np.float32)
    return units


class ResidentVectors:
    """Records of one namespace: ids, unit vectors, and the metadata fields that filters have asked for."""

    __slots__ = ("_columns", "_id_bytes", "_ids", "_rows", "_slots")

    def __init__(self, dimensions: int) -> None:
        self._rows = RowBlocks(dimensions)
        self._ids: list[str] = []
        self._slots: dict[str, int] = {}
        self._columns: dict[str, Column] = {}
        self._id_bytes = 0

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> Sequence[str]:
        """The records' ids, by slot."""
        return self._ids

    @property
    def nbytes(self) -> int:
        """Memory held, about."""
        columns = sum(column.nbytes for column in self._columns.values())
        return _BASE_BYTES + self._rows.nbytes + self._id_bytes + columns

    def put(
        self, ids: Sequence[str], rows: Rows, metadata: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """Insert or replace records; `metadata` may be left out while no column is loaded."""
        self._reserve(len(self._ids) + len(ids))
        units = unit_rows(rows)
        for i, key in enumerate(ids):
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = len(self._ids)
                self._ids.append(key)
                self._id_bytes += _ID_BYTES + len(key)
            self._rows.set(slot, units[i])
            if metadata is not None:
                for name, column in self._columns.items():
                    column.set(slot, metadata[i].get(name))
        self._forget_bloated_columns()

    def remove(self, ids: Iterable[str]) -> None:
        """Forget records; ids that are not here are passed over."""
        for key in ids:
            slot = self._slots.pop(key, None)
            if slot is None:
                continue
            self._id_bytes -= _ID_BYTES + len(key)
            last = len(self._ids) - 1
            if slot != last:
                self._rows.move(last, slot)
                self._ids[slot] = self._ids[last]
                self._slots[self._ids[slot]] = slot
                for column in self._columns.values():
                    column.move(last, slot)
            self._ids.pop()

    def missing_fields(self, tree: FilterTree) -> frozenset[str]:
        """Fields of the filter that `load_columns` must bring before `nearest` can apply it."""
        return fields_of(tree) - self._columns.keys()

    def load_columns(self, fields: frozenset[str], records: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Take the fields of every record, given as (id, metadata)."""
        while self._columns and len(self._columns) + len(fields) > _MAX_COLUMNS:
            self._columns.pop(next(iter(self._columns)))
        loaded = {name: Column(self._rows.capacity) for name in fields}
        for key, metadata in records:
            slot = self._slots[key]
            for name, column in loaded.items():
                column.set(slot, metadata.get(name))
        self._columns.update(loaded)

    def passing(self, tree: FilterTree) -> frozenset[str]:
        """The ids of the records that pass a filter, whose columns are loaded."""
        slots = np.flatnonzero(mask_of(tree, self._columns, len(self._ids)))
        return frozenset(self._ids[slot] for slot in slots)

    def nearest(self, unit_query: Rows, top_k: int, tree: FilterTree | None) -> list[tuple[float, str]]:
        """The best `top_k` as (cosine, id), best first, equal ones by id."""
        count = len(self._ids)
        scores = self._rows.dot(unit_query, count)
        slots = np.arange(count)
        if tree is not None:
            slots = np.flatnonzero(mask_of(tree, self._columns, count))
            scores = scores[slots]
        if len(slots) > top_k:
            # float32 rounding moves a score by less than this: what is near the last place may belong there.
            margin = max(1e-6, 2.0 * len(unit_query) * float(np.finfo(np.float32).eps))
            last_place = np.partition(scores, len(scores) - top_k)[len(scores) - top_k]
            slots = slots[scores >= last_place - margin]
        exact = self._exact_scores(slots, unit_query)
        ranked = sorted(zip((-exact).tolist(), (self._ids[slot] for slot in slots), strict=True))
        return [(-negated, key) for negated, key in ranked[:top_k]]

    def _exact_scores(self, slots: npt.NDArray[np.intp], unit_query: Rows) -> npt.NDArray[np.float64]:
        query = unit_query.astype(np.float64)
        scores = np.empty(len(slots), dtype=np.float64)
        for start in range(0, len(slots), BLOCK_ROWS):
            rows = self._rows.take(slots[start : start + BLOCK_ROWS].tolist())
            scores[start : start + BLOCK_ROWS] = (rows * query).sum(axis=1)
        return np.clip(scores, -1.0, 1.0)

    def _reserve(self, count: int) -> None:
        self._rows.reserve(count)
        for column in self._columns.values():
            column.reserve(self._rows.capacity)

    def _forget_bloated_columns(self) -> None:
        """Columns keep the values of replaced records; the next filter loads a clean one."""
        limit = 2 * len(self._ids) + 1024
        for name in [name for name, column in self._columns.items() if column.distinct > limit]:
            del self._columns[name]
