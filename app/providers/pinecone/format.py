"""The bytes of Pinecone's data plane and control plane: requests out, answers in. No I/O.

Follows Pinecone's OpenAPI documents of the version 2026-04. Pinecone takes no null and says nothing of
empty lists: both are left out of what it stores, and their names are kept in a list of its own
(`VALUELESS`), from which they are put back. It keeps every number as a 64 bit float: whole ones come back
as integers here, and integers that a float cannot hold are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from app.ports.errors import PermanentError
from app.ports.vector_checks import invalid
from app.ports.vectors import Metric, VectorHit, VectorQuery, VectorRecord
from app.providers.json_format import Malformed, VendorError, count, dump, floats, objects, text

METRICS: Final[Mapping[str, Metric]] = {"cosine": "cosine", "dotproduct": "dot", "euclidean": "euclidean"}
VENDOR_METRICS: Final[Mapping[Metric, str]] = {ours: theirs for theirs, ours in METRICS.items()}
VALUELESS: Final = "orchestrator_valueless"
"""The metadata that holds `null:name` and `list:name` of what has no value."""
DEFAULT_NAMESPACES: Final = ("", "__default__")
"""What statistics call the default namespace, by the age of the index."""

MAX_RECORDS: Final = 1000
MAX_BYTES: Final = 2_000_000
MAX_METADATA_BYTES: Final = 40 * 1024
MAX_IDS: Final = 1000
MAX_FETCH_IDS: Final = 100
MAX_FETCH_QUERY: Final = 4000
"""Characters of a fetch's query string: URLs much longer are refused on the way."""
_EXACT: Final = 2**53
_HEAD: Final = b'{"vectors":['


def upsert_bodies(records: Sequence[VectorRecord], namespace: str) -> list[tuple[bytes, int]]:
    """Bodies of `POST /vectors/upsert` in the order of the records, with how many each holds.

    At most 1,000 records and 2 MB each. Raises `PermanentError` for a record that Pinecone cannot take.
    """
    tail = b'],"namespace":' + _json_text(namespace) + b"}" if namespace else b"]}"
    bodies: list[tuple[bytes, int]] = []
    batch: list[bytes] = []
    size = 0
    for item in map(_record, records):
        if batch and (len(batch) == MAX_RECORDS or size + len(item) + len(_HEAD + tail) > MAX_BYTES):
            bodies.append((_HEAD + b",".join(batch) + tail, len(batch)))
            batch, size = [], 0
        batch.append(item)
        size += len(item) + 1
    if batch:
        bodies.append((_HEAD + b",".join(batch) + tail, len(batch)))
    return bodies


def check_id(record_id: str) -> None:
    """Pinecone's ids are ASCII."""
    if not record_id.isascii() or "\0" in record_id:
        raise invalid(f"Pinecone takes ids of ASCII characters only, not {record_id!r}; encode it")


def query_body(query: VectorQuery, where: Mapping[str, Any] | None, namespace: str) -> bytes:
    """The body of `POST /query`."""
    body = {
        "vector": list(query.vector),
        "topK": query.top_k,
        "includeMetadata": query.include_metadata,
        "includeValues": query.include_vectors,
    }
    return dump({**body, **_optional(filter=where, namespace=namespace)})


def count_body(dimensions: int, filter: Mapping[str, Any], namespace: str) -> bytes:
    """A query that finds as many records of the filter as one query can, for their number."""
    anywhere = [1.0] + [0.0] * (dimensions - 1)
    return query_body(VectorQuery(vector=anywhere, top_k=10_000, include_metadata=False), filter, namespace)


def delete_body(
    *,
    namespace: str,
    ids: Sequence[str] | None = None,
    filter: Mapping[str, Any] | None = None,
    delete_all: bool = False,
) -> bytes:
    """The body of `POST /vectors/delete`."""
    return dump(_optional(ids=ids, filter=filter, deleteAll=delete_all, namespace=namespace))


def fetches(ids: Sequence[str], namespace: str) -> Iterator[tuple[str, set[str]]]:
    """Query strings of fetches, each with the ids it asks for."""
    rest = urlencode({"namespace": namespace}) if namespace else ""
    pairs: list[str] = []
    asked: set[str] = set()
    size = 0
    for record_id in ids:
        if " " in record_id:
            continue
        pair = urlencode({"ids": record_id})
        if asked and (len(asked) == MAX_FETCH_IDS or size + len(pair) > MAX_FETCH_QUERY):
            yield "&".join([*pairs, rest] if rest else pairs), asked
            pairs, asked, size = [], set(), 0
        pairs.append(pair)
        asked.add(record_id)
        size += len(pair) + 1
    if asked:
        yield "&".join([*pairs, rest] if rest else pairs), asked


