"""Vector databases by vendor, from the operator's configuration to adapters: a part of the composition root.

A vendor is its adapter and its config class (a frozen dataclass with `name`) in `app.providers`, or in
`app.stores` where it is spoken to in SQL, one builder here and one line in `VENDORS`; nothing else knows
its name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.configuration import DatabaseConfig
from app.ports.vectors import VectorStore
from app.providers.transport import Transport


async def _nothing_to_close() -> None:
    """Most adapters hold nothing of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One database of the configuration."""

    name: str
    vendor: str
    store: VectorStore
    aclose: Callable[[], Awaitable[None]] = _nothing_to_close


VENDORS: Final[Mapping[type[DatabaseConfig], Callable[[Any, Transport], Database]]] = {}
"""How a database is built, by the class of its config."""


def build_database(config: DatabaseConfig, transport: Transport) -> Database:
    """One database. Raises `ValueError` for a configuration that cannot work."""
    return VENDORS[type(config)](config, transport)
