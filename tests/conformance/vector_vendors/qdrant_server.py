"""A Qdrant server for tests: its REST API over the engine of the vendor's own Python client.

Every request and answer is checked against Qdrant's OpenAPI document. Only what the adapter calls is here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import httpx
import orjson
from pydantic import TypeAdapter
from qdrant_client import QdrantClient, models

from tests.providers.specs import Spec

API_KEY: Final = "qdrant-key"
_OK: Final = {"operation_id": 0, "status": "completed"}
_FILTER: Final[TypeAdapter[models.Filter]] = TypeAdapter(models.Filter)


class QdrantServer:
    """Answers the requests of one test. `requests` are those that came, as (method, path, body)."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self.engine = QdrantClient(":memory:")
        self.requests: list[tuple[str, str, Any]] = []
        self.indexed: list[str] = []
        """Collections with an index of namespaces."""
        self._routes: Mapping[tuple[str, str], Callable[[str, Any], Any]] = {
            ("GET", "/collections"): self._list,
            ("GET", "/collections/{collection_name}"): self._describe,
            ("PUT", "/collections/{collection_name}"): self._create,
            ("PUT", "/collections/{collection_name}/index"): self._index,
            ("PUT", "/collections/{collection_name}/points"): self._upsert,
            ("POST", "/collections/{collection_name}/points/query"): self._query,
            ("POST", "/collections/{collection_name}/points/count"): self._count,
            ("POST", "/collections/{collection_name}/points/delete"): self._delete,
        }

    def close(self) -> None:
        """Let go of the engine."""
        self.engine.close()

    def answer(self, request: httpx.Request) -> httpx.Response:
        """For `httpx.MockTransport`."""
        path = request.url.raw_path.decode().partition("?")[0]
        body = orjson.loads(request.content) if request.content else None
        self.requests.append((request.method, path, body))
        found = re.fullmatch(r"/collections/([^/]+)(/.*)?", path)
        name = unquote(found[1]) if found else ""
        route = f"/collections/{{collection_name}}{found[2] or ''}" if found else path
        if request.headers.get("api-key") != API_KEY:
            return self._error(
                request, route, 401, "Must provide an API key or an Authorization bearer token"
            )
        if body is not None:
            self._spec.check_request(request.method, route, body)
        known = not found or self.engine.collection_exists(name)
        if not known and (request.method, found and found[2]) != ("PUT", None):
            return self._error(request, route, 404, f"Not found: Collection `{name}` doesn't exist!")
        if known and request.method == "PUT" and found and found[2] is None:
            return self._error(request, route, 409, f"Wrong input: Collection `{name}` already exists!")
        try:
            result = self._routes[request.method, route](name, body)
        except ValueError as error:
            return self._error(request, route, 400, f"Wrong input: {error}")
        return self._answer(request, route, 200, {"result": result, "status": "ok", "time": 0.001})

    def _error(self, request: httpx.Request, route: str, status: int, message: str) -> httpx.Response:
        return self._answer(request, route, status, {"status": {"error": message}, "time": 0.001})

    def _answer(self, request: httpx.Request, route: str, status: int, body: Any) -> httpx.Response:
        content = orjson.dumps(body)
        self._spec.check_answer(request.method, route, status, orjson.loads(content))
        return httpx.Response(status, content=content, headers={"content-type": "application/json"})

    def _list(self, _: str, body: Any) -> Any:
        del body
        return {"collections": [{"name": it.name} for it in self.engine.get_collections().collections]}

    def _describe(self, name: str, body: Any) -> Any:
        del body
        return self.engine.get_collection(name).model_dump(mode="json", exclude_none=True)

    def _create(self, name: str, body: Any) -> Any:
        self.create(name, body["vectors"])
        return True

    def create(self, name: str, vectors: Mapping[str, Any]) -> None:
        """Make a collection, of one vector or of several by name."""
        named = "size" not in vectors
        self.engine.create_collection(
            name,
            vectors_config={key: models.VectorParams(**value) for key, value in vectors.items()}
            if named
            else models.VectorParams(**vectors),
        )

    def _index(self, name: str, body: Any) -> Any:
        assert body["field_schema"] == {"type": "keyword", "is_tenant": True}
        self.indexed.append(name)
        return _OK

    def _upsert(self, name: str, body: Any) -> Any:
        self.engine.upsert(name, [models.PointStruct(**point) for point in body["points"]])
        return _OK

    def _query(self, name: str, body: Any) -> Any:
        payload = body["with_payload"]
        found = self.engine.query_points(
            name,
            query=body["query"],
            query_filter=_FILTER.validate_python(body["filter"]),
            limit=body["limit"],
            with_payload=payload if isinstance(payload, bool) else models.PayloadSelectorInclude(**payload),
            with_vectors=body["with_vector"],
        )
        return {"points": [point.model_dump(mode="json", exclude_none=True) for point in found.points]}

    def _count(self, name: str, body: Any) -> Any:
        chosen = _FILTER.validate_python(body["filter"]) if "filter" in body else None
        return {"count": self.engine.count(name, count_filter=chosen, exact=body["exact"]).count}

    def _delete(self, name: str, body: Any) -> Any:
        self.engine.delete(
            name, points_selector=models.FilterSelector(filter=_FILTER.validate_python(body["filter"]))
        )
        return _OK
