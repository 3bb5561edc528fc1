"""The schema of the store that the settings name: where it stands, and the way to another version.

Imports Alembic and SQLAlchemy, which no service needs: only `migrate` imports this.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.settings import Settings
from app.storage import NO_DRIVER
from app.stores.migrations import sqlite
from app.stores.migrations.history import History, Migrated, Standing

if TYPE_CHECKING:
    from app.stores.postgresql.connection import Address


async def standing(settings: Settings) -> Standing:
    """Which schema version the store has, and what leads to this release's.

    Raises `ValueError` where the driver is missing, `StoreError` with what to do.
    """
    if settings.store.url is None:
        return await asyncio.to_thread(sqlite.standing, settings.data_dir, History("sqlite"))
    address = _address(settings.store.url.get_secret_value())
    from app.stores.migrations import postgresql  # noqa: PLC0415  an optional package

    return await postgresql.standing(address, History("postgresql"))


async def migrate(settings: Settings, *, to: int | None = None, agreed: bool = False) -> Migrated:
    """Bring the store to a schema version, this release's by default; make it where there is none.

    Raises `ValueError` where the driver is missing, `WouldLose` for a way down that was not `agreed` to,
    `StoreError` with what to do.
    """
    if settings.store.url is None:
        return await sqlite.migrate(settings.data_dir, History("sqlite"), to=to, agreed=agreed)
    address = _address(settings.store.url.get_secret_value())
    from app.stores.migrations import postgresql  # noqa: PLC0415  as above

    return await postgresql.migrate(address, History("postgresql"), to=to, agreed=agreed)


def _address(url: str) -> Address:
    try:
        from app.stores.postgresql.connection import Address  # noqa: PLC0415  as above
    except ImportError as error:
        raise ValueError(NO_DRIVER) from error
    return Address(url=url)
