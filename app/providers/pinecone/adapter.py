"""Pinecone as a `VectorStore`: maps in, calls, maps out.

`format` and `filter` hold the format, `indexes` where an index is. Retries,
limits, metrics and tracing are not here.

What differs from the port, by Pinecone's nature: an upsert of more than 1,000 records or 2 MB is sent in
several requests, and one that fails leaves those before it written (writing again is harmless); writes
are seen by searches after a moment, not at once; which of equally near records come within `top_k` is
not decided by id; a vector of zeros is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

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
)
from app.ports.vectors import Filter, IndexInfo, Metric, VectorHit, VectorQuery, VectorRecord
from app.providers.deadlines import lookup, within
from app.providers.json_api import endpoint_of, is_base_url, key_in
from app.providers.json_format import count as count_of
from app.providers.json_format import objects
from app.providers.pinecone import format as fmt
from app.providers.pinecone.filter import expression
from app.providers.pinecone.indexes import Index, Indexes, Placement
from app.providers.transport import Transport

API_VERSION: Final = "2026-04"
_MOVED: Final = frozenset({"not_found", "connection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PineconeConfig:
    """One project, named by the operator.

    `index_hosts` are the base URLs of indexes that the control plane need not be asked for (emulators,
    private endpoints). With `cloud` and `region`, an index that does not exist is made there at its first
    upsert, as a serverless one with this `metric`.
    """

    name: str
    base_url: str = "https://api.pinecone.io"
    api_key: SecretStr | None = None
    index_hosts: Mapping[str, str] = field(default_factory=dict)
    cloud: Literal["aws", "gcp", "azure"] | None = None
    region: str | None = None
    metric: Metric = "cosine"
    timeout_seconds: float = 30.0


class Pinecone:
    """Implements `app.ports.vectors.VectorStore`. `None` and `""` are the default namespace."""

    def __init__(self, config: PineconeConfig, transport: Transport) -> None:
        """Raises `ValueError` for a URL that is none, and for a cloud without a region."""
        if (config.cloud is None) != (config.region is None):
            raise ValueError(f"database {config.name!r} needs both 'cloud' and 'region', or neither")
        for index, url in config.index_hosts.items():
            if not is_base_url(url):
                raise ValueError(f"the host of index {index!r} of database {config.name!r} is no base URL")
        self._name = config.name
        self._own_hosts = tuple(config.index_hosts)
        self._timeout_seconds = config.timeout_seconds
        self._indexes = Indexes(
            transport=transport,
            control=endpoint_of(
                config, key_in("api-key", config.api_key), {"x-pinecone-api-version": API_VERSION}
            ),
            hosts=config.index_hosts,
            placement=None
            if config.cloud is None or config.region is None
            else Placement(cloud=config.cloud, region=config.region, metric=config.metric),
        )

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        """See the port. Scores: cosine, dot product, or minus the Euclidean distance."""
        if query.hybrid is not None:
            raise invalid(
                "Pinecone has no hybrid search over text that is not embedded; leave 'hybrid' out, or use "
                "another database"
            )
        tree = check_query(query)
        where = None if tree is None else expression(tree)
        body = fmt.query_body(query, where, check_namespace(query.namespace))
        async with within(context, instance=self._name):
            found = await self._fitting(index, len(query.vector), context)
            try:
                answer = await found.api.post("/query", body, context)
            except CallError as error:
                await self._after(error, found, context)
                return []
        return found.api.read(fmt.read_hits, answer, found.metric, query)

    async def upsert(
        self,
        index: str,
        records: Sequence[VectorRecord],
        *,
        namespace: str | None,
        context: CallContext,
        model: str | None = None,
    ) -> int:
        """See the port, and the module for what cannot be all or none."""
        del model
        check_index(index)
        space = check_namespace(namespace)
        if not records:
            return 0
        dimensions = check_records(records)
        bodies = fmt.upsert_bodies(records, space)
        async with within(context, instance=self._name):
            await self._indexes.find_or_create(index, dimensions, context)
            found = await self._fitting(index, dimensions, context)
            await self._upsert(found, bodies, context)
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
        """See the port. Pinecone does not say how many went, so they are counted just before.

        By ids: those that a fetch finds (an id with a space in it cannot be fetched, and counts). By
        filter: those that a search finds, which is at most 10,000. All: what the statistics say, which
        may lag behind the latest writes.
        """
        tree = check_selection(ids=ids, filter=filter, delete_all=delete_all)
        space = check_namespace(namespace)
        wanted = None if tree is None else expression(tree)
        async with within(context, instance=self._name):
            found = await self._indexes.find(index, context)
            try:
                if ids is not None:
                    return await self._delete_ids(found, list(dict.fromkeys(ids)), space, context)
                return await self._delete_passing(found, wanted, space, context)
            except CallError as error:
                await self._after(error, found, context)
                return 0

    async def describe(self, index: str) -> IndexInfo:
        """See the port. `count` may lag behind the latest writes."""
        context = lookup(self._timeout_seconds)
        async with within(context, instance=self._name):
            found = await self._indexes.refreshed(index, context)
            stats = await found.api.post("/describe_index_stats", b"{}", context)
        count = count_of(stats, "totalVectorCount") or 0
        return IndexInfo(name=index, dimensions=found.dimensions, metric=found.metric, count=count)

    async def check(self) -> None:
        """Raise if the database cannot serve. Asks the hosts that the operator set, or the control plane."""
        context = lookup(self._timeout_seconds)
        async with within(context, instance=self._name):
            for index in self._own_hosts:
                await self._indexes.refreshed(index, context)
            if not self._own_hosts:
                await self._indexes.names(context)

    async def _fitting(self, index: str, dimensions: int, context: CallContext) -> Index:
        """The index, if the vectors fit; what is remembered of it may be out of date, so it is asked once."""
        found = await self._indexes.find(index, context)
        if found.dimensions != dimensions:
            found = await self._indexes.refreshed(index, context)
            check_dimensions(index, has=found.dimensions, given=dimensions)
        return found

    async def _upsert(self, found: Index, bodies: Sequence[tuple[bytes, int]], context: CallContext) -> None:
        written = 0
        for body, count in bodies:
            try:
                await found.api.call("POST", "/vectors/upsert", body, context)
            except CallError as error:
                if written:
                    raise _partly(error, written, sum(count for _, count in bodies)) from None
                await self._after(error, found, context)
                raise
            written += count

    async def _delete_passing(
        self, found: Index, wanted: Mapping[str, Any] | None, namespace: str, context: CallContext
    ) -> int:
        """Delete by filter, or everything."""
        if wanted is None:
            stats = await found.api.post("/describe_index_stats", b"{}", context)
            count = fmt.read_namespace_count(stats, namespace)
        else:
            body = fmt.count_body(found.dimensions, wanted, namespace)
            count = len(objects((await found.api.post("/query", body, context)).get("matches")))
        body = fmt.delete_body(namespace=namespace, filter=wanted, delete_all=wanted is None)
        await found.api.call("POST", "/vectors/delete", body, context)
        return count

    async def _delete_ids(
        self, found: Index, ids: Sequence[str], namespace: str, context: CallContext
    ) -> int:
        for record_id in ids:
            fmt.check_id(record_id)
        count = 0
        for query, asked in fmt.fetches(ids, namespace):
            answer = await found.api.call("GET", f"/vectors/fetch?{query}", None, context)
            vectors = answer.get("vectors")
            count += len(vectors.keys() & asked) if isinstance(vectors, dict) else 0
        for start in range(0, len(ids), fmt.MAX_IDS):
            body = fmt.delete_body(namespace=namespace, ids=ids[start : start + fmt.MAX_IDS])
            await found.api.call("POST", "/vectors/delete", body, context)
        return count + sum(" " in record_id for record_id in ids)

    async def _after(self, error: CallError, found: Index, context: CallContext) -> None:
        """What an error of an index's host means. Returns where only the namespace is missing."""
        if error.error_class not in _MOVED:
            raise error
        self._indexes.forget(found.name)
        if error.error_class != "not_found":
            raise error
        now = await self._indexes.refreshed(found.name, context)
        if now.host != found.host:
            message = f"index {found.name!r} of database {self._name!r} has moved; try again"
            raise TemporaryError("connection", message)


def _partly(error: CallError, written: int, of: int) -> CallError:
    """The error, with how many records were written before it."""
    message = f"{error}; {written} of {of} records were written before"
    if isinstance(error, TemporaryError):
        return TemporaryError(error.error_class, message, status=error.status, retry_after=error.retry_after)
    return PermanentError(error.error_class, message, status=error.status)
