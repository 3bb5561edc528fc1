"""Whose run it is."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from uuid import UUID

from app.ports.records import record


@record
class RunIdentity:
    """A run's place in the world, for calls, logs and the runs it calls. Immutable for its lifetime."""

    run_id: str
    tenant: str
    workflow: str
    labels: Mapping[str, str]
    priority: int = 0
    depth: int = 0
    """How many runs call each other down to this one."""
    caller: str | None = None
    """The run whose `workflow` step waits for this one."""
    awaited_by: tuple[str, ...] = ()
    """Runs that cannot end before this one has: its caller if that waits, that one's caller, and so on."""
    concurrency_key: str | None = None
    """What it shares its workflow's concurrency limit with."""


def derived_id(run_id: str, path: str) -> str:
    """An id for what a step instance brings into being (a run, an approval): the same after every crash.

    A UUIDv7 (RFC 9562) with the time of the run's own id, so that ids sort by age, and a hash for the rest.
    """
    digest = blake2b(f"{run_id}\0{path}".encode(), digest_size=16).digest()
    value = int.from_bytes(digest, "big") & ~(0xFFFF_FFFF_FFFF << 80)
    value |= _milliseconds(run_id) << 80
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


def _milliseconds(run_id: str) -> int:
    try:
        return UUID(run_id).int >> 80
    except ValueError:
        return 0  # ids of tests and tools need not be UUIDs
