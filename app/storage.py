"""Where a service keeps its runs: the store that the settings name, and its executor lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.ports.lock import ExecutorLock
from app.ports.peers import Peers
from app.ports.runs import Store
from app.settings import Settings
from app.stores.file_lock import FileLock
from app.stores.socket_peers import SocketPeers
from app.stores.sql.sqlite import SqliteStore
from app.stores.sql.writer import CommitObserver

if TYPE_CHECKING:
    from app.stores.postgresql.transfer import Transferred

NO_DRIVER = "store.url needs the driver of PostgreSQL: install llm-orchestrator[postgresql]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A store, not open yet, what decides who executes its runs, and who else is there."""

    store: Store
    lock: ExecutorLock
    peers: Peers


def make_storage(
    settings: Settings, *, observer: CommitObserver, now: Callable[[], float], heard: Callable[[], None]
) -> Storage:
    """The storage of the settings. `heard` is called when another process may have stored something to do.

    Raises `ValueError` where the driver is missing.
    """
    url = settings.store.url
    if url is None:
        return Storage(
            store=SqliteStore(settings.data_dir, observer=observer, now=now),
            lock=FileLock(settings.data_dir),
            peers=SocketPeers(settings.data_dir),
        )
    try:
        # Optional: the extra `postgresql`.
        from app.stores.postgresql.connection import Address  # noqa: PLC0415 - optional
        from app.stores.postgresql.lock import AdvisoryLock  # noqa: PLC0415 - optional
        from app.stores.postgresql.news import News  # noqa: PLC0415 - optional
        from app.stores.postgresql.peers import PostgresPeers  # noqa: PLC0415 - optional
        from app.stores.postgresql.store import PostgresStore  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ValueError(NO_DRIVER) from error
    address = Address(
        url=url.get_secret_value(), statement_timeout_seconds=settings.store.statement_timeout_seconds
    )
    news = News(address, heard)
    store = PostgresStore(address, observer=observer, now=now, readers=settings.store.pool_size, news=news)
    return Storage(store=store, lock=AdvisoryLock(address), peers=PostgresPeers(news))


async def transfer(settings: Settings) -> Sequence[Transferred]:
    """Copy what the SQLite store in `data_dir` holds into the database of `store.url`, which is up to date.

    Raises `ValueError` where there is no such database or no driver, `StoreError` with what to do.
    """
    url = settings.store.url
    if url is None:
        raise ValueError("store.url is not set: name the PostgreSQL database to copy to")
    try:
        from app.stores.postgresql.connection import Address  # noqa: PLC0415 - optional, as above
        from app.stores.postgresql.transfer import transfer as transfer_store  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ValueError(NO_DRIVER) from error
    return await transfer_store(settings.data_dir, Address(url=url.get_secret_value()))
