"""Qdrant as `VectorStore`: maps in, calls, maps out.

`format` holds the format, `filter` the filters, `vendor_api` the calls. An index is a
collection of one unnamed vector a point; a collection that other programs filled is searched as it is.
Retries, limits, metrics and the memory of models are not here.

What a collection is like (its dimensions and metric) is asked for once and kept until a call finds it gone
or its dimensions different. A large upsert goes in several requests: each is all or none, and an attempt
that failed among them is mended by the next one, for writing a record twice is writing it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import SecretStr

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext
from app.ports.vector_checks import (
    check_dimensions,
    check_index,
    check_namespace,
    check_query,
    check_records,
    check_selection,
    invalid,
    unknown_index,
)
from app.ports.vectors import Filter, IndexInfo, Metric, VectorHit, VectorQuery, VectorRecord
from app.providers.deadlines import lookup, within
from app.providers.json_api import Method, endpoint_of, key_in
from app.providers.json_format import dump
from app.providers.qdrant import format as fmt
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi, by_status


@dataclass(frozen=True, slots=True, kw_only=True)
class QdrantConfig:
    """One server, named by the operator. `metric` is that of the collections it makes."""

    name: str
    base_url: str = "http://localhost:6333"
    api_key: SecretStr | None = None
    metric: Metric = "cosine"
    timeout_seconds: float = 30.0


class Qdrant:
    """One server. Scores are cosines, dot products or negative distances, as the collection has it.

    Vectors of cosine collections come back scaled to length one. Which of equally near records come
    within `top_k` is the server's choice.
    """

    def __init__(self, config: QdrantConfig, transport: Transport) -> None:
        """Raises `ValueError` for a base URL that is none."""
        self._name = config.name
        self._metric = config.metric
        self._timeout_seconds = config.timeout_seconds
        endpoint = endpoint_of(config, key_in("api-key", config.api_key))
        self._api = VendorApi(transport, endpoint, read_error=fmt.read_error, classify=by_status)
        self._shapes: dict[str, fmt.Shape] = {}

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        """See the port. There is no hybrid search: it needs sparse vectors, which records have not."""
        if query.hybrid is not None:
            raise invalid("the Qdrant adapter has no hybrid search; leave 'hybrid' out")
        check_index(index)
        where = fmt.where_filter(check_namespace(query.namespace), check_query(query))
        body = self._api.written(fmt.query_body, query, where)
        async with within(context, instance=self._name):
            shape = await self._known_shape(index, context, dimensions=len(query.vector))
            answer = await self._call("POST", index, "/points/query", body, context)
        return self._api.read(fmt.read_hits, answer, shape.metric, query)

    async def upsert(
        self,
        index: str,
        records: Sequence[VectorRecord],
        *,
        namespace: str | None,
        context: CallContext,
        model: str | None = None,
    ) -> int:
        """See the port. Waits until the records can be found."""
        check_index(index)
        place = check_namespace(namespace)
        if not records:
            return 0
        dimensions = check_records(records)
        fmt.check_names(records)
        async with within(context, instance=self._name):
            shape = await self._shape(index, context, dimensions=dimensions)
            if shape is None:
                shape = await self._create(index, dimensions, context)
            check_dimensions(index, has=shape.dimensions, given=dimensions)
            for body in fmt.upsert_bodies(records, place):
                await self._call("PUT", index, "/points?wait=true", body, context)
        return len(records)

    async def delete(
        self,
        index: str,
        *,
        ids: Sequence[str] | None,
        filter: Filter | None,
        delete_all: bool,
        namespace: str | None,
        context: CallContext,
    ) -> int:
        """See the port. Counted just before: what others write meanwhile may go uncounted."""
        check_index(index)
        tree = check_selection(ids=ids, filter=filter, delete_all=delete_all)
        where = fmt.where_filter(check_namespace(namespace), tree, ids)
        selected = self._api.written(dump, {"filter": where})
        async with within(context, instance=self._name):
            count = await self._count(index, where, context)
            if count:
                await self._call("POST", index, "/points/delete?wait=true", selected, context)
        return count

    async def describe(self, index: str) -> IndexInfo:
        """See the port. Counts the points of every namespace."""
        check_index(index)
        context = lookup(self._timeout_seconds)
        self._shapes.pop(index, None)
        async with within(context, instance=self._name):
            shape = await self._known_shape(index, context)
            count = await self._count(index, None, context)
        return IndexInfo(name=index, dimensions=shape.dimensions, metric=shape.metric, count=count)

    async def check(self) -> None:
        """See the port. Asks for the collections, which needs a valid key."""
        await self._api.call("GET", "/collections", None, lookup(self._timeout_seconds))

    async def _count(self, index: str, where: dict[str, Any] | None, context: CallContext) -> int:
        body = {"exact": True} if where is None else {"exact": True, "filter": where}
        answer = await self._call("POST", index, "/points/count", dump(body), context)
        return self._api.read(fmt.read_count, answer)

    async def _known_shape(
        self, index: str, context: CallContext, *, dimensions: int | None = None
    ) -> fmt.Shape:
        shape = await self._shape(index, context, dimensions=dimensions)
        if shape is None:
            raise await self._unknown(index, context)
        if dimensions is not None:
            check_dimensions(index, has=shape.dimensions, given=dimensions)
        return shape

    async def _shape(
        self, index: str, context: CallContext, *, dimensions: int | None = None
    ) -> fmt.Shape | None:
        """As it is kept, unless it does not fit the vectors: the collection may be another one by now."""
        kept = self._shapes.get(index)
        if kept is not None and dimensions in (None, kept.dimensions):
            return kept
        self._shapes.pop(index, None)
        try:
            answer = await self._api.call("GET", fmt.collection_path(index), None, context)
        except PermanentError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        try:
            shape = self._shapes[index] = self._api.read(fmt.read_shape, answer)
        except ValueError as error:
            raise invalid(f"the collection {index!r} cannot be used: {error}") from None
        return shape

    async def _create(self, index: str, dimensions: int, context: CallContext) -> fmt.Shape:
        """Make the collection; another one may be faster, and what it made counts."""
        path = fmt.collection_path(index)
        try:
            body = fmt.create_body(fmt.Shape(dimensions, self._metric))
            await self._api.call("PUT", path, body, context)
        except CallError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
        await self._api.call("PUT", f"{path}/index?wait=true", fmt.namespace_index_body(), context)
        shape = await self._shape(index, context)
        if shape is None:
            message = f"the collection {index!r} vanished as soon as it was made; try again"
            raise TemporaryError("server_error", message)
        return shape

    async def _call(
        self, method: Method, index: str, path: str, body: bytes, context: CallContext
    ) -> dict[str, Any]:
        try:
            return await self._api.call(method, fmt.collection_path(index) + path, body, context)
        except PermanentError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._shapes.pop(index, None)
            raise await self._unknown(index, context) from None

    async def _unknown(self, index: str, context: CallContext) -> PermanentError:
        """Says which name may have been meant, if the key may list them."""
        try:
            names = self._api.read(fmt.read_names, await self._api.call("GET", "/collections", None, context))
        except CallError:
            names = []
        return unknown_index(index, names)
