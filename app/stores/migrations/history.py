"""The versions that a database has had: what each one added, and the way from one to another.

Alembic and SQLAlchemy are imported from here on: by whoever migrates, never by a service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from app.ports.errors import OrchestratorError, StoreError

Database: TypeAlias = Literal["sqlite", "postgresql"]

NOTHING: Final = 0
"""The version of an empty database, below the first one."""
_PLACE: Final = "app.stores:migrations"
"""As a package's resource: a path would have to be quoted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One version. `added` names tables, and columns as `table.column`, that the one before lacks."""

    version: int
    summary: str
    added: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a database stands. `found` is None while it is empty; `pending` lead from there to `wanted`."""

    found: int | None
    wanted: int
    pending: Sequence[Revision]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """The versions before and after; None before: it was empty, and its tables were made."""

    before: int | None
    after: int


class WouldLose(OrchestratorError):
    """Going down was not agreed to. `losses`: what would be gone, a line each."""

    def __init__(self, losses: Sequence[str]) -> None:
        super().__init__("going down drops what the earlier version does not know")
        self.losses = losses


class History:
    """The history of one kind of database. `further`: more folders of revisions, as `package:folder`."""

    def __init__(self, database: Database, *further: str) -> None:
        self._config = Config()
        self._config.set_main_option("script_location", _PLACE)
        self._config.set_main_option("path_separator", "space")
        self._config.set_main_option(
            "version_locations", " ".join([f"{_PLACE}:versions:{database}", *further])
        )
        scripts = ScriptDirectory.from_config(self._config)
        self.revisions: Final[Sequence[Revision]] = [
            Revision(version=int(it.revision), summary=it.doc, added=it.module.ADDED)
            for it in reversed(list(scripts.walk_revisions()))
        ]
        """The first one first."""

    @property
    def head(self) -> int:
        """This release's version."""
        return self.revisions[-1].version

    def standing(self, found: int | None) -> Standing:
        """Where a database of this version stands."""
        pending = [] if found is None else self._between(found, self.head)
        return Standing(found=found, wanted=self.head, pending=pending)

    def target(self, to: int | None, found: int | None) -> int:
        """The version to go to, the newest by default.

        Raises `StoreError` for one that this release does not know, or that an empty database cannot go to.
        """
        target = self.head if to is None else to
        known = [NOTHING, *(it.version for it in self.revisions)]
        if target not in known:
            raise StoreError(
                f"there is no schema version {target!r} for this database: name one of {known!r} with --to"
            )
        if found is None and target != self.head:
            raise StoreError(
                f"the database is empty, there is nothing to bring to schema version {target!r}: "
                "leave --to away, and the tables of this release are made"
            )
        return target

    def migrate(self, connection: Connection, found: int, target: int, *, agreed: bool) -> Migrated:
        """From one version to another, each revision a transaction; the connection must be in none.

        Raises `WouldLose` where that goes down and was not `agreed` to; then nothing was changed.
        """
        self._config.attributes["connection"] = connection
        if target > found:
            command.upgrade(self._config, str(target))
        elif target < found:
            if not agreed:
                raise WouldLose(self._losses(connection, found, target))
            command.downgrade(self._config, "base" if target == NOTHING else str(target))
        return Migrated(before=found, after=target)

    def _between(self, lower: int, upper: int) -> Sequence[Revision]:
        return [it for it in self.revisions if lower < it.version <= upper]

    def _losses(self, connection: Connection, found: int, target: int) -> Sequence[str]:
        added = [name for it in self._between(target, found) for name in it.added]
        return [_loss(connection, name) for name in sorted(added)]


def _loss(connection: Connection, name: str) -> str:
    table, _, column = name.partition(".")
    count = f"SELECT count({column or '*'}) FROM {table}"  # noqa: S608  names of ours
    number = connection.exec_driver_sql(count).scalar_one()
    return f"{name}: {number} {'values' if column else 'rows'}"
