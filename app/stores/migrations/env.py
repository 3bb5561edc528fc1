"""The environment in which Alembic executes revisions, on the connection that `history` hands over.

Alembic executes this file, nobody imports it. Each revision is one transaction together with the version
that it leads to. Below the first one nothing is left, the table of the version included: such a database is
an empty one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

from app.stores.migrations.version_table import VERSION_TABLE


def leave_nothing(
    ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]
) -> None:
    """Drop the table of the version with the last revision."""
    if not heads:
        ctx.execute(f"DROP TABLE {VERSION_TABLE}")


context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    transaction_per_migration=True,
    on_version_apply=leave_nothing,
)
with context.begin_transaction():
    context.run_migrations()
