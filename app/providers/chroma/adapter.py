"""Chroma as `VectorStore`: maps in, calls, maps out.

`format` holds the format, `filter` the filters, `vendor_api` the calls. An index is a
collection of the configured tenant and database. Retries, limits, metrics and the memory of models are
not here.

Requests name a collection by its id, which is looked up once and kept until a call finds it gone, or its
dimensions different. A large upsert goes in several requests, each all or none. A record is replaced in
two: Chroma merges metadata, so the names to remove are asked for first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal
from urllib.parse import quote

from pydantic import SecretStr

from app.ports.errors import CallError, PermanentError
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
from app.providers.chroma import format as fmt
from app.providers.deadlines import lookup, within
from app.providers.json_api import endpoint_of, key_in
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi, by_status

KEY_PREFIXES: Final = {"x-chroma-token": "", "authorization": "Bearer "}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChromaConfig:
    """One server, named by the operator. `metric` is that of the collections it makes."""

    name: str
    base_url: str = "http://localhost:8000"
    tenant: str = "default_tenant"
    database: str = "default_database"
    api_key: SecretStr | None = None
    api_key_header: Literal["x-chroma-token", "authorization"] = "x-chroma-token"
    metric: Metric = "cosine"
    timeout_seconds: float = 30.0


class Chroma:
    """One database of a server. Scores are cosines, dot products or negative distances.

    Which of equally near records come within `top_k` is the server's choice.
    """

    def __init__(self, config: ChromaConfig, transport: Transport) -> None:
        """Raises `ValueError` for a base URL that is none."""
        self._name = config.name
        self._metric = config.metric
        self._timeout_seconds = config.timeout_seconds
        header = config.api_key_header
        endpoint = endpoint_of(config, key_in(header, config.api_key, prefix=KEY_PREFIXES[header]))
        self._api = VendorApi(transport, endpoint, read_error=fmt.read_error, classify=by_status)
        self._database = (
            f"/api/v2/tenants/{quote(config.tenant, safe='')}/databases/{quote(config.database, safe='')}"
        )
        self._collections: dict[str, fmt.Collection] = {}

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        """See the port. There is no hybrid search."""
        if query.hybrid is not None:
            raise invalid("the Chroma adapter has no hybrid search; leave 'hybrid' out")
        check_index(index)
        where = fmt.where_clause(check_namespace(query.namespace), check_query(query))
        body = self._api.written(fmt.query_body, query, where)
        async with within(context, instance=self._name):
            collection = await self._known(index, context, dimensions=len(query.vector))
            answer = await self._post(index, collection, "query", body, context)
        return self._api.read(fmt.read_hits, answer, collection.metric, query)

    async def upsert(
        self,
        index: str,
        records: Sequence[VectorRecord],
        *,
        namespace: str | None,
        context: CallContext,
        model: str | None = None,
    ) -> int:
        """See the port."""
        check_index(index)
        place = check_namespace(namespace)
        if not records:
            return 0
        dimensions = check_records(records)
        batches = list(fmt.batches(records, place))
        async with within(context, instance=self._name):
            collection = await self._find(index, context, dimensions=dimensions)
            if collection is None:
                collection = await self._create(index, context)
            _check_fits(index, collection, dimensions)
            for batch in batches:
                answer = await self._post(index, collection, "get", fmt.held_body(batch), context)
                held = self._api.read(fmt.read_held, answer)
                await self._post(index, collection, "upsert", fmt.upsert_body(batch, held), context)
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
        """See the port. Raises `TemporaryError` of class `invalid_output` where the server does not count."""
        check_index(index)
        tree = check_selection(ids=ids, filter=filter, delete_all=delete_all)
        place = check_namespace(namespace)
        where = fmt.where_clause(place, tree)
        stored = None if ids is None else list(dict.fromkeys(fmt.stored_id(it, place) for it in ids))
        bodies = self._api.written(lambda: list(fmt.delete_bodies(where, stored)))
        count = 0
        async with within(context, instance=self._name):
            collection = await self._known(index, context)
            for body in bodies:
                answer = await self._post(index, collection, "delete", body, context)
                count += self._api.read(fmt.read_deleted, answer)
        return count

    async def describe(self, index: str) -> IndexInfo:
        """See the port. Counts the records of every namespace."""
        check_index(index)
        context = lookup(self._timeout_seconds)
        self._collections.pop(index, None)
        async with within(context, instance=self._name):
            collection = await self._known(index, context)
            path = f"{self._database}/collections/{collection.id}/count"
            count = self._api.read(fmt.read_count, await self._api.get_value(path, context))
        return IndexInfo(name=index, dimensions=collection.dimensions, metric=collection.metric, count=count)

    async def check(self) -> None:
        """See the port. Asks for the database, which needs a valid key."""
        await self._api.call("GET", self._database, None, lookup(self._timeout_seconds))

    async def _known(
        self, index: str, context: CallContext, *, dimensions: int | None = None
    ) -> fmt.Collection:
        collection = await self._find(index, context, dimensions=dimensions)
        if collection is None:
            raise await self._unknown(index, context)
        if dimensions is not None:
            _check_fits(index, collection, dimensions)
        return collection

    async def _find(
        self, index: str, context: CallContext, *, dimensions: int | None = None
    ) -> fmt.Collection | None:
        """As it is kept, unless it does not fit the vectors: it may be another one by now."""
        kept = self._collections.get(index)
        if kept is not None and dimensions in (None, kept.dimensions):
            return kept
        self._collections.pop(index, None)
        try:
            path = f"{self._database}/collections/{quote(index, safe='')}"
            answer = await self._api.call("GET", path, None, context)
        except PermanentError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return self._remember(index, answer)

    async def _create(self, index: str, context: CallContext) -> fmt.Collection:
        """Make the collection; another caller may be faster, and what it made counts."""
        body = fmt.create_body(index, self._metric)
        return self._remember(index, await self._api.post(f"{self._database}/collections", body, context))

    def _remember(self, index: str, answer: dict[str, Any]) -> fmt.Collection:
        try:
            collection = self._collections[index] = self._api.read(fmt.read_collection, answer)
        except ValueError as error:
            raise invalid(f"the collection {index!r} cannot be used: {error}") from None
        return collection

    async def _post(
        self, index: str, collection: fmt.Collection, action: str, body: bytes, context: CallContext
    ) -> dict[str, Any]:
        try:
            return await self._api.post(
                f"{self._database}/collections/{collection.id}/{action}", body, context
            )
        except PermanentError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._collections.pop(index, None)
            raise await self._unknown(index, context) from None

    async def _unknown(self, index: str, context: CallContext) -> PermanentError:
        """Says which name may have been meant, if the key may list them."""
        try:
            names = fmt.read_names(await self._api.get_list(f"{self._database}/collections", context))
        except CallError:
            names = []
        return unknown_index(index, names)


def _check_fits(index: str, collection: fmt.Collection, dimensions: int) -> None:
    if collection.dimensions is not None:
        check_dimensions(index, has=collection.dimensions, given=dimensions)
