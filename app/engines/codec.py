"""Events to journal rows and back.

A row's payload is a JSON object: the event's fields but `at` (a column of its own), and under `data`
what travels beside the event (inputs, outputs, billing).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final, get_args

import orjson

from app.core import events as e
from app.ports.buffers import trimmed
from app.ports.runs import JournalRow

_TYPES: Final[Mapping[str, type[e.Event]]] = {kind.__name__: kind for kind in get_args(e.Event)}
_FIELDS: Final[Mapping[type[e.Event], tuple[str, ...]]] = {
    kind: tuple(field.name for field in fields(kind) if field.name != "at") for kind in get_args(e.Event)
}


def encode(
    run_id: str,
    seq: int,
    event: e.Event,
    data: Mapping[str, Any] | None = None,
    encoded: bytes | None = None,
) -> JournalRow:
    """One row; `encoded` is the JSON of `data` where it is known. Raises `TypeError` if it is none."""
    kind = type(event)
    payload: dict[str, Any] = {name: getattr(event, name) for name in _FIELDS[kind]}
    if encoded is not None:
        payload["data"] = orjson.Fragment(encoded)
    elif data is not None:
        payload["data"] = data
    body = trimmed(orjson.dumps(payload))
    return JournalRow(run_id=run_id, seq=seq, type=kind.__name__, payload=body, at=event.at)


def decode(row: JournalRow) -> tuple[e.Event, Mapping[str, Any] | None]:
    """The event and what travels beside it. Raises `ValueError` for a type this version does not know."""
    kind = _TYPES.get(row.type)
    if kind is None:
        raise ValueError(f"event {row.seq} of run {row.run_id!r} has the unknown type {row.type!r}")
    payload: dict[str, Any] = orjson.loads(row.payload)
    data = payload.pop("data", None)
    failure = payload.get("failure")
    if failure is not None:
        payload["failure"] = e.Failure(**failure)
    return kind(at=row.at, **payload), data
