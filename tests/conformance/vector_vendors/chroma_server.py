"""A Chroma server for tests, with the answers and refusals of version 1.5, as far as the adapter goes.

The suite runs over it and, where it is installed, over the real one, so that they stay alike.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import orjson

API_KEY: Final = "chroma-key"
ROOT: Final = "/api/v2/tenants/default_tenant/databases/default_database"
NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,510}[a-zA-Z0-9]")
ORDERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
}


class Refused(Exception):
    """The request is answered with this status."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": error, "message": message}


@dataclass
class _Collection:
    """One collection: its records are (vector, metadata) by id."""

    name: str
    space: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    dimension: int | None = None
    records: dict[str, tuple[list[float], dict[str, Any]]] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        configuration = {"hnsw": {"space": self.space}, "spann": None, "embedding_function": None}
        known = {"id": self.id, "name": self.name, "dimension": self.dimension, "metadata": None}
        return {**known, "configuration_json": configuration, "tenant": "default_tenant", "version": 0}


class ChromaServer:
    """Answers the requests of one test. `requests` are those that came, as (method, path, body)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self.collections: dict[str, _Collection] = {}

    def answer(self, request: httpx.Request) -> httpx.Response:
        """For `httpx.MockTransport`."""
        path = request.url.path
        body = orjson.loads(request.content) if request.content else None
        self.requests.append((request.method, path, body))
        if request.headers.get("x-chroma-token") != API_KEY:
            return httpx.Response(401, json={"error": "AuthError", "message": "Unauthorized"})
        try:
            return httpx.Response(200, json=self._done(request.method, path, body))
        except Refused as refused:
            return httpx.Response(refused.status, json=refused.body)

    def _done(self, method: str, path: str, body: Any) -> Any:
        match method, path.removeprefix(ROOT).strip("/").split("/"):
            case "GET", [""]:
                return {"id": str(uuid.uuid4()), "name": "default_database", "tenant": "default_tenant"}
            case "GET", ["collections"]:
                return [it.described() for it in self.collections.values()]
            case "POST", ["collections"]:
                return self._create(body)
            case "GET", ["collections", name]:
                if name not in self.collections:
                    raise Refused(404, "NotFoundError", f"Collection [{name}] does not exist")
                return self.collections[name].described()
            case "GET", ["collections", identifier, "count"]:
                return len(self._by_id(identifier).records)
            case "POST", ["collections", identifier, ("get" | "upsert" | "query" | "delete") as action]:
                does = {"get": _get, "upsert": _upsert, "query": _query, "delete": _delete}[action]
                return does(self._by_id(identifier), body)
        raise Refused(404, "NotFoundError", f"no such path: {path}")

    def _create(self, body: Any) -> Any:
        name = body["name"]
        if not NAME.fullmatch(name):
            raise _invalid(
                f"Validation error: name: Expected a name containing 3-512 characters, got: {name}"
            )
        if name in self.collections and not body["get_or_create"]:
            raise Refused(409, "ChromaError", f"Collection [{name}] already exists")
        made = _Collection(name, body["configuration"]["hnsw"]["space"])
        return self.collections.setdefault(name, made).described()

    def _by_id(self, identifier: str) -> _Collection:
        for collection in self.collections.values():
            if collection.id == identifier:
                return collection
        raise Refused(404, "NotFoundError", f"Collection [{identifier}] does not exist.")


def _get(collection: _Collection, body: Any) -> Any:
    found = [it for it in body["ids"] if it in collection.records]
    return {"ids": found, "metadatas": [collection.records[it][1] or None for it in found]}


def _upsert(collection: _Collection, body: Any) -> Any:
    for vector in body["embeddings"]:
        _check_dimension(collection, vector)
    for names in body["metadatas"]:
        if any(not name or name.startswith(("#", "$")) for name in names):
            raise _invalid("Validation error: metadatas: Invalid metadata at index 0")
        assert not any(name.startswith("chroma:") for name in names), "this would end the real server"
    for key, vector, given in zip(body["ids"], body["embeddings"], body["metadatas"], strict=True):
        merged = {**collection.records.get(key, ([], {}))[1], **given}
        kept = {name: value for name, value in merged.items() if value is not None and value != []}
        collection.records[key] = ([float(number) for number in vector], kept)
        collection.dimension = len(vector)
    return {}


def _query(collection: _Collection, body: Any) -> Any:
    assert body["n_results"] > 0, "this would end the connection"
    (query,) = body["query_embeddings"]
    _check_dimension(collection, query)
    scored = sorted(
        (_distance(collection.space, query, vector), key)
        for key, (vector, metadata) in reversed(collection.records.items())
        if passes(body["where"], metadata)
    )[: body["n_results"]]
    held = [collection.records[key] for _, key in scored]
    included = body["include"]
    return {
        "ids": [[key for _, key in scored]],
        "distances": [[distance for distance, _ in scored]] if "distances" in included else None,
        "metadatas": [[metadata or None for _, metadata in held]] if "metadatas" in included else None,
        "embeddings": [[vector for vector, _ in held]] if "embeddings" in included else None,
        "include": included,
    }


def _delete(collection: _Collection, body: Any) -> Any:
    chosen = collection.records if body.get("ids") is None else body["ids"]
    going = [
        key
        for key in chosen
        if key in collection.records and passes(body["where"], collection.records[key][1])
    ]
    for key in going:
        del collection.records[key]
    return {"deleted": len(going)}


def _check_dimension(collection: _Collection, vector: list[float]) -> None:
    if collection.dimension not in (None, len(vector)):
        raise _invalid(
            f"Collection expecting embedding with dimension of {collection.dimension}, got {len(vector)}"
        )


def _distance(space: str, a: list[float], b: list[float]) -> float:
    product = math.fsum(x * y for x, y in zip(a, b, strict=True))
    if space == "l2":
        return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    if space == "ip":
        return 1.0 - product
    lengths = math.hypot(*a) * math.hypot(*b)
    return 1.0 - (product / lengths if lengths else 0.0)


def passes(where: Any, metadata: Mapping[str, Any]) -> bool:
    """Whether metadata, without nulls and empty lists, passes a clause. Raises `Refused` for no clause."""
    if not isinstance(where, dict) or len(where) != 1:
        raise _invalid("Invalid where clause")
    ((name, wanted),) = where.items()
    if name in {"$and", "$or"}:
        if not wanted:
            raise _invalid("Invalid where clause")
        passed = [passes(part, metadata) for part in wanted]
        return all(passed) if name == "$and" else any(passed)
    if not isinstance(wanted, dict) or len(wanted) != 1 or name.startswith("$"):
        raise _invalid("Invalid where clause")
    ((operator, operand),) = wanted.items()
    return _compares(metadata.get(name), operator, operand)


def _compares(value: Any, operator: str, operand: Any) -> bool:
    if operator in ORDERS:
        if _kind(operand) != "number":
            raise _invalid("Invalid where clause")
        return _kind(value) == "number" and ORDERS[operator](value, operand)
    if operator in {"$eq", "$ne"}:
        return _same(value, operand) is (operator == "$eq")
    if operator in {"$contains", "$not_contains"}:
        elements = value if isinstance(value, list) else []
        return any(_same(it, operand) for it in elements) is (operator == "$contains")
    if operator in {"$in", "$nin"} and operand and len({type(it) for it in operand}) == 1:
        return any(_same(value, it) for it in operand) is (operator == "$in")
    raise _invalid("Invalid where clause")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _same(value: Any, operand: Any) -> bool:
    return _kind(value) == _kind(operand) and bool(value == operand)


def _invalid(message: str) -> Refused:
    return Refused(400, "InvalidArgumentError", message)
