"""Vectors and records of callers, checked and brought into the form that is stored.

What does not fit is refused before a transaction begins, with a `PermanentError` of class
`invalid_request` that names the record. What is the same for every database is
`app.ports.vector_checks`'. Imports numpy: see `vector_matrix`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from app.ports.vector_checks import MAX_DIMENSIONS, check_metadata, check_text, invalid
from app.ports.vectors import VectorRecord
from app.stores.vector_blocks import Rows
from app.stores.vector_file import RecordRow

_FLOAT32: Final = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Batch:
    """Checked records of one upsert: `records[i]`, `rows[i]` and `metadata[i]` are the same one's."""

    records: Sequence[RecordRow]
    rows: Rows
    metadata: Sequence[Mapping[str, Any]]


def to_row(vector: Sequence[float], *, what: str) -> Rows:
    """A vector as float32 of shape (dimensions,). Refuses what is no finite float32."""
    try:
        values: npt.NDArray[Any] = np.asarray(vector)
    except ValueError:  # numpy's word for lists within lists of different lengths
        raise invalid(f"{what} must be a flat list of numbers") from None
    if values.ndim != 1 or values.dtype.kind not in "fiu":
        raise invalid(f"{what} must be a flat list of numbers")
    if not 1 <= len(values) <= MAX_DIMENSIONS:
        raise invalid(f"{what} has {len(values)} numbers; 1 to {MAX_DIMENSIONS} are allowed")
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused below
        row = values.astype(_FLOAT32)
    if not np.isfinite(row).all():
        place = int(np.flatnonzero(~np.isfinite(row))[0])
        raise invalid(f"{what} holds {values[place]} at position {place}; float32 numbers must be finite")
    return row


def to_batch(records: Sequence[VectorRecord]) -> Batch:
    """Check one or more records; all have the length of the first."""
    rows: list[Rows] = []
    stored: list[RecordRow] = []
    seen: set[str] = set()
    for record in records:
        if not check_text(record.id, what="a record id"):
            raise invalid("a record has an empty id; give every record an id of its own")
        if record.id in seen:
            raise invalid(f"two records of one upsert have the id {record.id!r}; ids must differ")
        seen.add(record.id)
        row = to_row(record.vector, what=f"the vector of record {record.id!r}")
        if rows and len(row) != len(rows[0]):
            raise invalid(
                f"the vector of record {record.id!r} has {len(row)} dimensions, "
                f"that of {stored[0].id!r} has {len(rows[0])}; they must be equal"
            )
        rows.append(row)
        stored.append(RecordRow(id=record.id, vector=row.tobytes(), metadata=_to_json(record)))
    return Batch(records=stored, rows=np.stack(rows), metadata=[record.metadata for record in records])


def from_bytes(vectors: Sequence[bytes], dimensions: int) -> Rows:
    """Stored vectors as float32 of shape (len(vectors), dimensions)."""
    return np.frombuffer(b"".join(vectors), dtype=_FLOAT32).reshape(len(vectors), dimensions)


def _to_json(record: VectorRecord) -> str:
    check_metadata(record)
    return orjson.dumps(dict(record.metadata)).decode()
