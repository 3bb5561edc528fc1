"""What the revisions are written with: SQL as it is, and no model of it that changes with today's tables."""

from __future__ import annotations

from alembic import op


def execute(text: str) -> None:
    """Execute statements; each ends with a semicolon at the end of a line, the last one without."""
    for statement in text.split(";\n"):
        op.execute(statement)


def execute_whole(statement: str) -> None:
    """Execute one statement that has semicolons in it."""
    op.execute(statement)
