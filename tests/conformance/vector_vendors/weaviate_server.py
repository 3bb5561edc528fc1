"""Weaviate for tests: its REST API and its GraphQL, in memory, as the documentation has them.

Every request and answer is checked against Weaviate's own description of the API, where it is at hand, and
every query is parsed by a GraphQL library. Only what the adapter calls is here. Where the vendor's promise
is weak, this server is unkind: equal distances come in the reverse order of writing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import orjson
from graphql import FieldNode, GraphQLError, OperationDefinitionNode, parse, value_from_ast_untyped

from tests.conformance.vector_vendors.weaviate_where import Refused, passes
from tests.providers.specs import Spec

API_KEY: Final = "weaviate-key"
_CLASS_NAME: Final = re.compile(r"[A-Z][_0-9A-Za-z]{0,254}")
_PROPERTY_NAME: Final = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,230}")
_TENANT: Final = re.compile(r"[A-Za-z0-9\-_]{1,64}")
_RESERVED: Final = frozenset({"_additional", "_id", "id"})
Answer = tuple[int, Any]


class WeaviateServer:
    """Answers the requests of one test. `requests` are those that came, as (method, path, body)."""

    def __init__(self, spec: Spec | None = None, *, delete_limit: int = 10_000) -> None:
        self._spec = spec
        self._delete_limit = delete_limit
        self.classes: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, dict[str, dict[str, Any]]] = {}
        """By class, then by tenant: objects by UUID."""
        self.requests: list[tuple[str, str, Any]] = []
        self.failing: Callable[[httpx.Request], httpx.Response | None] = lambda request: None
        """What answers instead, if it does."""
        self.refusing: dict[str, str] = {}
        """Why objects are refused, by the record they are of."""

    def answer(self, request: httpx.Request) -> httpx.Response:
        """For `httpx.MockTransport`."""
        path = request.url.path
        body = orjson.loads(request.content) if request.content else None
        self.requests.append((request.method, path, body))
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return httpx.Response(401, json={"code": 401, "message": "unauthorized: invalid api key"})
        instead = self.failing(request)
        if instead is not None:
            return instead
        route = re.sub(r"^/v1/schema/[^/]+", "/schema/{className}", path).removeprefix("/v1")
        if self._spec and body is not None:
            self._spec.check_request(request.method, route, body)
        try:
            status, answer = self._route(request, route, body)
        except Refused as error:
            status, answer = 422, {"error": [{"message": str(error)}]}
        if answer is None:
            return httpx.Response(status)
        content = orjson.dumps(answer)
        if self._spec:
            self._spec.check_answer(request.method, route, status, orjson.loads(content))
        return httpx.Response(status, content=content)

    def _route(self, request: httpx.Request, route: str, body: Any) -> Answer:
        if "{className}" in route:
            return self._of_class(request, route, body)
        routes: Mapping[tuple[str, str], Callable[[], Any]] = {
            ("GET", "/.well-known/ready"): lambda: None,
            ("GET", "/schema"): lambda: {"classes": list(self.classes.values())},
            ("POST", "/schema"): lambda: self._create(body),
            ("POST", "/batch/objects"): lambda: [self._write(item) for item in body["objects"]],
            ("DELETE", "/batch/objects"): lambda: self._delete(body, request.url.params["tenant"]),
            ("POST", "/graphql"): lambda: self._graphql(body["query"]),
        }
        return 200, routes[request.method, route]()

    def _of_class(self, request: httpx.Request, route: str, body: Any) -> Answer:
        name = request.url.path.split("/")[3]
        if name not in self.classes:
            return 404, None
        if request.method == "POST":
            assert route.endswith("/properties")
            self._declare(self.classes[name], body)
            return 200, body
        if route.endswith("/tenants"):
            return 200, [{"name": it, "activityStatus": "ACTIVE"} for it in self.objects[name]]
        return 200, self.classes[name]

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["class"]
        if not _CLASS_NAME.fullmatch(name):
            raise Refused(f"'{name}' is not a valid class name")
        if name.lower() in {known.lower() for known in self.classes}:
            raise Refused(f"class name {name} already exists")
        made = {**body, "properties": []}
        for declared in body["properties"]:
            self._declare(made, declared)
        self.classes[name] = made
        self.objects[name] = {}
        return made

    def _declare(self, schema: dict[str, Any], declared: Mapping[str, Any]) -> None:
        name = declared["name"]
        if not _PROPERTY_NAME.fullmatch(name) or name in _RESERVED:
            raise Refused(f"'{name}' is not a valid property name")
        if name.lower() in {known["name"].lower() for known in schema["properties"]}:
            raise Refused(f"conflict for property {name!r}: already in use or provided multiple times")
        schema["properties"].append(dict(declared))

    def _write(self, item: dict[str, Any]) -> dict[str, Any]:
        schema = self.classes[item["class"]]
        declared = {it["name"] for it in schema["properties"]}
        assert declared >= item["properties"].keys(), "a property would be guessed by the auto-schema"
        assert _TENANT.fullmatch(item["tenant"])
        tenant = self.objects[item["class"]].setdefault(item["tenant"], {})
        others = next(iter(tenant.values()), item)
        why = self.refusing.get(item["properties"]["record"])
        if len(others["vector"]) != len(item["vector"]):
            why = "new node has a vector with length 2. Existing nodes have vectors with length 3"
        if why:
            return {**item, "result": {"status": "FAILED", "errors": {"error": [{"message": why}]}}}
        tenant.pop(item["id"], None)
        tenant[item["id"]] = item
        return {**item, "result": {"status": "SUCCESS"}}

    def _tenant(self, name: str, tenant: str) -> dict[str, dict[str, Any]]:
        if tenant not in self.objects[name]:
            raise Refused(f'tenant not found: "{tenant}"')
        return self.objects[name][tenant]

    def _delete(self, body: Any, tenant: str) -> dict[str, Any]:
        schema = self.classes[body["match"]["class"]]
        held = self._tenant(schema["class"], tenant)
        found = [key for key, it in held.items() if passes(body["match"]["where"], schema, it)]
        going = found[: self._delete_limit]
        for key in going:
            del held[key]
        results = {"matches": len(found), "limit": self._delete_limit, "successful": len(going), "failed": 0}
        return {**body, "dryRun": False, "results": results}

    def _graphql(self, query: str) -> dict[str, Any]:
        try:
            return {"data": self._resolved(query)}
        except (GraphQLError, Refused) as error:
            message = error.message if isinstance(error, GraphQLError) else str(error)
            return {"data": {"Get": {}}, "errors": [{"message": message, "path": ["Get"]}]}

    def _resolved(self, query: str) -> dict[str, Any]:
        [operation] = parse(query).definitions
        assert isinstance(operation, OperationDefinitionNode)
        [root] = operation.selection_set.selections
        assert isinstance(root, FieldNode)
        assert root.selection_set
        [node] = root.selection_set.selections
        assert isinstance(node, FieldNode)
        name = node.name.value
        if name not in self.classes:
            raise Refused(f'Cannot query field "{name}" on type "{root.name.value}ObjectsObj".')
        arguments = {it.name.value: value_from_ast_untyped(it.value) for it in node.arguments or ()}
        resolve = self._get if root.name.value == "Get" else self._aggregate
        return {root.name.value: {name: resolve(name, arguments, _fields(node))}}

    def _aggregate(self, name: str, arguments: dict[str, Any], fields: dict[str, Any]) -> list[Any]:
        assert fields == {"meta": {"count": {}}}
        return [{"meta": {"count": len(self._tenant(name, arguments.pop("tenant")))}}]

    def _get(self, name: str, arguments: dict[str, Any], fields: dict[str, Any]) -> list[Any]:
        schema = self.classes[name]
        held = list(self._tenant(name, arguments.pop("tenant")).values())
        where = _as_json(arguments.pop("where")) if "where" in arguments else None
        found = [it for it in reversed(held) if where is None or passes(where, schema, it)]
        limit = arguments.pop("limit")
        [(search, asked)] = arguments.items()
        distance = schema["vectorIndexConfig"]["distance"]
        ranked = _near(found, asked, distance) if search == "nearVector" else _hybrid(found, asked, distance)
        hits = []
        for additional, item in ranked[:limit]:
            hit = {field: item["properties"].get(field) for field in fields if field != "_additional"}
            known = {**additional, "vector": item["vector"], "id": item["id"]}
            hit["_additional"] = {field: known[field] for field in fields["_additional"]}
            hits.append(hit)
        return hits


Ranked = list[tuple[dict[str, Any], dict[str, Any]]]


def _near(found: list[dict[str, Any]], asked: Mapping[str, Any], metric: str) -> Ranked:
    for item in found:
        if len(item["vector"]) != len(asked["vector"]):
            raise Refused("vector lengths don't match")
    ranked = [({"distance": _distance(metric, asked["vector"], it["vector"])}, it) for it in found]
    return sorted(ranked, key=lambda pair: pair[0]["distance"])


def _hybrid(found: list[dict[str, Any]], asked: Mapping[str, Any], metric: str) -> Ranked:
    """Both rankings scaled to 0 … 1 and weighed, as relative score fusion does."""
    assert asked["properties"] == ["words"]
    words = set(re.findall(r"\w+", asked["query"].lower()))
    by_words = [len(words & set(re.findall(r"\w+", it["properties"]["words"].lower()))) for it in found]
    by_vector = [-_distance(metric, asked["vector"], it["vector"]) for it in found]
    scores = [
        asked["alpha"] * near + (1 - asked["alpha"]) * said
        for near, said in zip(_scaled(by_vector), _scaled(by_words), strict=True)
    ]
    ranked = sorted(zip(scores, found, strict=True), key=lambda pair: -pair[0])
    return [({"score": str(score)}, item) for score, item in ranked]


def _scaled(scores: list[Any]) -> list[float]:
    low, high = min(scores, default=0), max(scores, default=0)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]


def _distance(metric: str, a: list[float], b: list[float]) -> float:
    if metric == "l2-squared":
        return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    if metric == "dot":
        return -dot
    lengths = math.hypot(*a) * math.hypot(*b)
    return 1 - dot / lengths if lengths else 1.0


def _fields(node: FieldNode) -> dict[str, Any]:
    chosen = node.selection_set.selections if node.selection_set else ()
    return {it.name.value: _fields(it) for it in chosen if isinstance(it, FieldNode)}


def _as_json(where: dict[str, Any]) -> dict[str, Any]:
    """A `where` of GraphQL as REST writes it, where lists have keys of their own."""
    written: dict[str, Any] = {}
    for key, value in where.items():
        if key == "operands":
            written[key] = [_as_json(part) for part in value]
        else:
            written[f"{key}Array" if key.startswith("value") and isinstance(value, list) else key] = value
    return written
