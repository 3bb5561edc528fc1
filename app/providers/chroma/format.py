"""The bytes of Chroma's REST API, version 2: requests out, answers in. No I/O.

Tried on Chroma 1.5; its server tells its OpenAPI document at `/openapi.json`. A record's metadata is
stored as it is, but for what Chroma does not keep, nulls and empty lists, which stand as JSON under
`orchestrator_empty`.

Records share one set of ids over all namespaces. Those of the default namespace keep theirs, so that
collections filled by other programs can be searched; one of a named namespace is stored as
`@ns/<namespace, quoted>/<id>`, beside the metadata `orchestrator_named: true` and `orchestrator_namespace`.
Ids that begin with `@ns/` themselves are stored as `@ns//<id>`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import orjson

from app.ports.vector_checks import invalid
from app.ports.vector_filters import FilterTree
from app.ports.vectors import Metric, VectorHit, VectorQuery, VectorRecord
from app.providers.chroma import filter as chroma_filter
from app.providers.json_format import Malformed, VendorError, count, dump, floats, objects, text

NAMED_KEY: Final = "orchestrator_named"
NAMESPACE_KEY: Final = "orchestrator_namespace"
EMPTY_KEY: Final = "orchestrator_empty"
OWN_KEYS: Final = frozenset({NAMED_KEY, NAMESPACE_KEY, EMPTY_KEY})
SPACES: Final[Mapping[Metric, str]] = {"cosine": "cosine", "dot": "ip", "euclidean": "l2"}
METRICS: Final[Mapping[str, Metric]] = {space: metric for metric, space in SPACES.items()}
SCORES: Final[Mapping[Metric, Callable[[float], float]]] = {
    "cosine": lambda distance: 1.0 - distance,
    "dot": lambda distance: 1.0 - distance,
    "euclidean": lambda squared: 0.0 - math.sqrt(max(squared, 0.0)),
}
"""From Chroma's distances: 1 - cosine, 1 - dot product, and the square of the Euclidean distance."""
BATCH_RECORDS: Final = 1000
"""Of one request; a local server takes 5,461."""
BATCH_BYTES: Final = 4 * 1024 * 1024

_NAMED: Final = "@ns/"


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as it is known. `dimensions` is None as long as it never held a record."""

    id: str
    dimensions: int | None
    metric: Metric


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one request, as they are stored."""

    ids: Sequence[str]
    vectors: Sequence[Sequence[float]]
    metadata: Sequence[Mapping[str, Any]]


def create_body(name: str, metric: Metric) -> bytes:
    """The body of `POST …/collections`; a collection that is there already stays as it is."""
    return dump({"name": name, "configuration": {"hnsw": {"space": SPACES[metric]}}, "get_or_create": True})


def batches(records: Sequence[VectorRecord], namespace: str) -> Iterator[Batch]:
    """Records in the sizes of single requests, about. Raises `PermanentError` for names Chroma lacks."""
    metadata = [_metadata(record, namespace) for record in records]
    start, size = 0, 0
    for place, record in enumerate(records):
        own = 20 * len(record.vector) + len(dump(metadata[place]))
        if place > start and (size + own > BATCH_BYTES or place - start == BATCH_RECORDS):
            yield _batch(records[start:place], namespace, metadata[start:place])
            start, size = place, 0
        size += own
    yield _batch(records[start:], namespace, metadata[start:])


def held_body(batch: Batch) -> bytes:
    """The body of `POST …/get` that asks what the records are like now."""
    return dump({"ids": batch.ids, "include": ["metadatas"]})


def upsert_body(batch: Batch, held: Mapping[str, Sequence[str]]) -> bytes:
    """The body of `POST …/upsert`.

    `held` are the metadata names of the records that are there. Chroma would keep those that are not named
    anew; null removes them.
    """
    metadata = [
        {**dict.fromkeys(held.get(record_id, ())), **named}
        for record_id, named in zip(batch.ids, batch.metadata, strict=True)
    ]
    return dump({"ids": batch.ids, "embeddings": batch.vectors, "metadatas": metadata})


def query_body(query: VectorQuery, where: Mapping[str, Any]) -> bytes:
    """The body of `POST …/query`."""
    wanted = {"distances": True, "metadatas": query.include_metadata, "embeddings": query.include_vectors}
    return dump(
        {
            "query_embeddings": [query.vector],
            "n_results": query.top_k,
            "where": where,
            "include": [name for name, is_wanted in wanted.items() if is_wanted],
        }
    )


def delete_bodies(where: Mapping[str, Any], ids: Sequence[str] | None) -> Iterator[bytes]:
    """Bodies of `POST …/delete`: what `where` selects, of the stored ids if there are any given."""
    if ids is None:
        yield dump({"where": where})
        return
    for start in range(0, len(ids), BATCH_RECORDS):
        yield dump({"ids": ids[start : start + BATCH_RECORDS], "where": where})


def where_clause(namespace: str, tree: FilterTree | None) -> dict[str, Any]:
    """What of a collection is meant: of a namespace, what passes the filter."""
    place: dict[str, Any] = {NAMESPACE_KEY: {"$eq": namespace}} if namespace else {NAMED_KEY: {"$ne": True}}
    return place if tree is None else chroma_filter.all_of([place, chroma_filter.translate(tree)])