def create_body(name: str, *, dimensions: int, metric: Metric, cloud: str, region: str) -> bytes:
    """The body of `POST /indexes` for a serverless index."""
    return dump(
        {
            "name": name,
            "dimension": dimensions,
            "metric": VENDOR_METRICS[metric],
            "spec": {"serverless": {"cloud": cloud, "region": region}},
        }
    )


def read_hits(answer: Mapping[str, Any], metric: Metric, query: VectorQuery) -> list[VectorHit]:
    """The hits, best first, ties by id.

    Of the Euclidean metric Pinecone gives the squared distance: the score here is minus the distance.
    """
    hits = []
    for match in objects(answer.get("matches")):
        score = match.get("score", 0.0)
        if type(score) not in (float, int):
            raise Malformed("a match has no score")
        hits.append(
            VectorHit(
                id=text(match, "id"),
                score=-math.sqrt(max(score, 0.0)) if metric == "euclidean" else float(score),
                metadata=read_metadata(match.get("metadata")) if query.include_metadata else None,
                vector=floats(match.get("values")) if query.include_vectors else None,
            )
        )
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def read_metadata(stored: object) -> dict[str, Any]:
    """Metadata as it was given."""
    if not isinstance(stored, dict):
        return {}
    read = {name: _whole(value) for name, value in stored.items() if name != VALUELESS}
    for entry in stored.get(VALUELESS) or ():
        kind, _, name = str(entry).partition(":")
        read[name] = None if kind == "null" else []
    return read


def read_namespace_count(stats: Mapping[str, Any], namespace: str) -> int:
    """Records in a namespace."""
    namespaces = stats.get("namespaces")
    found = namespaces if isinstance(namespaces, dict) else {}
    names = (namespace,) if namespace else DEFAULT_NAMESPACES
    return sum(count(found.get(name), "vectorCount") or 0 for name in names)


def read_metric(answer: Mapping[str, Any]) -> Metric:
    """The metric of an index."""
    name = text(answer, "metric")
    if name not in METRICS:
        raise Malformed(f"the index has the unknown metric {name!r}")
    return METRICS[name]


def read_dimensions(answer: Mapping[str, Any]) -> int:
    """The dimensions of an index. Raises `PermanentError` for one of sparse vectors."""
    found = count(answer, "dimension")
    if not found:
        raise PermanentError(
            "invalid_request", "the index holds sparse vectors, which have no dimensions; use a dense one"
        )
    return found


def read_error(answer: dict[str, Any]) -> VendorError | None:
    """The error an answer holds.

    The control plane says `{status, error: {code, message}}`, the data plane `{code, message}`.
    """
    error = answer.get("error")
    if isinstance(error, dict):
        return VendorError(code=text(error, "code"), message=text(error, "message") or "no reason was given")
    if "code" in answer and "message" in answer:
        return VendorError(code=str(answer["code"]), message=text(answer, "message") or "no reason was given")
    return None


def _json_text(value: str) -> bytes:
    return dump([value])[1:-1]


def _record(record: VectorRecord) -> bytes:
    check_id(record.id)
    if not any(record.vector):
        raise invalid(
            f"the vector of record {record.id!r} holds only zeros, which Pinecone does not store; "
            "leave it out"
        )
    body = {"id": record.id, "values": list(record.vector)}
    return dump({**body, **_optional(metadata=_metadata(record))})


def _metadata(record: VectorRecord) -> dict[str, Any]:
    stored: dict[str, Any] = {}
    valueless: list[str] = []
    for name, value in record.metadata.items():
        if name.startswith("$") or name in {"", VALUELESS}:
            raise invalid(f"record {record.id!r} has the metadata name {name!r}, which Pinecone cannot take")
        if value is None:
            valueless.append(f"null:{name}")
        elif isinstance(value, list | tuple) and not value:
            valueless.append(f"list:{name}")
        elif type(value) is int and abs(value) > _EXACT:
            raise invalid(
                f"metadata {name!r} of record {record.id!r} is {value}: Pinecone keeps numbers as floats, "
                "which cannot hold it exactly; write it as a string"
            )
        else:
            stored[name] = value
    if valueless:
        stored[VALUELESS] = valueless
    size = len(dump(stored))
    if size > MAX_METADATA_BYTES:
        raise invalid(
            f"the metadata of record {record.id!r} takes {size} bytes; Pinecone takes at most "
            f"{MAX_METADATA_BYTES} a record"
        )
    return stored


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT else value


def _optional(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}
