"""A revision that no release has, so that the way up from today's can be tried."""

from __future__ import annotations

from typing import Final

from app.stores.migrations.statements import execute

revision: Final = "4"
down_revision: Final = "3"

ADDED: Final = ("later",)


def upgrade() -> None:
    """Two statements, so that something lies between."""
    execute("CREATE TABLE later (id TEXT)")
    execute("CREATE INDEX later_ids ON later (id)")


def downgrade() -> None:
    """Take it back."""
    execute("DROP TABLE later")
