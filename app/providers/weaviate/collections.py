"""The collections of one Weaviate server: read once, made and widened when records need it.

What is remembered of a collection may be out of date: it is read again before anything is refused, or
taken to be missing, because of it.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from app.ports.errors import CallError, PermanentError
from app.ports.models import CallContext
from app.ports.vector_checks import check_dimensions, unknown_index
from app.ports.vectors import Metric
from app.providers.json_format import dump, objects, text
from app.providers.vendor_api import VendorApi
from app.providers.weaviate import schema
from app.providers.weaviate.schema import Collection

_REFUSED = 422


@dataclass(slots=True, kw_only=True)
class Collections:
    """`metric` is that of new ones."""

    api: VendorApi
    metric: Metric = "cosine"
    _known: dict[str, Collection] = field(default_factory=dict)

    async def find(
        self,
        index: str,
        context: CallContext,
        *,
        dimensions: int | None = None,
        properties: AbstractSet[str] = frozenset(),
    ) -> Collection:
        """The collection of an index, which fits vectors of so many dimensions.

        It may lack some of the properties; then nobody has declared them. Raises `not_found` where there
        is no such index.
        """
        found = self._known.get(index)
        if found is None or not properties <= found.properties or dimensions not in (None, found.dimensions):
            found = await self.refreshed(index, context)
        if dimensions is not None:
            check_dimensions(index, has=found.dimensions, given=dimensions)
        return found

    async def refreshed(self, index: str, context: CallContext) -> Collection:
        """The collection as it is now."""
        self.forget(index)
        found = await self._read(index, context)
        if found is None:
            raise unknown_index(index, await self._names(context))
        self._known[index] = found
        return found

    async def find_or_create(
        self, index: str, context: CallContext, *, dimensions: int, properties: AbstractSet[str]
    ) -> Collection:
        """The collection, made where there is none, with these properties declared."""
        known = self._known.get(index)
        if known is None or known.dimensions != dimensions:
            known = await self._read(index, context) or await self._create(
                index, context, dimensions=dimensions, properties=properties
            )
            check_dimensions(index, has=known.dimensions, given=dimensions)
            self._known[index] = known
        for name in sorted(properties - known.properties):
            await self._declare(index, known, name, context)
            now = self._known.get(index, known)  # as others may have widened it meanwhile
            self._known[index] = known = replace(now, properties=now.properties | {name})
        return known

    def forget(self, index: str) -> None:
        """Read it again the next time."""
        self._known.pop(index, None)

    async def _read(self, index: str, context: CallContext) -> Collection | None:
        try:
            answer = await self.api.call("GET", f"/v1/schema/{schema.class_name(index)}", None, context)
        except PermanentError as error:
            if error.error_class != "not_found":
                raise
            return None
        return self.api.read(schema.read_collection, answer)

    async def _create(
        self, index: str, context: CallContext, *, dimensions: int, properties: AbstractSet[str]
    ) -> Collection:
        made = Collection(
            name=schema.class_name(index),
            dimensions=dimensions,
            metric=self.metric,
            properties=frozenset(properties),
        )
        try:
            await self.api.post("/v1/schema", dump(schema.class_body(made)), context)
        except CallError as error:
            # Another upsert may have made it in the meantime: then it counts.
            found = await self._read(index, context) if error.status == _REFUSED else None
            if found is None:
                raise
            return found
        return made

    async def _declare(self, index: str, known: Collection, name: str, context: CallContext) -> None:
        path = f"/v1/schema/{known.name}/properties"
        try:
            await self.api.post(path, dump(schema.property_body(name)), context)
        except CallError as error:
            found = await self._read(index, context) if error.status == _REFUSED else None
            if found is None or name not in found.properties:
                raise

    async def _names(self, context: CallContext) -> list[str]:
        """The indexes there are, if the key may list them."""
        try:
            answer = await self.api.call("GET", "/v1/schema", None, context)
        except CallError:
            return []
        names = (schema.index_name(text(it, "class")) for it in objects(answer.get("classes")))
        return [name for name in names if name is not None]
