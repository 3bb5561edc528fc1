"""The steps of a stored document as their author wrote them, by their keys in the plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from app.steps.registry import CONTROL_KINDS

_STAGES: Final = (("steps", ""), ("on_failure", "on_failure."), ("finally", "finally."))
"""The blocks of a workflow, and what the keys of their steps begin with."""


def written_steps(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every step with its key, each before those within it. The document is one that was accepted."""
    for name, prefix in _STAGES:
        for step in document.get(name) or ():
            yield from _with_inner(prefix + step["id"], step)


def own_keys(step: Mapping[str, Any]) -> dict[str, Any]:
    """What is written at a step itself: all but the steps within it."""
    kind = CONTROL_KINDS.get(step["type"])
    if kind is None:
        return dict(step)
    holders = {place.split("/")[1] for body in kind.bodies(step) for place, _ in body.steps}
    return {key: value for key, value in step.items() if key not in holders}


def _with_inner(key: str, step: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield key, step
    kind = CONTROL_KINDS.get(step["type"])
    for body in kind.bodies(step) if kind is not None else ():
        within = f"{key}." if body.name is None else f"{key}[{body.name}]."
        for _, inner in body.steps:
            yield from _with_inner(within + inner["id"], inner)
