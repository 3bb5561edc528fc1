"""The bytes of Qdrant's REST API: requests out, answers in. No I/O.

Follows Qdrant's OpenAPI document (version 1.19). A point's payload is the record's metadata. Two keys of
it are ours:

- `orchestrator_namespace`: the record's namespace. Points without it are in the default one, so that
  collections filled by other programs can be searched.
- `orchestrator_id`: the record's id where Qdrant does not take it.

Qdrant takes unsigned integers and UUIDs as ids. In the default namespace, ids that are written just as
Qdrant writes them go as they are. All others, and all of a named namespace (points share one set of ids),
become a UUID of version 8 made of the namespace and the id; an id that is such a UUID itself is mapped too,
so that nobody can name another namespace's record.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from app.ports.vector_checks import invalid
from app.ports.vector_filters import FilterTree
from app.ports.vectors import Metric, VectorHit, VectorQuery, VectorRecord
from app.providers.json_format import Malformed, VendorError, count, dump, floats, objects, text
from app.providers.qdrant import filter as qdrant_filter

NAMESPACE_KEY: Final = "orchestrator_namespace"
ID_KEY: Final = "orchestrator_id"
OWN_KEYS: Final = frozenset({NAMESPACE_KEY, ID_KEY})
DISTANCES: Final[Mapping[Metric, str]] = {"cosine": "Cosine", "dot": "Dot", "euclidean": "Euclid"}
METRICS: Final[Mapping[str, Metric]] = {distance: metric for metric, distance in DISTANCES.items()}
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Of one upsert: a server takes 32 MiB by default, and writing more at once would hold up the loop."""

_LARGEST_ID: Final = 2**64 - 1
_OWN_VERSION: Final = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """What vectors of a collection have to be like."""

    dimensions: int
    metric: Metric


def collection_path(index: str) -> str:
    """The path of a collection. Raises `PermanentError` for names that a path cannot hold."""
    if index in {".", ".."}:
        raise invalid(f"{index!r} is no name for a Qdrant collection; use letters, digits, '-' and '_'")
    return f"/collections/{quote(index, safe='')}"


def create_body(shape: Shape) -> bytes:
    """The body of `PUT /collections/{name}`."""
    return dump({"vectors": {"size": shape.dimensions, "distance": DISTANCES[shape.metric]}})


def namespace_index_body() -> bytes:
    """The body of `PUT /collections/{name}/index` that keeps the points of a namespace together."""
    return dump({"field_name": NAMESPACE_KEY, "field_schema": {"type": "keyword", "is_tenant": True}})


def check_names(records: Sequence[VectorRecord]) -> None:
    """Metadata names. Raises `PermanentError` for those that are ours."""
    for record in records:
        own = OWN_KEYS.intersection(record.metadata)
        if own:
            raise invalid(f"metadata {min(own)!r} of record {record.id!r} is a reserved name; rename it")


def upsert_bodies(records: Sequence[VectorRecord], namespace: str) -> Iterator[bytes]:
    """Bodies of `PUT …/points` within `BATCH_BYTES`, or with a single point."""
    batch: list[bytes] = []
    size = 0
    for record in records:
        point = dump(_point(record, namespace))
        if batch and size + len(point) > BATCH_BYTES:
            yield _points(batch)
            batch, size = [], 0
        batch.append(point)
        size += len(point) + 1
    yield _points(batch)


def query_body(query: VectorQuery, where: Mapping[str, Any]) -> bytes:
    """The body of `POST …/points/query`."""
    return dump(
        {
            "query": query.vector,
            "filter": where,
            "limit": query.top_k,
            "with_payload": True if query.include_metadata else {"include": [ID_KEY]},
            "with_vector": query.include_vectors,
        }
    )


def where_filter(namespace: str, tree: FilterTree | None, ids: Sequence[str] | None = None) -> dict[str, Any]:
    """What of a collection is meant: of a namespace, what passes the filter and is among the ids."""
    place = (
        qdrant_filter.matches_text(NAMESPACE_KEY, namespace)
        if namespace
        else qdrant_filter.is_empty(NAMESPACE_KEY)
    )
    must = [place]
    if ids is not None:
        must.append({"has_id": list(dict.fromkeys(point_id(record_id, namespace) for record_id in ids))})
    if tree is not None:
        must.append(qdrant_filter.translate(tree))
    return {"must": must}


