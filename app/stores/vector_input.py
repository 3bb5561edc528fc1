"""What comes in from callers, checked and brought into the form that is stored.

Everything a caller can get wrong is refused here, before a transaction begins, with a
`PermanentError` of class `invalid_request` that names the record. Imports numpy: see `vector_matrix`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from app.ports.errors import PermanentError
from app.ports.vectors import Hybrid, VectorRecord
from app.stores.vector_blocks import Rows
from app.stores.vector_file import RecordRow

MAX_NAME_BYTES: Final = 512
MAX_DIMENSIONS: Final = 65_536
MAX_TOP_K: Final = 10_000
_FLOAT32: Final = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class Batch:
    """Checked records of one upsert: `records[i]`, `rows[i]` and `metadata[i]` are the same one's."""

    records: Sequence[RecordRow]
    rows: Rows
    metadata: Sequence[Mapping[str, Any]]


def invalid(message: str) -> PermanentError:
    """The caller has to change the request."""
    return PermanentError("invalid_request", message)


def check_name(value: Any, *, what: str) -> str:
    """An index, namespace or record id as it may be stored."""
    if not isinstance(value, str):
        raise invalid(f"{what} must be a string, not {value!r}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise invalid(f"{what} {value!r} holds half a surrogate pair; write valid Unicode") from None
    if size > MAX_NAME_BYTES:
        raise invalid(f"{what} takes {size} bytes; at most {MAX_NAME_BYTES} are allowed")
    return value


def check_ids(ids: Sequence[str]) -> list[str]:
    """Record ids to delete."""
    return [check_name(record_id, what="a record id") for record_id in ids]


def check_top_k(top_k: int) -> int:
    """How many hits may be asked for."""
    if not 1 <= top_k <= MAX_TOP_K:
        raise invalid(f"top_k is {top_k}; ask for 1 to {MAX_TOP_K} hits")
    return top_k


def check_hybrid(hybrid: Hybrid) -> Hybrid:
    """What words are looked for, and what they weigh."""
    if not 0.0 <= hybrid.alpha <= 1.0:
        raise invalid(f"the alpha of a hybrid search is {hybrid.alpha}; write 0 (words) to 1 (vectors)")
    return hybrid


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
        if not check_name(record.id, what="a record id"):
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
    for name, value in record.metadata.items():
        if not isinstance(name, str):
            raise invalid(f"record {record.id!r} has the metadata name {name!r}; names are strings")
        if not _storable(value):
            raise invalid(
                f"metadata {name!r} of record {record.id!r} must be a string, a finite number, a boolean, "
                "null or a list of strings; flatten objects into fields of their own"
            )
    try:
        return orjson.dumps(dict(record.metadata)).decode()
    except TypeError as error:  # orjson's word for half surrogates and integers beyond 64 bits
        raise invalid(f"the metadata of record {record.id!r} cannot be stored as JSON: {error}") from None


def _storable(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(item, str) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)
