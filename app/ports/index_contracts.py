"""What an index of a vector database is known to hold, and whether vectors go with that.

Vectors can be compared if one model made them and they have one length: an index that holds those of two
models answers, and what it answers means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from app.ports.vectors import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexContract:
    """What the first upsert made of an index."""

    database: str
    """The configured name of the database."""
    index: str
    model: str | None
    """The embedding model; None where the first vectors came without its name."""
    dimensions: int
    metric: Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """Vectors that are about to be written or to be searched for."""

    dimensions: int | None
    """None where their length is not known yet."""
    model: str | None
    """None where nobody says which model made them."""

    @property
    def spelled(self) -> str:
        """As messages speak of them: `by 'm' with 256 dimensions`."""
        by = "" if self.model is None else f"by {self.model!r} "
        return f"{by}with {self.dimensions} dimensions" if self.dimensions is not None else by.rstrip()


def fits(contract: IndexContract | Offered, offered: Offered) -> bool:
    """Whether vectors go with those of an index, as far as both are known."""
    same_length = None in (contract.dimensions, offered.dimensions) or (
        contract.dimensions == offered.dimensions
    )
    return same_length and (None in (contract.model, offered.model) or contract.model == offered.model)


def breach(contract: IndexContract, offered: Offered, *, query: bool) -> str:
    """What to tell of vectors that do not fit: of a query, or of such as are to be written."""
    of = "" if contract.model is None else f"of {contract.model!r} "
    these, them = ("this query was", "it") if query else ("these vectors were", "them")
    return (
        f"index {contract.index!r} of {contract.database!r} holds vectors {of}with {contract.dimensions} "
        f"dimensions; {these} made {offered.spelled}: embed {them} with the same model, or use another index"
    )


class IndexContracts(Protocol):
    """The contracts of all databases. Raises `StoreError` only."""

    async def get(self, database: str, index: str) -> IndexContract | None:
        """What is remembered of an index."""
        ...

    async def remember(self, contract: IndexContract) -> IndexContract:
        """Keep it unless there is one already; returns the one that is kept, whoever was first."""
        ...

    async def forget(self, database: str, index: str) -> None:
        """Remember nothing of an index any more; harmless where nothing was."""
        ...
