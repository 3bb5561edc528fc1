"""What an error of PostgreSQL or its driver means: the store is out of order, somebody else was faster, or
this one write cannot be stored.

Messages name the setting `store.url`, never what it holds.
"""

from __future__ import annotations

import ssl
from typing import Final

import asyncpg

from app.ports.errors import StoreError, StoreUnavailable

ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    ValueError,
    TypeError,
)
"""Everything that executing a statement can raise; the last ones come from values that cannot be sent.

The driver's internal error is what a connection raises that the server is ending in this very moment.
"""

_OUTAGES: Final = {
    "53100": "the disk of the database is full: free space there",
    "53300": "the database takes no more connections: raise its max_connections or lower store.pool_size",
    "57014": "a statement took longer than store.statement_timeout_seconds: the database is overloaded",
    "55P03": "the database is locked: end what else works on it",
    "25006": "the database is read-only: name the primary in store.url",
    "08": "the connection to the database broke: see whether it runs",
    "28": "the database refused the credentials of store.url: check its user and password",
    "3D": "the database that store.url names does not exist: create it",
    "3F": "the user of store.url has no schema to make tables in: make it the owner of the database",
    "42501": "the user of store.url may not do this: make it the owner of the database",
    "53": "the database is out of resources: see its log",
    "57": "the database is shutting down or starting: try again later",
    "58": "the database reports a system error: see its log",
    "XX": "the database reports an internal error: see its log",
}
"""By the beginning of the SQLSTATE; the longest one counts."""
_CONFLICTS: Final = frozenset({"40001", "40P01", "23505", "23503"})
"""Serialization failure, deadlock, unique and foreign keys: another process wrote at the same time."""
_BREAKS: Final = ("08", "57P")


def _state(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""


def is_conflict(error: BaseException) -> bool:
    """Whether the same write, decided upon anew, may go through or be refused for a reason."""
    return _state(error) in _CONFLICTS


def connection_is_lost(error: BaseException) -> bool:
    """Whether to go on with a new connection; what was under way may have been done or not."""
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        return False  # an argument that cannot be sent
    if isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return True
    return _state(error).startswith(_BREAKS)


def outage(error: BaseException) -> StoreUnavailable | None:
    """The outage behind an error; None when only the write itself is at fault."""
    state = _state(error)
    for length in (5, 2):
        if state[:length] in _OUTAGES:
            return StoreUnavailable(_OUTAGES[state[:length]])
    if (entrance := _entrance(error)) is not None:
        return StoreUnavailable(entrance)
    if isinstance(error, TimeoutError):
        return StoreUnavailable("the database does not answer: see whether the one in store.url runs")
    if connection_is_lost(error):
        return StoreUnavailable("the database cannot be reached: see whether the one in store.url runs")
    return None


def _entrance(error: BaseException) -> str | None:
    """What is wrong with TLS to the database, as the options of `store.url` have it."""
    if isinstance(error, ssl.SSLError):
        return f"TLS to the database failed ({error.reason}): see sslmode and sslrootcert in store.url"
    if isinstance(error, FileNotFoundError):
        return "a file that store.url names is not there: see sslrootcert, sslcert, sslkey, or the socket"
    if type(error) is ConnectionError:  # the driver's own, where the server declines
        return "the database takes no TLS connections: turn TLS on there, or see sslmode in store.url"
    return None


def busy() -> StoreUnavailable:
    """The refusal of a write that lost against others every time."""
    return StoreUnavailable("other processes keep writing the same rows: try again")


def unstorable(error: BaseException) -> StoreError:
    """The refusal of a write that PostgreSQL cannot hold. The driver's words quote what was written."""
    return StoreError(
        f"the write cannot be stored ({type(error).__name__}), and nothing of it was: PostgreSQL holds no "
        "numbers of more than 64 bits and no NUL in text"
    )
