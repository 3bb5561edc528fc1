"""Which `embed` steps the vectors of a step come from, as far as the document tells. Pure.

References are followed from the step that is given vectors to the one that makes them: directly, through
`transform`, through the items of a `map`, and through control steps to what is within them. What an input, a
called workflow or an HTTP answer brings is not known and counts for nothing. It is all done once for each
step, without recursion, so that a long chain of steps costs its length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from app.dsl.blocks import BlockStep
from app.dsl.graph import leaves
from app.steps.embed import EmbedConfig
from app.steps.kind import is_template
from app.steps.transform import TransformConfig
from app.templating.compiler import Reference

MOST_SOURCES: Final = 8
"""Different ones that are told apart; two are too many already."""
_VECTORS: Final = frozenset({"vector", "vectors"})
_LOOP: Final = "loop"
_INDEX: Final = "index"
_INPUTS: Final = "inputs"
_MODEL: Final = "/model"


@dataclass(frozen=True, slots=True)
class Source:
    """What an `embed` step makes."""

    model: str | None
    """The model as it is written: a name, or a template that reads inputs alone; None for any other."""
    dimensions: int | None
    """None: a template says it, or nobody."""

    @property
    def constant(self) -> str | None:
        """The name of the model, where it is written out."""
        return None if self.model is None or is_template(self.model) else self.model


@dataclass(frozen=True, slots=True)
class _Scope:
    """One block among those around it."""

    steps: Mapping[str, BlockStep]
    around: _Scope | None
    owner: BlockStep | None

    def outwards(self) -> Iterator[_Scope]:
        """This block, and those around it."""
        scope: _Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.around

    def find(self, step: str) -> BlockStep | None:
        """A step of this block or one around it."""
        return next((scope.steps[step] for scope in self.outwards() if step in scope.steps), None)

    def giver(self, output: str) -> BlockStep | None:
        """The step that alone gives an output that name."""
        known = next((step.known for scope in self.outwards() for step in scope.steps.values()), None)
        givers = () if known is None else known.givers.get(output, ())
        return self.find(givers[0]) if len(givers) == 1 else None


class Provenance:
    """Of all steps of one document. `blocks` are its own; all but the first see the steps of the first."""

    def __init__(self, blocks: Iterable[Sequence[BlockStep]]) -> None:
        self._scopes: dict[str, _Scope] = {}
        self._steps: dict[str, BlockStep] = {}
        self._within: dict[str, dict[str, list[BlockStep]]] = {}
        """The steps of all bodies of a control step, by id."""
        self._items: dict[str, list[BlockStep]] = {}
        """What the items of a map come from."""
        self._reads: dict[str, list[str]] = {}
        self._sources: dict[str, tuple[Source, ...]] = {}
        main: _Scope | None = None
        for steps in blocks:
            scope = self._enter(steps, main, None)
            main = main or scope

    @property
    def steps(self) -> Iterable[BlockStep]:
        """Every step of every block, each before those within it."""
        return self._steps.values()

    def of(self, step: BlockStep, references: Iterable[Reference]) -> tuple[Source, ...]:
        """What made the vectors that a step reads by these references."""
        read = self._read(references, self._scopes[step.parts.draft.key])
        return _joined(self._made(step.parts.draft.key) for step in read)

    def _enter(self, steps: Sequence[BlockStep], around: _Scope | None, owner: BlockStep | None) -> _Scope:
        scope = _Scope({step.parts.draft.id: step for step in steps}, around, owner)
        for step in steps:
            key = step.parts.draft.key
            self._steps[key], self._scopes[key] = step, scope
            within = self._within.setdefault(key, {})
            for body in step.bodies.values():
                self._enter(body, scope, step)
                for inner in body:
                    within.setdefault(inner.parts.draft.id, []).append(inner)
        return scope

    def _made(self, key: str) -> tuple[Source, ...]:
        """What a step hands on, once that of all it reads is known; a loop that reads itself adds nothing."""
        pending = [key]
        while pending:
            this = pending[-1]
            if this in self._sources:
                pending.pop()
            elif this not in self._reads:
                self._reads[this] = [step.parts.draft.key for step in self._behind(self._steps[this])]
                pending.extend(read for read in self._reads[this] if read not in self._reads)
            else:
                behind = (self._sources.get(read, ()) for read in self._reads[this])
                self._sources[this] = _joined([_own(self._steps[this]), *behind])
                pending.pop()
        return self._sources[key]

    def _behind(self, step: BlockStep) -> list[BlockStep]:
        """The steps whose vectors a step hands on."""
        if isinstance(step.parts.model, TransformConfig):
            return self._read(_references(step), self._scopes[step.parts.draft.key])
        return [inner for body in step.bodies.values() for inner in _last(body)]

    def _read(self, references: Iterable[Reference], scope: _Scope) -> list[BlockStep]:
        """The steps that references read vectors of, each once, in an order that is always the same."""
        ordered = sorted(references, key=lambda one: (one.root, one.parts))
        found = (step for one in ordered for step in self._meant(one.root, one.parts, scope))
        return list({step.parts.draft.key: step for step in found}.values())

    def _meant(self, root: str, parts: tuple[str, ...], scope: _Scope) -> list[BlockStep]:
        match root, parts:
            case "steps", (name, *further):
                return self._within_step(scope.find(name), further)
            case "outputs", (name, *_) if (step := scope.find(name)) is not None:
                return self._within_step(step, [])
            case "outputs", (name, *_):
                return self._within_step(scope.giver(name), parts)
            case _:
                return self._bound(root, parts, scope)

    def _within_step(self, step: BlockStep | None, further: Sequence[str]) -> list[BlockStep]:
        """The step that a path into the outputs of one reads: itself, or what it names within it."""
        if step is None:
            return []
        names = step.parts.draft.names
        own = dict(zip(names.given, names.own, strict=False))
        path = [own.get(name, name) for name in further[:2]]
        if isinstance(step.parts.model, EmbedConfig) and path and path[0] not in _VECTORS:
            return []
        within = self._within[step.parts.draft.key]
        # As in `route.<id>` and `again.last.<id>`; cases may use the same ids.
        return next((within[name] for name in path if name in within), [step])

    def _bound(self, root: str, parts: tuple[str, ...], scope: _Scope) -> list[BlockStep]:
        """What a name means that a control step around the block binds."""
        for one in scope.outwards():
            owner = one.owner
            control = None if owner is None else owner.parts.draft.control
            if owner is None or control is None or one.around is None:
                continue
            draft = owner.parts.draft
            if root not in control.bound(draft.config, draft.within):
                continue
            if root == _LOOP:
                return self._within_step(owner, parts)
            if root == _INDEX:
                return []
            if draft.key not in self._items:
                self._items[draft.key] = self._read(_references(owner), one.around)
            return self._items[draft.key]
        return []


def _last(body: Sequence[BlockStep]) -> list[BlockStep]:
    """The steps of a block that no other of it waits for."""
    last = frozenset(leaves({step.parts.draft.id: step.dependencies for step in body}))
    return [step for step in body if step.parts.draft.id in last]


def _own(step: BlockStep) -> tuple[Source, ...]:
    config = step.parts.model
    if not isinstance(config, EmbedConfig):
        return ()
    dimensions = config.dimensions if isinstance(config.dimensions, int) else None
    compiled = step.parts.config
    parts = [part for part in (compiled.parts if compiled is not None else ()) if part.pointer == _MODEL]
    # Inputs are the same all through a run and can be read anywhere in it.
    fixed = all(reference.root == _INPUTS for part in parts for reference in part.loaded.references)
    return (Source(config.model if fixed else None, dimensions),)


def _joined(several: Iterable[tuple[Source, ...]]) -> tuple[Source, ...]:
    return tuple(islice(dict.fromkeys(source for sources in several for source in sources), MOST_SOURCES))


def _references(step: BlockStep) -> Iterable[Reference]:
    return () if step.parts.config is None else step.parts.config.references
