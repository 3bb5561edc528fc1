"""The one connection that writes: group commits, faults, healing and checkpoints.

Used by one thread at a time and free of asyncio. Versions of SQLite before 3.51.3 can corrupt a database
when one connection checkpoints in the very moment another writes; so this connection never checkpoints
by itself while committing (`wal_autocheckpoint=0`), and does it in a mode that holds the write lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import structlog

from app.ports.errors import StoreError, StoreUnavailable
from app.stores.sql.batch import Plan, Taken, ask_all, ask_last
from app.stores.sql.facts import Facts
from app.stores.sql.faults import WRITE_ERRORS, connection_is_stale, outage, unstorable
from app.stores.sql.schema import BUSY_MILLISECONDS, connect_writer
from app.stores.sql.text import Sql
from app.stores.sql.units import GroupUnit
from app.stores.sql.writer import SOLO_PAGES

T = TypeVar("T")

CHECKPOINT_PAGES: Final = 4000
"""About 16 MiB of write-ahead log between two checkpoints."""
CHECKPOINT_WAIT_MILLISECONDS: Final = 50
"""How long a checkpoint waits for readers; one that fails is tried again after as many pages more."""

log = structlog.get_logger(__name__)


class WriteSession:
    """Opens its connection when it needs one, and replaces it after an error that spoils it."""

    def __init__(self, path: Path, sql: Sql, *, keep_idempotency: float) -> None:
        self._path = path
        self._sql = sql
        self._keep = keep_idempotency
        self._facts = Facts()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        """Device and inode of the database that was opened; see `opened`."""
        self._pages = 0
        self.unsure = False
        """Never: a commit to a file was made or was not."""

    def opened(self) -> None:
        """From here on the file that is there now is the database, and no other."""
        self._file = _identity(self._path)

    def commit(self, units: Sequence[GroupUnit]) -> list[StoreError | None]:
        """Store them in one transaction; says for each unit why it was not stored, or None."""
        try:
            self._require_file()
        except StoreUnavailable as error:
            return [error for _ in units]
        return self._commit(units)

    def _commit(self, units: Sequence[GroupUnit]) -> list[StoreError | None]:
        try:
            return self._commit_trusting(units)
        except WRITE_ERRORS as error:
            if (failure := self._recover(error)) is not None:
                return [failure() for _ in units]
        # Something was not as remembered: ask, inside the transaction, before writing.
        try:
            return self._commit_asking(units)
        except WRITE_ERRORS as error:
            if (failure := self._recover(error)) is not None:
                return [failure() for _ in units]
            if len(units) == 1:
                return [unstorable(error)]
        # One of them is beyond what SQLite can hold: part it from the others.
        half = len(units) // 2
        return self._commit(units[:half]) + self._commit(units[half:])

    def run(
        self, action: Callable[[sqlite3.Connection], T], *, pages: int = SOLO_PAGES, deletes: bool = False
    ) -> T:
        """Execute an action in a transaction of its own. Raises `StoreError`; then nothing was stored.

        `pages` is about what it writes; `deletes`: what is remembered of the database may be gone.
        """
        try:
            self._require_file()
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            result = action(connection)
            connection.commit()
        except StoreError:
            self._rollback()
            raise
        except WRITE_ERRORS as error:
            failure = self._recover(error)
            raise (unstorable(error) if failure is None else failure()) from error
        self._pages += pages
        if deletes:
            self._facts.forget()
        return result

    def checkpoint_if_due(self) -> None:
        """Move the write-ahead log into the database once it is long enough."""
        if self._pages < CHECKPOINT_PAGES or self._connection is None:
            return
        self._pages = 0
        try:
            self._connection.execute(f"PRAGMA busy_timeout={CHECKPOINT_WAIT_MILLISECONDS}")
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            self._connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        except sqlite3.Error as error:
            # The log keeps everything; what could not be moved now is moved later.
            log.warning("checkpoint_failed", error=str(error))
            self._recover(error)

    def close(self) -> None:
        """Release the connection; SQLite folds the write-ahead log in if no other process is left."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            try:
                connection.close()
            except sqlite3.Error as error:
                log.warning("close_failed", error=str(error))

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect_writer(self._path)
        return self._connection

    def _require_file(self) -> None:
        """Raise `StoreUnavailable` where the file has another name by now, or none: what is written to it
        would be gone with this process."""
        if self._file is not None and _identity(self._path) != self._file:
            reason = (
                "the database was removed from data_dir or replaced while the service runs: put it back, or "
                "start the service again to go on with what is there"
            )
            log.error("store_refuses_writes", reason=reason)
            raise StoreUnavailable(reason)

    def _commit_trusting(self, units: Sequence[GroupUnit]) -> list[StoreError | None]:
        connection = self._connected()
        plan = Plan(self._facts, Taken(), keep=self._keep)
        plan.add(units)
        if plan.doubtful:
            taken = ask_last(connection, self._sql, plan.doubtful)
            plan = Plan(self._facts, taken, keep=self._keep)
            plan.add(units)
        statements = plan.statements(self._sql)
        if len(statements) > 1:
            connection.execute("BEGIN IMMEDIATE")
        # A lone statement is a transaction by itself, at a third of the round trips.
        for text, parameters in statements:
            connection.execute(text, parameters)
        if len(statements) > 1:
            connection.commit()
        return self._committed(plan)

    def _commit_asking(self, units: Sequence[GroupUnit]) -> list[StoreError | None]:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        plan = Plan(self._facts, ask_all(connection, self._sql, units), keep=self._keep)
        plan.add(units)
        for text, parameters in plan.statements(self._sql):
            connection.execute(text, parameters)
        connection.commit()
        return self._committed(plan)

    def _committed(self, plan: Plan) -> list[StoreError | None]:
        self._facts.learn(plan.last, plan.definitions, plan.finished())
        self._pages += plan.pages
        return plan.outcomes

    def _recover(self, error: BaseException) -> Callable[[], StoreUnavailable] | None:
        """Get ready for the next write; returns how to tell of the outage, None when it is none."""
        self._facts.forget()
        self._rollback()
        failure = outage(error)
        if failure is None:
            return None
        if connection_is_stale(error):
            self.close()
        log.error("store_refuses_writes", reason=str(failure), error=str(error))
        return lambda: StoreUnavailable(str(failure))

    def _rollback(self) -> None:
        if self._connection is not None:
            try:
                self._connection.rollback()
            except sqlite3.Error:
                self.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; None where there is no such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
