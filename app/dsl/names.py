"""The names that templates of a block may use: its own steps, those around it, and what is bound there."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from app.dsl.drafts import BodyDraft, Draft
from app.dsl.inputs import Inputs
from app.dsl.naming import OutputNames
from app.steps.control import Names

RUN: Final[Names] = {"id": None, "workflow": None, "version": None}
RUN_THAT_ENDED: Final[Names] = {
    **RUN,
    "status": None,
    "error": {"path": None, "class": None, "message": None},
}
"""What `on_failure` and `finally` know of the run besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """Where a step stands that is within another."""

    block: str
    """The key of the control step that it is directly within, or `on_failure` or `finally`."""
    owner: str | None
    """The id of that control step."""
    reading: tuple[str, ...]
    """What follows `steps.` to read the step from outside of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSteps:
    """The names of one block. Satisfies `app.steps.kind.Scope`.

    Names of this block win over those around it, except that a step wins over an output.
    """

    inputs: frozenset[str]
    """Declared inputs."""
    inputs_closed: bool
    """Whether no other input can be meant."""
    names: ChainMap[str, OutputNames]
    """The outputs of each step that can be read here."""
    steps: ChainMap[str, tuple[str, ...]]
    """Step ids, each with its output names."""
    givers: ChainMap[str, Sequence[str]]
    """Names that authors gave to outputs → the steps that have them."""
    position: Mapping[str, int]
    """The steps of this block, each with its place in it."""
    bound: Names
    """Root names besides the usual ones, with what is known to follow them."""
    inner: Mapping[str, Sequence[Inner]]
    """Every step of the document that is within another, by id."""
    around: NamedSteps | None = None
    owner: str | None = None
    """The step around this block."""
    block: str = "steps"
    """How the block is called in messages."""

    def level(self, step: str) -> int | None:
        """How many blocks further out a step stands; None for one that cannot be read here."""
        for level, scope in enumerate(self.outwards()):
            if step in scope.position:
                return level
        return None

    def outwards(self) -> Iterator[NamedSteps]:
        """This block, and those around it."""
        scope: NamedSteps | None = self
        while scope is not None:
            yield scope
            scope = scope.around

    def is_within(self, step: str) -> bool:
        """Whether this block is within that step."""
        return any(scope.owner == step for scope in self.outwards())

    def within(self, body: Mapping[str, Draft], *, bound: Names, owner: str | None, block: str) -> NamedSteps:
        """The names of a block within this one."""
        own = {step: draft.names for step, draft in body.items()}
        return replace(
            self,
            names=self.names.new_child(own),
            steps=self.steps.new_child({step: names.known for step, names in own.items()}),
            givers=self.givers.new_child(_givers(own)),
            position=_positions(own),
            bound={**self.bound, **bound},
            around=self,
            owner=owner,
            block=block,
        )


def named_steps(
    drafts: Mapping[str, Draft], inputs: Inputs, handlers: Mapping[str, Mapping[str, Draft]]
) -> NamedSteps:
    """The names of the workflow's own steps. `handlers` are its other blocks, by their names."""
    inner: dict[str, list[Inner]] = {}
    for draft in drafts.values():
        _add_inner(draft, inner)
    for block, steps in handlers.items():
        for draft in steps.values():
            inner.setdefault(draft.id, []).append(Inner(block=block, owner=None, reading=()))
            _add_inner(draft, inner)
    own = {step: draft.names for step, draft in drafts.items()}
    return NamedSteps(
        inputs=inputs.names,
        inputs_closed=inputs.closed,
        names=ChainMap(own),
        steps=ChainMap({step: names.known for step, names in own.items()}),
        givers=ChainMap(_givers(own)),
        position=_positions(own),
        bound={"run": RUN},
        inner=inner,
    )


def body_names(around: NamedSteps, draft: Draft, body: BodyDraft, *, bound: Names) -> NamedSteps:
    """The names of one body of a control step."""
    return around.within(body.drafts, bound=bound, owner=draft.id, block=draft.key)


def handler_names(main: NamedSteps, block: str, drafts: Mapping[str, Draft]) -> NamedSteps:
    """The names of a block that runs when the workflow's own steps have ended."""
    return main.within(drafts, bound={"run": RUN_THAT_ENDED}, owner=None, block=block)


def with_aliases(names: OutputNames, known: NamedSteps) -> OutputNames:
    """The same names, and those among the author's that stand in `outputs` for themselves."""
    aliases = {
        given: own
        for own, given in zip(names.own, names.given, strict=False)
        if given not in known.steps and len(known.givers[given]) == 1
    }
    return replace(names, aliases=aliases)


def _add_inner(draft: Draft, inner: dict[str, list[Inner]]) -> None:
    pending = [draft]
    while pending:
        owner = pending.pop()
        for body in owner.bodies:
            for step, found in body.drafts.items():
                reading = owner.control.reading(owner.id, step) if owner.control is not None else ()
                place = Inner(block=owner.key, owner=owner.id, reading=reading)
                inner.setdefault(step, []).append(place)
                pending.append(found)


def _givers(names: Mapping[str, OutputNames]) -> dict[str, Sequence[str]]:
    givers: dict[str, list[str]] = {}
    for step, outputs in names.items():
        for given in outputs.given:
            givers.setdefault(given, []).append(step)
    return dict(givers)


def _positions(names: Mapping[str, OutputNames]) -> dict[str, int]:
    return {step: position for position, step in enumerate(names)}
