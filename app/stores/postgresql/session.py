"""The one connection that writes: group commits, conflicts with other processes, outages.

Used by one thread at a time. A batch is one transaction. What another process did meanwhile shows as a
conflict of keys; then the batch is decided upon anew, by what the database says.

If the connection breaks while a commit is under way, nobody knows what became of it. The batch is then
looked for in the database before anything else is said about it: a write that is refused stored nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import structlog
from tenacity import (
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_delay,
    stop_never,
    wait_exponential_jitter,
)

from app.ports.errors import StoreError, StoreUnavailable
from app.ports.turns import SHORT_TURNS
from app.stores.postgresql.connection import Address, Connection
from app.stores.postgresql.faults import ERRORS, busy, connection_is_lost, is_conflict, outage, unstorable
from app.stores.sql import connections
from app.stores.sql.batch import Plan, Taken, ask_all, ask_last
from app.stores.sql.connections import Statements
from app.stores.sql.facts import Facts
from app.stores.sql.units import Append, Create, GroupUnit, Keep
from app.stores.sql.writer import SOLO_PAGES

T = TypeVar("T")

CONFLICTS: Final = 5
"""Times that a write is decided upon anew before the store counts as overloaded."""
RECONNECT_SECONDS: Final = 1.0
"""How long a write waits for a connection before it is refused."""
WRITING: Final[Mapping[str, str]] = {
    "synchronous_commit": "on",
    "idle_in_transaction_session_timeout": "60000",
}

log = structlog.get_logger(__name__)


class _CommitUnknown(Exception):
    """The connection broke while a commit was under way."""


class WriteSession:
    """`app.stores.sql.writer.WriteSession`. Connects when it needs to, and anew after an outage."""

    def __init__(self, address: Address, sql: Statements, *, keep_idempotency: float) -> None:
        self.unsure = False
        self._address = address
        self._sql = sql
        self._keep = keep_idempotency
        self._facts = Facts()
        self._connection: Connection | None = None
        self._given_up = threading.Event()

    def commit(self, units: Sequence[GroupUnit]) -> list[StoreError | None]:
        """Store them in one transaction; says for each unit why it was not stored, or None."""
        with SHORT_TURNS:  # each answer of the server waits for a turn
            return self._commit(units)

    def _commit(self, units: Sequence[GroupUnit]) -> list[StoreError | None]:
        try:
            return self._commit_trusting(units)
        except _CommitUnknown:
            return self._look(units)
        except ERRORS as error:
            if (failure := self._recover(error)) is not None:
                return [failure() for _ in units]
        return self._commit_anew(units)

    def run(
        self, action: Callable[[connections.Connection], T], *, pages: int = SOLO_PAGES, deletes: bool = False
    ) -> T:
        """Execute an action in a transaction of its own. Raises `StoreError`; then nothing was stored.

        The action may be executed again, where another process wrote at the same time. `deletes`: what is
        remembered of the database may be gone; `pages` does not matter here.
        """
        for _ in range(CONFLICTS):
            try:
                result = self._run(action)
            except StoreError:
                self._rollback()
                raise
            except ERRORS as error:
                if (failure := self._recover(error)) is not None:
                    raise failure() from error
                if not is_conflict(error):
                    raise unstorable(error) from error
            else:
                if deletes:
                    self._facts.forget()
                return result
        raise busy()

    def checkpoint_if_due(self) -> None:
        """Nothing: the server sees to its log."""

    def give_up(self) -> None:
        """Look no longer for what became of a commit; for a process that has to end. Any thread may ask."""
        self._given_up.set()

    def close(self) -> None:
        """Release the connection."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _commit_trusting(self, units: Sequence[GroupUnit]) -> list[StoreError | None]:
        connection = self._connected()
        plan = Plan(self._facts, Taken(), keep=self._keep)
        plan.add(units)
        if plan.doubtful:
            plan = Plan(self._facts, ask_last(connection, self._sql, plan.doubtful), keep=self._keep)
            plan.add(units)
        connection.begin()
        return self._write(connection, plan)

    def _commit_asking(self, units: Sequence[GroupUnit]) -> list[StoreError | None]:
        connection = self._connected()
        connection.begin()
        plan = Plan(self._facts, ask_all(connection, self._sql, units), keep=self._keep)
        plan.add(units)
        return self._write(connection, plan)

    def _write(self, connection: Connection, plan: Plan) -> list[StoreError | None]:
        for text, parameters in plan.statements(self._sql):
            connection.execute(text, parameters)
        _commit(connection)
        self._facts.learn(plan.last, plan.definitions, plan.finished())
        return plan.outcomes

    def _commit_anew(self, units: Sequence[GroupUnit]) -> list[StoreError | None]:
        """Something was not as remembered: ask, inside the transaction, before writing."""
        for _ in range(CONFLICTS):
            try:
                return self._commit_asking(units)
            except _CommitUnknown:
                return self._look(units)
            except ERRORS as error:
                if (failure := self._recover(error)) is not None:
                    return [failure() for _ in units]
                if is_conflict(error):
                    continue
                if len(units) == 1:
                    return [unstorable(error)]
            # One of them is beyond what PostgreSQL can hold: part it from the others.
            half = len(units) // 2
            return self.commit(units[:half]) + self.commit(units[half:])
        return [busy() for _ in units]

    def _run(self, action: Callable[[connections.Connection], T]) -> T:
        connection = self._connected()
        connection.begin()
        result = action(connection)
        transaction = connection.execute(self._sql["transaction_id"]).fetchone()[0]
        try:
            _commit(connection)
        except _CommitUnknown:
            if transaction is not None:
                self._find_out(transaction)
        return result

    # --- commits whose outcome is unknown -------------------------------------------------------------

    def _look(self, units: Sequence[GroupUnit]) -> list[StoreError | None]:
        """Say what became of a batch whose commit was cut off; what was not stored is stored now.

        The server may still be about to commit it. Then the same keys conflict, which waits for it and has
        us look again.
        """
        log.warning("store_commit_unknown", units=len(units))
        self.unsure = True
        try:
            while True:
                stored = self._persistently(lambda connection: self._stored(connection, units))
                rest = [unit for unit, is_there in zip(units, stored, strict=True) if not is_there]
                outcomes = iter(self._commit_anew(rest) if rest else ())
                found = [None if is_there else next(outcomes) for is_there in stored]
                if all(outcome is None for outcome in found):
                    return found
                if not any(isinstance(outcome, StoreUnavailable) for outcome in found):
                    # A refusal may be for the very write that was under way.
                    stored = self._persistently(lambda connection: self._stored(connection, units))
                    return [None if there else it for there, it in zip(stored, found, strict=True)]
        except _CommitUnknown:
            return [StoreUnavailable("the process ended before it knew what was stored") for _ in units]
        finally:
            self.unsure = False

    def _stored(self, connection: Connection, units: Sequence[GroupUnit]) -> list[bool]:
        """Whether the database holds them, told by one event of each."""
        events = [None if isinstance(unit, Keep) else _event_of(unit) for unit in units]
        parameters = [value for event in events if event is not None for value in (event.run_id, event.seq)]
        rows: list[Any] = []
        for text, values in self._sql.bulk["events_stored"].statements(parameters):
            rows += connection.execute(text, values).fetchall()
        there = {tuple(row) for row in rows}
        return [
            event is not None and (event.run_id, event.seq, event.type, event.payload, event.at) in there
            for event in events
        ]

    def _find_out(self, transaction: str) -> None:
        """Return if the transaction was committed. Raises `StoreUnavailable` if it was not."""
        log.warning("store_commit_unknown", transaction=transaction)
        text, parameters = self._sql["transaction_status"], {"transaction": transaction}
        self.unsure = True
        try:
            while True:
                status = self._persistently(
                    lambda connection: connection.execute(text, parameters).fetchone()[0]
                )
                if status == "committed":
                    return
                if status != "in progress":
                    raise StoreUnavailable("the database went away before it stored this: try again")
                self._given_up.wait(0.05)
        except _CommitUnknown:
            raise StoreUnavailable("the process ended before it knew what was stored") from None
        finally:
            self.unsure = False

    def _persistently(self, ask: Callable[[Connection], T]) -> T:
        """Ask until there is an answer. Raises `_CommitUnknown` when the process has to end first."""
        for attempt in Retrying(
            retry=retry_if_exception(lambda error: outage(error) is not None),
            wait=wait_exponential_jitter(multiplier=0.05, max=1.0, jitter=0.05),
            stop=stop_never,
            sleep=self._pause,
        ):
            with attempt:
                if self._given_up.is_set():
                    raise _CommitUnknown
                self.close()
                self._connection = self._new_connection()
                return ask(self._connection)
        raise _CommitUnknown

    def _pause(self, seconds: float) -> None:
        self._given_up.wait(seconds)

    # --- outages --------------------------------------------------------------------------------------

    def _new_connection(self) -> Connection:
        return Connection(self._address, **WRITING)

    def _connected(self) -> Connection:
        if self._connection is None:
            for attempt in Retrying(
                retry=retry_if_exception_type(ERRORS),
                wait=wait_exponential_jitter(multiplier=0.05, max=0.5, jitter=0.05),
                stop=stop_after_delay(RECONNECT_SECONDS),
                reraise=True,
            ):
                with attempt:
                    self._connection = self._new_connection()
        assert self._connection is not None  # noqa: S101  or it raised
        return self._connection

    def _recover(self, error: BaseException) -> Callable[[], StoreUnavailable] | None:
        """Get ready for the next write; returns how to tell of the outage, None when it is none."""
        self._facts.forget()
        if connection_is_lost(error):
            self.close()
        else:
            self._rollback()
        failure = outage(error)
        if failure is None:
            return None
        log.error("store_refuses_writes", reason=str(failure), error=type(error).__name__)
        return lambda: StoreUnavailable(str(failure))

    def _rollback(self) -> None:
        if self._connection is not None:
            try:
                self._connection.rollback()
            except ERRORS:
                self.close()


def _commit(connection: Connection) -> None:
    try:
        connection.commit()
    except ERRORS as error:
        if connection_is_lost(error):
            raise _CommitUnknown from error
        raise


def _event_of(unit: Append | Create) -> Any:
    """The event by which a unit is recognised; None for a run that came without any."""
    events = unit.rows if isinstance(unit, Append) else unit.events
    return events[-1] if events else None
