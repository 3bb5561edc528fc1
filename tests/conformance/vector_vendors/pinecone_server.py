"""Pinecone for tests: the control plane and the hosts of indexes, in memory, as the documentation has them.

Every request and answer is checked against Pinecone's OpenAPI documents, where they are at hand. Only what
the adapter calls is here. Where the vendor's promise is weak, this server is unkind: equal scores come in
the reverse order of writing, and a record without a field does not pass `$ne`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

import httpx
import orjson

from tests.providers.specs import Spec

API_KEY: Final = "pinecone-key"
CONTROL: Final = "api.pinecone.io"
MAX_BODY: Final = 2 * 1024 * 1024
Records = dict[str, dict[str, Any]]


class Refused(Exception):
    """A 400 of the data plane."""


@dataclass
class HostedIndex:
    """One index: `spaces` holds its records by namespace."""

    name: str
    dimension: int
    metric: str
    host: str
    ready: bool = True
    spaces: dict[str, Records] = field(default_factory=dict)

    def model(self) -> dict[str, Any]:
        """As the control plane describes it."""
        capacity = {"mode": "OnDemand", "status": {"state": "Ready"}}
        return {
            "name": self.name,
            "dimension": self.dimension,
            "metric": self.metric,
            "host": self.host,
            "vector_type": "dense",
            "deletion_protection": "disabled",
            "spec": {"serverless": {"cloud": "aws", "region": "us-east-1", "read_capacity": capacity}},
            "status": {"ready": self.ready, "state": "Ready" if self.ready else "Initializing"},
        }


class PineconeServer:
    """Answers the requests of one test. `requests` are those that came, as (method, host and path, body)."""

    def __init__(self, control: Spec | None = None, data: Spec | None = None) -> None:
        self._specs = {True: control, False: data}
        self.indexes: dict[str, HostedIndex] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.ready = True
        """Whether indexes are ready as soon as they are made."""
        self.failing: Callable[[httpx.Request], httpx.Response | None] = lambda request: None
        """What answers instead, if it does."""
        self._routes: Mapping[str, Callable[[HostedIndex, Any], dict[str, Any]]] = {
            "/vectors/upsert": self._upsert,
            "/query": self._query,
            "/vectors/delete": self._delete,
            "/describe_index_stats": self._stats,
        }

    def make(self, name: str, dimension: int, metric: str = "cosine") -> HostedIndex:
        """Make an index."""
        host = f"{name}-a1b2c3d.svc.aped-1234-ab12.pinecone.io"
        index = HostedIndex(name=name, dimension=dimension, metric=metric, host=host, ready=self.ready)
        self.indexes[name] = index
        return index

    def answer(self, request: httpx.Request) -> httpx.Response:
        """For `httpx.MockTransport`."""
        is_control = request.url.host == CONTROL
        body = orjson.loads(request.content) if request.content else None
        self.requests.append((request.method, f"{request.url.host}{request.url.path}", body))
        assert request.headers["x-pinecone-api-version"] == "2026-04"
        if request.headers.get("api-key") != API_KEY:
            return httpx.Response(401, text="Invalid API Key")
        instead = self.failing(request)
        if instead is not None:
            return instead
        path = re.sub(r"^/indexes/[^/]+$", "/indexes/{index_name}", request.url.path)
        spec = self._specs[is_control]
        if spec and body is not None:
            spec.check_request(request.method, path, body)
        status, answer = self._control(request, body) if is_control else self._data(request, body)
        content = orjson.dumps(answer)
        if spec:
            spec.check_answer(request.method, path, status, orjson.loads(content))
        return httpx.Response(status, content=content)

    def _control(self, request: httpx.Request, body: Any) -> tuple[int, Any]:
        name = request.url.path.removeprefix("/indexes").strip("/")
        if request.method == "POST":
            if body["name"] in self.indexes:
                return 409, _complaint(409, "ALREADY_EXISTS", "Resource already exists")
            return 201, self.make(body["name"], body["dimension"], body["metric"]).model()
        if not name:
            return 200, {"indexes": [index.model() for index in self.indexes.values()]}
        if name not in self.indexes:
            return 404, _complaint(404, "NOT_FOUND", f"Resource {name} not found")
        return 200, self.indexes[name].model()

    def _data(self, request: httpx.Request, body: Any) -> tuple[int, Any]:
        index = next((it for it in self.indexes.values() if it.host == request.url.host), None)
        if index is None:
            return 404, {"code": 5, "message": "Index not found", "details": []}
        if len(request.content) > MAX_BODY:
            message = f"Error, message length too large: found {len(request.content)} bytes"
            return 400, {"code": 11, "message": message, "details": []}
        if request.url.path == "/vectors/fetch":
            return 200, self._fetch(index, parse_qs(request.url.query.decode()))
        if request.url.path == "/vectors/delete" and body.get("namespace", "") not in index.spaces:
            return 404, {"code": 5, "message": "Namespace not found", "details": []}
        try:
            return 200, self._routes[request.url.path](index, body)
        except Refused as error:
            return 400, {"code": 3, "message": str(error), "details": []}

    def _upsert(self, index: HostedIndex, body: Any) -> dict[str, Any]:
        if len(body["vectors"]) > 1000:
            raise Refused("Request vectors exceed 1000")
        for vector in body["vectors"]:
            _check_vector(vector, index.dimension)
        space = index.spaces.setdefault(body.get("namespace", ""), {})
        for vector in body["vectors"]:
            metadata = {key: _stored(value) for key, value in vector.get("metadata", {}).items()}
            space.pop(vector["id"], None)
            space[vector["id"]] = {"id": vector["id"], "values": vector["values"], "metadata": metadata}
        return {"upsertedCount": len(body["vectors"])}

    def _query(self, index: HostedIndex, body: Any) -> dict[str, Any]:
        if len(body["vector"]) != index.dimension:
            raise Refused(f"Vector dimension {len(body['vector'])} does not match {index.dimension}")
        space = index.spaces.get(body.get("namespace", ""), {})
        found = [it for it in space.values() if _passes(body.get("filter", {}), it["metadata"])]
        scored = [(_score(index.metric, body["vector"], it["values"]), it) for it in reversed(found)]
        scored.sort(key=lambda pair: pair[0], reverse=index.metric != "euclidean")
        matches = []
        for score, it in scored[: body["topK"]]:
            match = {"id": it["id"], "score": score}
            if body["includeValues"]:
                match["values"] = it["values"]
            if body["includeMetadata"] and it["metadata"]:
                match["metadata"] = it["metadata"]
            matches.append(match)
        return {
            "matches": matches,
            "namespace": body.get("namespace", ""),
            "usage": {"readUnits": 1},
            "results": [],
        }

    def _delete(self, index: HostedIndex, body: Any) -> dict[str, Any]:
        space = index.spaces[body.get("namespace", "")]
        if len(body.get("ids", ())) > 1000:
            raise Refused("Request ids exceed 1000")
        if body.get("deleteAll"):
            going = list(space)
        elif "filter" in body:
            going = [key for key, it in space.items() if _passes(body["filter"], it["metadata"])]
        else:
            going = body["ids"]
        for key in going:
            space.pop(key, None)
        return {}

    def _fetch(self, index: HostedIndex, query: Mapping[str, list[str]]) -> dict[str, Any]:
        space = index.spaces.get(query.get("namespace", [""])[0], {})
        found = {key: space[key] for key in query["ids"] if key in space}
        return {"vectors": found, "namespace": "", "usage": {"readUnits": 1}}

    def _stats(self, index: HostedIndex, body: Any) -> dict[str, Any]:
        assert body == {}
        counts = {name or "__default__": len(space) for name, space in index.spaces.items()}
        return {
            "namespaces": {name: {"vectorCount": count} for name, count in counts.items()},
            "dimension": index.dimension,
            "indexFullness": 0,
            "totalVectorCount": sum(counts.values()),
            "metric": index.metric,
            "vectorType": "dense",
        }


def _complaint(status: int, code: str, message: str) -> dict[str, Any]:
    return {"status": status, "error": {"code": code, "message": message}}


def _check_vector(vector: Mapping[str, Any], dimension: int) -> None:
    key = vector["id"]
    if not key.isascii():
        raise Refused(f"Vector ID must be ASCII, but got '{key}'")
    if len(vector["values"]) != dimension:
        raise Refused(f"Vector dimension {len(vector['values'])} does not match the index' {dimension}")
    if not any(vector["values"]):
        raise Refused(f"Dense vectors must contain at least one non-zero value. Vector ID '{key}'")
    metadata = vector.get("metadata", {})
    if len(orjson.dumps(metadata)) > 40 * 1024:
        raise Refused(f"metadata of vector '{key}' exceeds the limit of 40960 bytes")
    for name, value in metadata.items():
        of_texts = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
        if name.startswith("$") or not (of_texts or isinstance(value, (str, int, float))):
            raise Refused(f"Metadata value must be a string, number, boolean or list of strings: '{name}'")


def _stored(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _score(metric: str, a: list[float], b: list[float]) -> float:
    if metric == "euclidean":
        return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    if metric == "dotproduct":
        return dot
    lengths = math.hypot(*a) * math.hypot(*b)
    return dot / lengths if lengths else 0.0


def _passes(filter: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    return all(_clause(key, value, metadata) for key, value in filter.items())


def _clause(key: str, value: Any, metadata: Mapping[str, Any]) -> bool:
    if key in {"$and", "$or"}:
        if not value:
            raise Refused(f"{key} needs clauses")
        return (all if key == "$and" else any)([_passes(part, metadata) for part in value])
    if key.startswith("$"):
        raise Refused(f"{key} is not a valid operator")
    return all(_test(name, operand, metadata.get(key)) for name, operand in value.items())


def _test(name: str, operand: Any, stored: Any) -> bool:
    held = stored if isinstance(stored, list) else [] if stored is None else [stored]
    if name == "$exists":
        return bool(held) is operand
    if name in {"$in", "$nin"}:
        if not operand or any(isinstance(item, bool) for item in operand):
            raise Refused(f"the {name} operator takes a list of strings or numbers")
        return bool(held) and any(_same(it, item) for it in held for item in operand) is (name == "$in")
    if name in {"$eq", "$ne"}:
        return bool(held) and any(_same(it, operand) for it in held) is (name == "$eq")
    if isinstance(operand, bool) or not isinstance(operand, int | float):
        raise Refused(f"the {name} operator must be followed by a number")
    compare = {"$gt": float.__gt__, "$gte": float.__ge__, "$lt": float.__lt__, "$lte": float.__le__}[name]
    return any(isinstance(it, float) and compare(it, float(operand)) for it in held)


def _same(stored: Any, operand: Any) -> bool:
    if isinstance(stored, bool) or isinstance(operand, bool):
        return stored is operand
    return bool(stored == operand)
