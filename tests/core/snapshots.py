"""The whole of a run's state as plain values, to be compared: states themselves compare by identity."""

from __future__ import annotations

from collections import deque
from dataclasses import fields, is_dataclass
from typing import Any

from app.core.plan import Block, Node, Plan
from app.core.state import RunState, Scope


def snapshot(state: RunState, *, agenda: bool = True) -> dict[str, Any]:
    """Every field of the state and of what it holds. Without the agenda for a state whose commands were
    handed over, compared with one whose were not."""
    taken: dict[str, Any] = {}
    scopes: dict[str, Scope] = {}
    for item in fields(state):
        if item.name == "steps":
            taken["steps"] = {path: _plain(step, scopes) for path, step in state.steps.items()}
        elif item.name not in ("plan", "agenda"):
            taken[item.name] = _plain(getattr(state, item.name), scopes)
    if agenda:
        taken["agenda"] = list(state.agenda.items())
    taken["scopes"] = {prefix: _fields(scope, {}) for prefix, scope in tuple(scopes.items())}
    return taken


def _fields(record: Any, scopes: dict[str, Scope]) -> dict[str, Any]:
    return {item.name: _plain(getattr(record, item.name), scopes) for item in fields(record)}


def _plain(value: Any, scopes: dict[str, Scope]) -> Any:
    match value:
        case Scope():
            scopes[value.prefix] = value
            return ("scope", value.prefix)
        case Node() | Block() | Plan():
            return id(value)
        case dict():
            return [(key, _plain(item, scopes)) for key, item in value.items()]
        case list() | tuple() | deque():
            return [_plain(item, scopes) for item in value]
        case _ if is_dataclass(value) and type(value).__hash__ is object.__hash__:
            return _fields(value, scopes)
        case _:
            return value
