"""What the views of the SQL stores ask of a database: `sqlite3` has it by itself, other drivers are adapted.

Parameters go by the names in a statement, or by position. All of it is called on threads that may block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Row = Sequence[Any]


class Result(Protocol):
    """What a statement brought."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    def fetchone(self) -> Any:
        """The next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        ...


class Connection(Protocol):
    """A connection that is in one thread's hands."""

    def execute(self, text: str, parameters: Any = ..., /) -> Result:
        """Execute one statement."""
        ...

    def commit(self) -> None:
        """End the transaction that is open."""
        ...


class BulkStatement(Protocol):
    """A statement for any number of rows."""

    def statements(self, parameters: list[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
        """Texts with their parameters, out of the parameters of whole rows one after the other."""
        ...


class Statements(Protocol):
    """All statements of a database, by name."""

    @property
    def bulk(self) -> Mapping[str, BulkStatement]:
        """Those that write many rows."""
        ...

    def __getitem__(self, name: str) -> str:
        """The text of another one."""
        ...


class Readers(Protocol):
    """Reads that never wait for writes. All raise `StoreError`."""

    async def run(self, action: Callable[[Connection], T], /) -> T:
        """Execute an action on a connection that holds no transaction."""
        ...

    async def rows(self, text: str, parameters: Mapping[str, Any], /) -> list[Any]:
        """All rows of one statement."""
        ...

    async def row(self, text: str, parameters: Mapping[str, Any], /) -> Any:
        """The first row of one statement, or None."""
        ...
