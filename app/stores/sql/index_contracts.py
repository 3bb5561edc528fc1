"""The index contracts of the SQL stores."""

from __future__ import annotations

from typing import Any

from app.ports.index_contracts import IndexContract
from app.stores.sql.connections import Connection, Readers, Statements
from app.stores.sql.rows import Row
from app.stores.sql.writer import Writer


class SqlIndexContracts:
    """`app.ports.index_contracts.IndexContracts`."""

    def __init__(self, readers: Readers, writer: Writer, sql: Statements) -> None:
        self._readers = readers
        self._writer = writer
        self._sql = sql

    async def get(self, database: str, index: str) -> IndexContract | None:
        row = await self._readers.row(self._sql["contract_get"], _key(database, index))
        return None if row is None else _contract_from(row)

    async def remember(self, contract: IndexContract) -> IndexContract:
        key = _key(contract.database, contract.index)
        made = {"model": contract.model, "dimensions": contract.dimensions, "metric": contract.metric}

        def store(connection: Connection) -> IndexContract:
            connection.execute(self._sql["contract_insert"], {**key, **made})
            row = connection.execute(self._sql["contract_get"], key).fetchone()
            # Where another process forgets it in this moment, there is none to be told of.
            return contract if row is None else _contract_from(row)

        return await self._writer.run(store)

    async def forget(self, database: str, index: str) -> None:
        key = _key(database, index)
        await self._writer.run(
            lambda connection: connection.execute(self._sql["contract_delete"], key).rowcount
        )


def _key(database: str, index: str) -> dict[str, Any]:
    return {"database": database, "index": index}


def _contract_from(row: Row) -> IndexContract:
    return IndexContract(database=row[0], index=row[1], model=row[2], dimensions=row[3], metric=row[4])
