"""Weaviate as a `VectorStore`: maps in, calls, maps out.

`schema` says how things are called and laid out there, `collections` keeps what is
known of collections, `filter` and `format` hold the format. Searches go over GraphQL,
which is the only way over HTTP to search by a vector of one's own; everything else is REST. Retries,
limits, metrics and tracing are not here.

What differs from the port, by Weaviate's nature: an upsert is not all or none, for objects are written
one by one (a failure says how many were, and writing again is harmless); which of equally near records
come within `top_k` is not decided by id.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from app.ports.errors import CallError, ErrorClass, PermanentError, TemporaryError
from app.ports.models import CallContext
from app.ports.vector_checks import (
    check_index,
    check_namespace,
    check_query,
    check_records,
    check_selection,
    invalid,
)
from app.ports.vectors import Filter, IndexInfo, Metric, VectorHit, VectorQuery, VectorRecord
from app.providers.deadlines import lookup, within
from app.providers.failures import CREDENTIAL_STATUSES
from app.providers.json_api import bearer, endpoint_of
from app.providers.json_format import VendorError
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi
from app.providers.weaviate import format as fmt
from app.providers.weaviate.collections import Collections
from app.providers.weaviate.filter import EVERYTHING, Decided, properties_asked, where_filter, where_ids
from app.providers.weaviate.schema import class_name, properties_of, tenant_name

IDS_AT_ONCE: Final = 1000
_DISABLED: Final = re.compile(r"graphql api is disabled", re.IGNORECASE)
_NO_TENANT: Final = re.compile(r"tenant not found", re.IGNORECASE)
_WRONG: Final = re.compile(
    r"no such prop|vector length|different dimension|invalid|syntax error|unknown argument|multi-tenan",
    re.IGNORECASE,
)
_GONE: Final = 410
_IN_WORDS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class WeaviateConfig:
    """One server, named by the operator. `metric` is that of the collections that are made here."""

    name: str
    base_url: str = "http://localhost:8080"
    api_key: SecretStr | None = None
    metric: Metric = "cosine"
    timeout_seconds: float = 30.0


class Weaviate:
    """Implements `app.ports.vectors.VectorStore`. `None` and `""` are the default namespace.

    Scores are cosines, dot products or minus the Euclidean distance; of hybrid searches, what Weaviate
    makes of both rankings (0 … 1).
    """

    def __init__(self, config: WeaviateConfig, transport: Transport) -> None:
        """Raises `ValueError` for a base URL that is none."""
        self._name = config.name
        self._timeout_seconds = config.timeout_seconds
        endpoint = endpoint_of(config, bearer(config.api_key))
        self._api = VendorApi(transport, endpoint, read_error=fmt.read_error, classify=classify)
        self._collections = Collections(api=self._api, metric=config.metric)

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        """See the port. The words of a hybrid search are looked for in every string of the metadata."""
        check_index(index)
        tree = check_query(query)
        tenant = tenant_name(check_namespace(query.namespace))
        if query.hybrid is not None and not query.hybrid.text.strip():
            raise invalid("the hybrid search has no text; write the words to look for, or leave 'hybrid' out")
        asked = properties_asked(tree) if tree is not None else frozenset[str]()
        async with within(context, instance=self._name):
            found = await self._collections.find(
                index, context, dimensions=len(query.vector), properties=asked
            )
            where: Decided = True if tree is None else where_filter(tree, found.properties)
            if where is False:
                return []
            allowed = None if isinstance(where, bool) else where
            body = self._api.written(fmt.search_body, found.name, tenant, query, allowed)
            try:
                answer = await self._graphql(body, context)
            except CallError as error:
                await self._after(error, index, context)
                return []
        return self._api.read(fmt.read_hits, answer, found.name, found.metric, query)

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
        tenant = tenant_name(check_namespace(namespace))
        name = class_name(index)
        if not records:
            return 0
        dimensions = check_records(records)
        properties = properties_of(records)
        written = 0
        async with within(context, instance=self._name):
            await self._collections.find_or_create(
                index, context, dimensions=dimensions, properties=properties
            )
            for body, batch in fmt.batch_bodies(name, tenant, records):
                try:
                    answer = await self._api.post_for_list("/v1/batch/objects", body, context)
                except CallError:
                    self._collections.forget(index)
                    raise
                failures = self._api.read(fmt.read_failures, answer, batch)
                written += len(batch) - len(failures)
                if failures:
                    self._collections.forget(index)
                    raise self._not_written(failures, written, len(records))
        return written

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
        """See the port. Weaviate deletes 10,000 objects at a time, and says how many."""
        check_index(index)
        tree = check_selection(ids=ids, filter=filter, delete_all=delete_all)
        tenant = tenant_name(check_namespace(namespace))
        asked = properties_asked(tree) if tree is not None else frozenset[str]()
        async with within(context, instance=self._name):
            found = await self._collections.find(index, context, properties=asked)
            selections: list[Decided] = [EVERYTHING]
            if tree is not None:
                selections = [where_filter(tree, found.properties)]
            elif ids is not None:
                uuids = [fmt.object_id(record_id) for record_id in dict.fromkeys(ids)]
                selections = [
                    where_ids(uuids[start : start + IDS_AT_ONCE])
                    for start in range(0, len(uuids), IDS_AT_ONCE)
                ]
            gone = 0
            for where in selections:
                if where is not False:
                    body = fmt.delete_body(found.name, EVERYTHING if where is True else where)
                    gone += await self._delete_matching(index, body, tenant, context)
        return gone

    async def describe(self, index: str) -> IndexInfo:
        """See the port. Counts the namespaces whose tenants are active, one after the other."""
        check_index(index)
        context = lookup(self._timeout_seconds)
        async with within(context, instance=self._name):
            found = await self._collections.refreshed(index, context)
            tenants = await self._api.get_list(f"/v1/schema/{found.name}/tenants", context)
            total = 0
            for tenant in fmt.read_tenants(tenants):
                answer = await self._graphql(fmt.count_body(found.name, tenant), context)
                total += self._api.read(fmt.read_count, answer, found.name)
        return IndexInfo(name=index, dimensions=found.dimensions, metric=found.metric, count=total)

    async def check(self) -> None:
        """Raise if the database cannot serve."""
        await self._api.call("GET", "/v1/.well-known/ready", None, lookup(self._timeout_seconds))

    async def _graphql(self, body: bytes, context: CallContext) -> dict[str, Any]:
        try:
            return await self._api.post("/v1/graphql", body, context)
        except PermanentError as error:
            if error.status != _GONE and not _DISABLED.search(str(error)):
                raise
            raise PermanentError(
                "permission",
                f"instance {self._name!r} has GraphQL switched off, which Weaviate's searches need; ask the "
                "operator to enable it there (DISABLE_GRAPHQL=false)",
                status=error.status,
            ) from None

    async def _delete_matching(self, index: str, body: bytes, tenant: str, context: CallContext) -> int:
        gone = 0
        while True:
            try:
                answer = await self._api.call("DELETE", f"/v1/batch/objects?tenant={tenant}", body, context)
            except CallError as error:
                await self._after(error, index, context)
                return gone
            told = self._api.read(fmt.read_deleted, answer)
            gone += told.successful
            if told.failed:
                message = f"instance {self._name!r} deleted {gone} records and failed to delete {told.failed}"
                raise TemporaryError("server_error", f"{message}; try again")
            if not told.successful or told.matches < told.limit:
                return gone

    async def _after(self, error: CallError, index: str, context: CallContext) -> None:
        """What an error means. Returns where only the namespace is missing."""
        if error.error_class == "not_found":
            await self._collections.refreshed(index, context)
            return
        self._collections.forget(index)
        raise error

    def _not_written(self, failures: Sequence[tuple[str, str]], written: int, of: int) -> CallError:
        record_id, said = failures[0]
        message = (
            f"instance {self._name!r} wrote {written} of {of} records; {record_id!r} was refused: "
            f"{self._api.quote(said)}"
        )
        if _WRONG.search(said):
            return PermanentError("invalid_request", message)
        return TemporaryError("server_error", message)


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`. GraphQL answers 200 with errors (500 here), which say what they are in words only."""
    if status in CREDENTIAL_STATUSES:
        return None
    if status == _GONE or _DISABLED.search(error.message):
        return "permission"
    if error.code == "USAGE_LIMIT_EXCEEDED":
        return "rate_limit"
    if _NO_TENANT.search(error.message):
        return "not_found"
    return "invalid_request" if status == _IN_WORDS and _WRONG.search(error.message) else None
