"""The text of Weaviate's GraphQL and the bytes of its REST API: requests out, answers in. No I/O.

Follows Weaviate's own description of the API (Swagger 2.0, version 1.40). Nothing that a caller wrote gets
into a query but as a string literal, as a number, or in the names that `schema` makes: JSON
strings are GraphQL strings, as long as they are not escaped beyond need.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.ports.vectors import Metric, VectorHit, VectorQuery, VectorRecord
from app.providers.json_format import Malformed, VendorError, count, dump, floats, load, objects, text
from app.providers.weaviate.filter import Where
from app.providers.weaviate.schema import ANY_RECORD, comparable, searchable

MAX_RECORDS: Final = 500
MAX_BYTES: Final = 4 * 1024 * 1024
_IDS: Final = uuid.UUID("5a6f5f0e-5f3c-5c1b-9d57-6f7d0a4f7c21")
_WORD: Final = frozenset({"operator"})
"""Keys whose values are words of GraphQL and no strings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """What a delete did. At most `limit` of the objects that match go at once."""

    matches: int
    limit: int
    successful: int
    failed: int


def object_id(record_id: str) -> str:
    """The UUID of a record (version 5, of its id): Weaviate has no other ids."""
    return str(uuid.uuid5(_IDS, record_id))


def search_body(name: str, tenant: str, query: VectorQuery, where: Where | None) -> bytes:
    """The body of `POST /v1/graphql` for a search by vector, or by vector and words."""
    numbers = dump(list(query.vector)).decode()
    hybrid = query.hybrid
    if hybrid is None:
        near, ranking = f"nearVector:{{vector:{numbers}}}", "distance"
    else:
        told = f"query:{_literal(hybrid.text)},alpha:{_literal(hybrid.alpha)}"
        near, ranking = f'hybrid:{{{told},vector:{numbers},properties:["words"]}}', "score"
    arguments = [f"tenant:{_literal(tenant)}", f"limit:{query.top_k}", near]
    if where is not None:
        arguments.append(f"where:{_literal(where)}")
    fields = "record metadata" if query.include_metadata else "record"
    more = f"{ranking} vector" if query.include_vectors else ranking
    return _query(f"{{Get{{{name}({','.join(arguments)}){{{fields} _additional{{{more}}}}}}}}}")


def count_body(name: str, tenant: str) -> bytes:
    """The body of `POST /v1/graphql` that counts a tenant's objects."""
    return _query(f"{{Aggregate{{{name}(tenant:{_literal(tenant)}){{meta{{count}}}}}}}}")


def batch_bodies(
    name: str, tenant: str, records: Sequence[VectorRecord]
) -> Iterator[tuple[bytes, Sequence[VectorRecord]]]:
    """Bodies of `POST /v1/batch/objects` in the order of the records, with the records of each."""
    batch: list[bytes] = []
    size = start = 0
    for place, record in enumerate(records):
        item = dump(_object(name, tenant, record))
        if batch and (len(batch) == MAX_RECORDS or size + len(item) > MAX_BYTES):
            yield b'{"objects":[' + b",".join(batch) + b"]}", records[start:place]
            batch, size, start = [], 0, place
        batch.append(item)
        size += len(item) + 1
    if batch:
        yield b'{"objects":[' + b",".join(batch) + b"]}", records[start:]


def delete_body(name: str, where: Where) -> bytes:
    """The body of `DELETE /v1/batch/objects`."""
    return dump({"match": {"class": name, "where": where}, "output": "minimal"})


def read_hits(answer: Mapping[str, Any], name: str, metric: Metric, query: VectorQuery) -> list[VectorHit]:
    """The hits, best first, ties by id."""
    hits = [
        VectorHit(
            id=text(item, "record"),
            score=_score(_additional(item), metric),
            metadata=_metadata(item) if query.include_metadata else None,
            vector=floats(_additional(item).get("vector")) if query.include_vectors else None,
        )
        for item in _found(answer, "Get", name)
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))


