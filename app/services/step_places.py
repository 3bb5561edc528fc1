"""Where a path leads in a run: to a step instance, or to a step that its definition has and the run has not.

`each[3].route.say` is a step; `each[3]` and `route` are also places that hold steps. A path that cannot
come to be in this run (no such step, no such item) is `StepNotFound`, with what was probably meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.core.plan import Block, Branch, Loop, Map, Node, Plan, blocks_of
from app.core.state import Stage, StepState
from app.dsl.spelling import Speller
from app.engines.history import History
from app.services.errors import StepNotFound

MOST_NAMES: Final = 5_000
LONGEST_SHOWN: Final = 200
"""Characters of an unknown path that are said back."""
_SEGMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_-]{0,63})(?:\[(0|[1-9][0-9]{0,8})\])?")

Segment = tuple[str, int | None]
"""A step's id, and the number of an item or iteration of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in a run."""

    path: str
    node: Node
    """The step; of `each[3]` the one that the items belong to."""
    index: int | None
    """Set for an item or iteration, which is no step."""
    stage: Stage
    step: StepState | None
    """The instance, where there is one."""
    around: StepState | None
    """Where there is none: the innermost step around it that is there."""
    cases: tuple[str | None, ...] = ()
    """If `around` is a branch: the cases that the path may belong to."""
    inner_index: int | None = None
    """If `around` is a map or a loop: the item or iteration that the path belongs to."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    node: Node
    case: str | None = None


def find_place(history: History, path: str) -> Place:
    """Where a path leads. Raises `StepNotFound`."""
    segments = _segments(path)
    if segments is None:
        raise _unknown(history, path, None)
    return _Walk(history, path).to(segments)


def find_step(history: History, path: str) -> Place:
    """Where the path of a step leads. Raises `StepNotFound`, also for an item or iteration."""
    place = find_place(history, path)
    if place.index is not None:
        block = blocks_of(place.node.control)[0]
        hint = f"ask for a step within it, such as {f'{path}.{block.nodes[0].id}'!r}"
        raise StepNotFound(history.state.run_id, path, hint=hint)
    return place


class _Walk:
    """One way from the top to a place."""

    def __init__(self, history: History, path: str) -> None:
        self._history = history
        self._path = path
        self._around: StepState | None = None
        self._cases: tuple[str | None, ...] = ()
        self._inner_index: int | None = None

    def to(self, segments: Sequence[Segment]) -> Place:
        stage, block = _stage(self._history.state.plan, segments)
        rest = segments if stage == "main" else segments[1:]
        prefix = "" if stage == "main" else f"{stage}."
        candidates = [_Candidate(node) for node in block.nodes]
        for position, (name, index) in enumerate(rest):
            last = position == len(rest) - 1
            candidates = self._named(candidates, prefix, name, index, last=last)
            path = prefix + name
            step = self._history.state.steps.get(path)
            if step is not None:
                candidates = [one for one in candidates if one.node is step.node]
                if not candidates:  # the case that was not taken has another step of that name
                    raise _unknown(self._history, self._path, None)
            self._follow(step, candidates, index)
            if step is not None and index is not None:
                self._check_index(step, index)
            if last:
                node = candidates[0].node if step is None else step.node
                return self._place(stage, node, step, index)
            prefix = f"{path}." if index is None else f"{path}[{index}]."
            candidates = [inner for one in candidates for inner in _within(one.node)]
        raise _unknown(self._history, self._path, None)

    def _named(
        self, candidates: Sequence[_Candidate], prefix: str, name: str, index: int | None, *, last: bool
    ) -> list[_Candidate]:
        """Those of a name that can have such an index."""
        named = [one for one in candidates if one.node.id == name]
        if not named:
            ids = dict.fromkeys(one.node.id for one in candidates)
            near = Speller(MOST_NAMES).nearest(name, list(ids))
            listed = [prefix + one for one in ([near] if near else list(ids)[:8])]
            raise _unknown(self._history, self._path, listed if near or len(ids) <= len(listed) else None)
        fitting = [one for one in named if _fits(one.node, index, last=last)]
        if not fitting:
            raise _unknown(self._history, self._path, [_indexed(named[0].node, prefix + name, index)])
        return fitting

    def _follow(self, step: StepState | None, candidates: Sequence[_Candidate], index: int | None) -> None:
        """Remember the innermost step that is there, and which way leads on from it."""
        if step is not None:
            self._around, self._cases, self._inner_index = step, (), index
        elif self._around is not None and not self._cases and isinstance(self._around.node.control, Branch):
            self._cases = tuple(one.case for one in candidates)

    def _check_index(self, step: StepState, index: int) -> None:
        """Refuse items past the end of a list that is known, and iterations past the most."""
        count: int | None = None
        match step.node.control:
            case Map() if (entered := self._history.steps.get(step.path)) and entered.entered is not None:
                count = 0 if step.control is None else step.control.count
                what = f"{step.path!r} has {count} items"
            case Loop(max_iterations=most):
                count, what = most, f"{step.path!r} has at most {most} iterations"
        if count is not None and index >= count:
            counted = f"{what}, counted from 0"
            raise StepNotFound(self._history.state.run_id, self._path[:LONGEST_SHOWN], hint=counted)

    def _place(self, stage: Stage, node: Node, step: StepState | None, index: int | None) -> Place:
        return Place(
            path=self._path,
            node=node,
            index=index,
            stage=stage,
            step=step,
            around=None if step is not None else self._around,
            cases=self._cases,
            inner_index=self._inner_index,
        )


def _segments(path: str) -> list[Segment] | None:
    found: list[Segment] = []
    for part in path.split("."):
        match = _SEGMENT.fullmatch(part)
        if match is None:
            return None
        found.append((match[1], None if match[2] is None else int(match[2])))
    return found


def _stage(plan: Plan, segments: Sequence[Segment]) -> tuple[Stage, Block]:
    """The stage that a path begins in; a step of the workflow itself wins over a stage of its name."""
    first = segments[0][0]
    if len(segments) > 1 and first not in plan.main.by_id:
        if first == "on_failure" and plan.on_failure is not None:
            return "on_failure", plan.on_failure
        if first == "finally" and plan.finally_ is not None:
            return "finally", plan.finally_
    return "main", plan.main


def _within(node: Node) -> list[_Candidate]:
    """The steps of a step's blocks, each with its case."""
    match node.control:
        case Branch(cases=cases, default=default):
            blocks = [*cases.items(), *([] if default is None else [(None, default)])]
            return [_Candidate(inner, case) for case, block in blocks for inner in block.nodes]
        case control:
            return [_Candidate(inner) for block in blocks_of(control) for inner in block.nodes]


def _fits(node: Node, index: int | None, *, last: bool) -> bool:
    repeats = isinstance(node.control, (Map, Loop))
    return (repeats or index is None) and (last or not repeats or index is not None)


def _indexed(node: Node, path: str, index: int | None) -> str:
    """How a path goes on from a step that was named with an index too many, or too few."""
    return path if index is not None else f"{path}[0].{blocks_of(node.control)[0].nodes[0].id}"


def _unknown(history: History, path: str, meant: Sequence[str] | None) -> StepNotFound:
    run_id = history.state.run_id
    if meant and len(meant) == 1:
        return StepNotFound(run_id, path[:LONGEST_SHOWN], hint=f"did you mean {meant[0]!r}?")
    if meant:
        return StepNotFound(
            run_id, path[:LONGEST_SHOWN], hint="there are " + ", ".join(repr(one) for one in meant)
        )
    return StepNotFound(run_id, path[:LONGEST_SHOWN])