def stored_id(record_id: str, namespace: str) -> str:
    """The id of a record in its collection."""
    if not namespace and not record_id.startswith(_NAMED):
        return record_id
    return f"{_NAMED}{quote(namespace, safe='')}/{record_id}"


def read_collection(answer: Mapping[str, Any]) -> Collection:
    """A collection as the server describes it. Raises `ValueError` for one that records cannot be in."""
    identifier, configuration = text(answer, "id"), answer.get("configuration_json")
    if not identifier or not isinstance(configuration, dict):
        raise Malformed("it has no id or no configuration")
    space = text(configuration.get("hnsw"), "space") or text(configuration.get("spann"), "space")
    if space not in METRICS:
        raise ValueError(f"its space is {space!r}; use one of {', '.join(METRICS)}")
    return Collection(identifier, count(answer, "dimension"), METRICS[space])


def read_names(answer: object) -> list[str]:
    """From `GET …/collections`."""
    return [text(collection, "name") for collection in objects(answer)]


def read_held(answer: Mapping[str, Any]) -> dict[str, list[str]]:
    """From `POST …/get`: the metadata names of each record, by id."""
    ids, metadata = answer.get("ids"), answer.get("metadatas")
    if not isinstance(ids, list) or not isinstance(metadata, list) or len(ids) != len(metadata):
        raise Malformed("it has no metadata for its ids")
    return {str(key): list(held or ()) for key, held in zip(ids, metadata, strict=True)}


def read_hits(answer: Mapping[str, Any], metric: Metric, query: VectorQuery) -> list[VectorHit]:
    """Hits, best first, equal ones by id."""
    ids, distances = _row(answer, "ids"), _row(answer, "distances")
    nothing = [None] * len(ids)
    rows = (
        ids,
        distances,
        _row(answer, "metadatas") if query.include_metadata else nothing,
        _row(answer, "embeddings") if query.include_vectors else nothing,
    )
    if any(len(row) != len(ids) for row in rows):
        raise Malformed("its lists are of different lengths")
    hits = [
        VectorHit(
            id=_record_id(key),
            score=SCORES[metric](_distance(distance)),
            metadata=_plain(held) if query.include_metadata else None,
            vector=floats(vector) if query.include_vectors else None,
        )
        for key, distance, held, vector in zip(*rows, strict=True)
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def read_deleted(answer: Mapping[str, Any]) -> int:
    """From `POST …/delete`."""
    deleted = count(answer, "deleted")
    if deleted is None:
        raise Malformed("it does not say how many records it deleted; Chroma 1.5 or newer does")
    return deleted


def read_count(answer: object) -> int:
    """From `GET …/count`, which answers with a bare number."""
    if type(answer) is int and answer >= 0:
        return answer
    raise Malformed("it is no count")


def read_error(answer: dict[str, Any]) -> VendorError | None:
    """See `ReadError`."""
    code = text(answer, "error")
    return VendorError(code=code, message=text(answer, "message") or code) if code else None


def _metadata(record: VectorRecord, namespace: str) -> dict[str, Any]:
    for name in record.metadata:
        if name in OWN_KEYS or not chroma_filter.is_field_name(name):
            raise invalid(
                f"Chroma cannot store metadata {name!r} of record {record.id!r}: names are not empty, not "
                f"reserved and begin with none of '#', '$' and 'chroma:'; rename it"
            )
    empty = {name: value for name, value in record.metadata.items() if value is None or value in ([], ())}
    stored = {name: value for name, value in record.metadata.items() if name not in empty}
    if empty:
        stored[EMPTY_KEY] = dump(empty).decode()
    if namespace:
        stored |= {NAMED_KEY: True, NAMESPACE_KEY: namespace}
    return stored


def _batch(records: Sequence[VectorRecord], namespace: str, metadata: Sequence[Mapping[str, Any]]) -> Batch:
    ids = [stored_id(record.id, namespace) for record in records]
    return Batch(ids, [record.vector for record in records], metadata)


def _row(answer: Mapping[str, Any], name: str) -> list[Any]:
    """What the answer holds for the one query."""
    rows = answer.get(name)
    if isinstance(rows, list) and len(rows) == 1 and isinstance(rows[0], list):
        return rows[0]
    raise Malformed(f"it has no {name} for the query")


def _record_id(stored: object) -> str:
    if not isinstance(stored, str):
        raise Malformed("an id is no text")
    return stored.removeprefix(_NAMED).partition("/")[2] if stored.startswith(_NAMED) else stored


def _distance(value: object) -> float:
    if isinstance(value, int | float):
        return float(value)
    raise Malformed("a distance is no number")


def _plain(held: object) -> dict[str, Any]:
    stored = held if isinstance(held, dict) else {}
    metadata = {name: value for name, value in stored.items() if name not in OWN_KEYS}
    empty = text(stored, EMPTY_KEY)
    if empty:
        try:
            metadata |= orjson.loads(empty)
        except (orjson.JSONDecodeError, TypeError):
            raise Malformed(f"metadata {EMPTY_KEY!r} was written by something else") from None
    return metadata
