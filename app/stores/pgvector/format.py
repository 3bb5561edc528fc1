"""What goes over the wire to PostgreSQL and back: vectors, records, hits. Pure, no I/O."""

from __future__ import annotations

import math
import re
import struct
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from app.ports.errors import PermanentError
from app.ports.vector_checks import invalid
from app.ports.vectors import Metric, VectorHit, VectorRecord
from app.stores.pgvector.filter import check_text

MAX_DIMENSIONS: Final = 16_000
"""Of the type `vector`."""
MAX_HNSW_DIMENSIONS: Final = 2_000
MOST_WORDS: Final = 64
"""Different words of one query that are looked for; further ones are passed over."""
SCORES: Final[Mapping[Metric, Callable[[float], float]]] = {
    "cosine": lambda distance: 0.0 if math.isnan(distance) else 1.0 - distance,
    "dot": lambda negated: 0.0 - negated,
    "euclidean": lambda distance: 0.0 - distance,
}
"""From the extension's distances: 1 - cosine, minus the dot product, the Euclidean distance."""
Row = tuple[str, str, Sequence[float], str]
"""(namespace, id, vector, metadata as JSON)"""

_HEADER: Final = struct.Struct(">HH")
_WORD: Final = re.compile(r"[^\W_]+")


def packed(vector: Sequence[float]) -> bytes:
    """A vector in the extension's binary format: its length, two unused bytes, big-endian float32."""
    floats = array("f", vector)
    if sys.byteorder == "little":
        floats.byteswap()
    return _HEADER.pack(len(floats), 0) + floats.tobytes()


def unpacked(data: bytes) -> list[float]:
    """The other way."""
    floats = array("f", data[_HEADER.size :])
    if sys.byteorder == "little":
        floats.byteswap()
    return floats.tolist()


def rows(records: Sequence[VectorRecord], namespace: str) -> list[Row]:
    """Checked records as they are written: in the order of their ids, so that two writers of the same ones
    wait for each other instead of both being stopped. Raises `PermanentError` for NUL characters."""
    written = [
        (namespace, check_text(record.id, what="a record id"), record.vector, _metadata(record))
        for record in records
    ]
    return sorted(written, key=lambda row: row[1])


def check_size(dimensions: int) -> None:
    """Whether vectors of that length can be stored. Raises `PermanentError`."""
    if dimensions > MAX_DIMENSIONS:
        raise invalid(
            f"the vectors have {dimensions} dimensions; pgvector takes at most {MAX_DIMENSIONS}: "
            "use a model or an option with fewer"
        )


def check_indexable(records: Sequence[VectorRecord], metric: Metric) -> None:
    """Whether an HNSW index can hold one or more checked records. Raises `PermanentError`."""
    dimensions = len(records[0].vector)
    if dimensions > MAX_HNSW_DIMENSIONS:
        raise invalid(
            f"the vectors have {dimensions} dimensions; an HNSW index of pgvector takes at most "
            f"{MAX_HNSW_DIMENSIONS}: use a model or an option with fewer, or ask the operator for index none"
        )
    for record in records:
        if metric == "cosine" and not any(record.vector):
            raise invalid(
                f"the vector of record {record.id!r} holds only zeros; an HNSW index by cosine cannot find "
                "it: leave the record out, or ask the operator for index none"
            )


def words_query(text: str) -> str | None:
    """The text search query for any of a text's words; None if it has none.

    Words hold letters and digits alone, so nothing in a text is an operator.
    """
    words = dict.fromkeys(word.lower() for word in _WORD.findall(text))
    return " | ".join([*words][:MOST_WORDS]) or None


def hit(record_id: str, score: float, row: Mapping[str, Any], *, metadata: bool, vectors: bool) -> VectorHit:
    """A row of the database as a result."""
    return VectorHit(
        id=record_id,
        score=score,
        metadata=_plain(record_id, row["metadata"]) if metadata else None,
        vector=row["embedding"] if vectors else None,
    )


def deleted(status: str) -> int:
    """How many rows a DELETE says it took."""
    return int(status.rpartition(" ")[2])


def _metadata(record: VectorRecord) -> str:
    for text in _texts(record.metadata):
        check_text(text, what=f"metadata of record {record.id!r}:")
    return orjson.dumps(dict(record.metadata)).decode()


def _texts(metadata: Mapping[str, Any]) -> Iterator[str]:
    for name, value in metadata.items():
        yield name
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            yield from value


def _plain(record_id: str, stored: str) -> dict[str, Any]:
    metadata = orjson.loads(stored)
    if not isinstance(metadata, dict):
        raise PermanentError(
            "invalid_output",
            f"the metadata of record {record_id!r} was written by something else; write it anew",
        )
    return metadata