def point_id(record_id: str, namespace: str) -> int | str:
    """The id of a record's point."""
    if not namespace:
        if record_id.isascii() and record_id.isdigit():
            number = int(record_id) if len(record_id) <= len(str(_LARGEST_ID)) else _LARGEST_ID + 1
            if number <= _LARGEST_ID and str(number) == record_id:
                return number
        elif _is_free_uuid(record_id):
            return record_id
    # The length parts the two, whatever they hold.
    name = f"{len(namespace)}:{namespace}{record_id}".encode()
    digest = bytearray(hashlib.sha256(name).digest()[:16])
    digest[6] = digest[6] & 0x0F | _OWN_VERSION << 4
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


def read_shape(answer: Mapping[str, Any]) -> Shape:
    """From `GET /collections/{name}`. Raises `ValueError` for vectors that a record cannot have."""
    config = _result(answer).get("config")
    params = config.get("params") if isinstance(config, dict) else None
    vectors = params.get("vectors") if isinstance(params, dict) else None
    size, distance = count(vectors, "size"), text(vectors, "distance")
    if size is None:
        raise ValueError("it has no single, unnamed vector; use a collection of one vector a point")
    if distance not in METRICS:
        raise ValueError(f"its distance is {distance!r}; use one of {', '.join(METRICS)}")
    return Shape(size, METRICS[distance])


def read_hits(answer: Mapping[str, Any], metric: Metric, query: VectorQuery) -> list[VectorHit]:
    """Hits, best first, equal ones by id. Distances become negative, so that nearer is higher."""
    hits = [
        VectorHit(
            id=_record_id(point),
            score=0.0 - _score(point) if metric == "euclidean" else _score(point),
            metadata=_metadata(point) if query.include_metadata else None,
            vector=floats(point.get("vector")) if query.include_vectors else None,
        )
        for point in objects(_result(answer).get("points"))
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def read_count(answer: Mapping[str, Any]) -> int:
    """From `POST …/points/count`."""
    number = count(_result(answer), "count")
    if number is None:
        raise Malformed("it holds no count")
    return number


def read_names(answer: Mapping[str, Any]) -> list[str]:
    """From `GET /collections`."""
    return [text(collection, "name") for collection in objects(_result(answer).get("collections"))]


def read_error(answer: dict[str, Any]) -> VendorError | None:
    """See `ReadError`."""
    status = answer.get("status")
    return VendorError(message=text(status, "error")) if isinstance(status, dict) else None


def _point(record: VectorRecord, namespace: str) -> dict[str, Any]:
    point = point_id(record.id, namespace)
    payload = dict(record.metadata)
    if namespace:
        payload[NAMESPACE_KEY] = namespace
    if str(point) != record.id:
        payload[ID_KEY] = record.id
    return {"id": point, "vector": record.vector, "payload": payload}


def _points(batch: list[bytes]) -> bytes:
    return b'{"points":[' + b",".join(batch) + b"]}"


def _is_free_uuid(record_id: str) -> bool:
    try:
        parsed = uuid.UUID(record_id)
    except ValueError:
        return False
    return str(parsed) == record_id and parsed.version != _OWN_VERSION


def _result(answer: Mapping[str, Any]) -> dict[str, Any]:
    result = answer.get("result")
    if not isinstance(result, dict):
        raise Malformed("it has no result")
    return result


def _record_id(point: Mapping[str, Any]) -> str:
    own = text(point.get("payload"), ID_KEY)
    if own:
        return own
    identifier = point.get("id")
    if isinstance(identifier, str | int):
        return str(identifier)
    raise Malformed("a point has no id")


def _score(point: Mapping[str, Any]) -> float:
    score = point.get("score")
    if isinstance(score, int | float):
        return float(score)
    raise Malformed("a point has no score")


def _metadata(point: Mapping[str, Any]) -> dict[str, Any]:
    payload = point.get("payload")
    held = payload if isinstance(payload, dict) else {}
    return {name: value for name, value in held.items() if name not in OWN_KEYS}
