"""What is known of the indexes of one database: kept, held against vectors, renewed when they were remade.

A contract comes of the first upsert that succeeded, and goes when the database says that the index is gone or
another one now. The database is asked only where vectors do not fit: what is refused, is refused for an index
as it stands. What does not belong here: the calls themselves (`contracted`).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from app.ports.errors import CallError, PermanentError, StoreError, TemporaryError
from app.ports.index_contracts import IndexContract, IndexContracts, Offered, breach, fits
from app.ports.vectors import VectorStore

MOST_INDEXES: Final = 1024
"""Contracts at hand without asking the store; the one used least recently goes first."""
TRUST_SECONDS: Final = 30.0
"""For so long a contract is taken for current, although another process may have changed it."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Filling:
    """Upserts under way to an index that has no contract yet; they go together."""

    offered: Offered
    """Their vectors; the model is that of any of them."""
    writers: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class IndexBook:
    """The contracts of one database. Raises `PermanentError` and `TemporaryError` only."""

    def __init__(
        self,
        store: VectorStore,
        database: str,
        contracts: IndexContracts,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._database = database
        self._contracts = contracts
        self._monotonic = monotonic
        self._recent: OrderedDict[str, tuple[float, IndexContract]] = OrderedDict()
        self._filling: dict[str, Filling] = {}

    async def admit(self, index: str, offered: Offered, *, query: bool) -> IndexContract | None:
        """The contract that the vectors keep to, None for an index without one.

        Raises `PermanentError("invalid_request")` for vectors that do not fit.
        """
        contract = await self._contract(index)
        if contract is None or fits(contract, offered):
            return contract
        contract = await self._renewed(index, writes=not query)
        if contract is None or fits(contract, offered):
            return contract
        raise PermanentError("invalid_request", breach(contract, offered, query=query))

    @asynccontextmanager
    async def writing(self, index: str, offered: Offered) -> AsyncIterator[Filling | None]:
        """Entered when these vectors may be written; with a `Filling` if they are among the first ones.

        Of several first upserts those that go together are under way together. One that does not waits for
        their end: if one of them succeeded, it is refused. Raises as `admit` does.
        """
        while await self.admit(index, offered, query=False) is None:
            if index in self._recent:
                continue  # learnt while the store was asked
            filling = self._filling.setdefault(index, Filling(offered))
            if not fits(filling.offered, offered):
                await filling.ended.wait()
                continue
            if filling.offered.model is None:
                filling.offered = offered
            filling.writers += 1
            try:
                yield filling
            finally:
                filling.writers -= 1
                if not filling.writers:
                    del self._filling[index]
                    filling.ended.set()
            return
        yield None

    async def learn(self, index: str, offered: Offered) -> None:
        """Vectors were written to an index without a contract: this is it from now on.

        Raises `PermanentError("invalid_request")` if another process was first, with others.
        """
        known = self._recent.get(index)
        kept = known[1] if known is not None else await self._kept(index, offered)
        if kept is None:
            return
        self._keep(kept)
        if not fits(kept, offered):
            told = breach(kept, offered, query=False)
            message = f"{told}; both were written at the same time, so delete the index and fill it anew"
            raise PermanentError("invalid_request", message)

    async def missed(self, index: str) -> None:
        """The database did not find something: if it was the index, nothing is known of it any more."""
        if await self._contract(index) is None:
            return
        try:
            await self._store.describe(index)
        except CallError as error:
            if error.error_class == "not_found":
                await self._forget(index)

    async def _contract(self, index: str) -> IndexContract | None:
        known = self._recent.get(index)
        if known is not None and known[0] > self._monotonic():
            self._recent.move_to_end(index)
            return known[1]
        self._recent.pop(index, None)
        try:
            contract = await self._contracts.get(self._database, index)
        except StoreError as error:
            raise self._unreadable(index, error) from error
        if contract is not None:
            self._keep(contract)
        return contract

    async def _renewed(self, index: str, *, writes: bool) -> IndexContract | None:
        """The contract as it stands now; None if it was that of an index which is no more.

        An index that was emptied may be filled with others. That a search finds it empty says nothing: some
        databases count late.
        """
        self._recent.pop(index, None)
        contract = await self._contract(index)
        if contract is None:
            return None
        try:
            info = await self._store.describe(index)
        except CallError as error:
            if error.error_class != "not_found":
                return contract
        else:
            remade = info.dimensions not in (None, contract.dimensions) or info.metric != contract.metric
            if not remade and (info.count or not writes):
                return contract
        await self._forget(index)
        return None

    async def _kept(self, index: str, offered: Offered) -> IndexContract | None:
        try:
            info = await self._store.describe(index)
            dimensions = offered.dimensions or info.dimensions
            if dimensions is None:
                return None
            contract = IndexContract(
                database=self._database,
                index=index,
                model=offered.model,
                dimensions=dimensions,
                metric=info.metric,
            )
            return await self._contracts.remember(contract)
        except (CallError, StoreError) as error:
            # The records are written, and the step has done its work; the next upsert finds no contract.
            log.warning("index_contract_not_kept", database=self._database, index=index, reason=str(error))
            return None

    async def _forget(self, index: str) -> None:
        self._recent.pop(index, None)
        try:
            await self._contracts.forget(self._database, index)
        except StoreError as error:
            raise self._unreadable(index, error) from error
        log.info("index_contract_forgotten", database=self._database, index=index)

    def _keep(self, contract: IndexContract) -> None:
        self._recent[contract.index] = (self._monotonic() + TRUST_SECONDS, contract)
        self._recent.move_to_end(contract.index)
        if len(self._recent) > MOST_INDEXES:
            self._recent.popitem(last=False)

    def _unreadable(self, index: str, error: StoreError) -> TemporaryError:
        return TemporaryError(
            "server_error",
            f"what index {index!r} of {self._database!r} holds cannot be looked up now ({error}); try again",
        )
