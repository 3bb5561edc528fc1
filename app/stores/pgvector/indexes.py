"""Which indexes there are in a PostgreSQL database: found, kept in memory, made.

An index that was found is kept: its table never changes. It is looked for again where it does not fit the
vectors, for then it may have been dropped and made anew by somebody else, and where its table is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.ports.errors import PermanentError
from app.ports.vector_checks import check_dimensions, unknown_index
from app.ports.vectors import Metric
from app.stores.pgvector.sql import LOCK_CREATION, SCHEMA_EXISTS, IndexRow, Sql, Statement

if TYPE_CHECKING:
    from app.stores.pgvector.pool import Connection


class Indexes:
    """Of one schema. Methods that take a connection raise what the driver raises."""

    def __init__(self, *, metric: Metric, hnsw: bool, words: bool) -> None:
        """What indexes are like that are made here."""
        self._metric = metric
        self._hnsw = hnsw
        self._words = words
        self._kept: dict[str, IndexRow] = {}

    def forget(self, name: str) -> None:
        """Look for it again next time."""
        self._kept.pop(name, None)

    def keep(self, index: IndexRow) -> None:
        """What is committed may be kept."""
        self._kept[index.name] = index

    async def known(
        self, connection: Connection, sql: Sql, name: str, *, dimensions: int | None = None
    ) -> IndexRow:
        """An index that must be there, and fit. Raises `PermanentError`."""
        index = await self.find(connection, sql, name, dimensions=dimensions)
        if index is None:
            raise await self.unknown(connection, sql, name)
        if dimensions is not None:
            check_dimensions(name, has=index.dimensions, given=dimensions)
        return index

    async def find(
        self, connection: Connection, sql: Sql, name: str, *, dimensions: int | None = None
    ) -> IndexRow | None:
        """An index, if it is there."""
        kept = self._kept.get(name)
        if kept is not None and dimensions in (None, kept.dimensions):
            return kept
        self.forget(name)
        found = await _rows(connection, sql.find_index(name))
        if not found:
            return None
        self.keep(_index(found[0]))
        return self._kept[name]

    async def create(self, connection: Connection, sql: Sql, name: str, dimensions: int) -> IndexRow:
        """Make an index, in the caller's transaction; what a faster caller made counts."""
        await connection.execute(LOCK_CREATION)
        if not await connection.fetchval(SCHEMA_EXISTS, sql.schema):
            await connection.execute(sql.create_schema())
        await connection.execute(sql.create_indexes())
        adding = sql.add_index(name, dimensions, self._metric)
        added = await connection.fetchrow(adding.text, *adding.values)
        if added is None:
            finding = sql.find_index(name)
            return _index(await connection.fetchrow(finding.text, *finding.values))
        index = _index(added)
        for statement in sql.create_records(index, hnsw=self._hnsw, words=self._words):
            await connection.execute(statement)
        return index

    async def unknown(self, connection: Connection, sql: Sql, name: str) -> PermanentError:
        """Says which name may have been meant."""
        return unknown_index(name, [row["name"] for row in await _rows(connection, sql.index_names())])


async def _rows(connection: Connection, statement: Statement) -> list[Any]:
    """None where the table of indexes was not made yet."""
    import asyncpg  # noqa: PLC0415 - optional: the extra `postgresql`

    try:
        return await connection.fetch(statement.text, *statement.values)
    except asyncpg.UndefinedTableError:
        return []


def _index(row: Any) -> IndexRow:
    """Of a row of the table of indexes."""
    if row is None:
        raise PermanentError("internal", "an index vanished while it was made; write again")
    return IndexRow(
        number=row["number"], name=row["name"], dimensions=row["dimensions"], metric=row["metric"]
    )