def read_count(answer: Mapping[str, Any], name: str) -> int:
    """How many objects a tenant has."""
    for item in _found(answer, "Aggregate", name):
        number = count(item.get("meta"), "count")
        if number is not None:
            return number
    raise Malformed("it holds no count")


def read_deleted(answer: Mapping[str, Any]) -> Deleted:
    """What a delete did."""
    results = answer.get("results")
    if not isinstance(results, dict):
        raise Malformed("it does not say what was deleted")
    return Deleted(**{key: count(results, key) or 0 for key in ("matches", "limit", "successful", "failed")})


def read_failures(answer: Sequence[Any], records: Sequence[VectorRecord]) -> list[tuple[str, str]]:
    """The ids of records that were not written, each with the reason."""
    written = objects(list(answer))
    if len(written) != len(records):
        raise Malformed(f"it has {len(written)} results for {len(records)} records")
    failures = []
    for item, record in zip(written, records, strict=True):
        result = item.get("result")
        errors = result.get("errors") if isinstance(result, dict) else None
        if errors or text(result, "status") == "FAILED":
            said = read_error(errors) if isinstance(errors, dict) else None
            failures.append((record.id, said.message if said else "no reason was given"))
    return failures


def read_tenants(answer: Sequence[Any]) -> list[str]:
    """The tenants that can be asked."""
    return [
        text(tenant, "name")
        for tenant in objects(list(answer))
        if text(tenant, "activityStatus") in {"", "ACTIVE", "HOT"}
    ]


def read_error(answer: dict[str, Any]) -> VendorError | None:
    """The error: REST says `{error: [{message}]}` or `{code, message}`, GraphQL `{errors: [{message}]}`."""
    for key in ("error", "errors"):
        messages = [text(item, "message") for item in objects(answer.get(key))]
        if messages:
            return VendorError(message="; ".join(messages))
    if "message" in answer and ("code" in answer or "errorCode" in answer):
        return VendorError(code=text(answer, "errorCode"), message=text(answer, "message"))
    return None


def _query(query: str) -> bytes:
    return dump({"query": query})


def _literal(value: Any) -> str:
    """A value in GraphQL. Keys are names that this package writes, never a caller's."""
    if isinstance(value, dict):
        pairs = (
            f"{key.removesuffix('Array')}:{item if key in _WORD else _literal(item)}"
            for key, item in value.items()
        )
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_literal, value))}]"
    return dump([value]).decode()[1:-1]


def _object(name: str, tenant: str, record: VectorRecord) -> dict[str, Any]:
    listed = {
        key: list(value) if isinstance(value, list | tuple) else [value]
        for key, value in record.metadata.items()
        if value is not None
    }
    present = [comparable(key) for key, values in listed.items() if values]
    strings = [item for values in listed.values() for item in values if isinstance(item, str)]
    return {
        "class": name,
        "id": object_id(record.id),
        "tenant": tenant,
        "vector": list(record.vector),
        "properties": {
            "record": record.id,
            "metadata": dump(dict(record.metadata)).decode(),
            "words": "\n".join(strings),
            "present": [ANY_RECORD, *present],
            **searchable(record.metadata),
        },
    }


def _found(answer: Mapping[str, Any], what: str, name: str) -> list[dict[str, Any]]:
    data = answer.get("data")
    found = data.get(what) if isinstance(data, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get(name), list):
        raise Malformed(f"it holds no {what} of the collection")
    return objects(found[name])


def _additional(item: Mapping[str, Any]) -> Mapping[str, Any]:
    held = item.get("_additional")
    return held if isinstance(held, dict) else {}


def _score(additional: Mapping[str, Any], metric: Metric) -> float:
    """Hybrid scores come as text. Distances are 1 - cosine, minus the dot product, or squared."""
    try:
        if additional.get("score") is not None:
            return float(additional["score"])
        distance = float(additional["distance"])
    except (KeyError, TypeError, ValueError):
        raise Malformed("a hit has no distance") from None
    if metric == "cosine":
        return 1.0 - distance
    return -distance if metric == "dot" else -math.sqrt(max(distance, 0.0))


def _metadata(item: Mapping[str, Any]) -> dict[str, Any]:
    return load(text(item, "metadata").encode())
