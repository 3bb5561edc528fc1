"""What the writer is asked to store: each unit is stored whole or not at all, whatever goes out with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.ports.errors import AlreadyExists
from app.ports.runs import Definition, IdempotencyRecord, JournalRow, RunRow, StatusChange
from app.ports.webhooks import Endpoint
from app.stores.sql.connections import Connection


@dataclass(frozen=True, slots=True, eq=False)
class Append:
    """At least one event of one run, and what becomes of its row. Joins a group commit."""

    rows: Sequence[JournalRow]
    change: StatusChange | None


@dataclass(frozen=True, slots=True, eq=False)
class Create:
    """A run with what belongs to it. Joins a group commit."""

    run: RunRow
    events: Sequence[JournalRow]
    definition: Definition
    idempotency: IdempotencyRecord | None
    change: StatusChange | None = None
    webhook: Endpoint | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Keep:
    """A small entry of the step cache, in place of an earlier one. Joins a group commit."""

    tenant: str
    key: str
    value: bytes
    expires_at: float


@dataclass(frozen=True, slots=True, eq=False)
class Solo:
    """A rare write that gets a transaction of its own; its result is the caller's answer."""

    action: Callable[[Connection], Any]
    pages: int
    """About how much the write-ahead log grows by it."""
    deletes: bool
    """Runs or definitions may be gone after it."""


GroupUnit = Append | Create | Keep
Unit = GroupUnit | Solo


def run_exists(run_id: str) -> AlreadyExists:
    """The refusal of a second run with the same id."""
    return AlreadyExists(f"run {run_id!r} exists already: give a new run a new id")


def key_exists(key: str) -> AlreadyExists:
    """The refusal of a second answer under the same key."""
    return AlreadyExists(f"idempotency key {key!r} is taken: read the answer kept under it")
