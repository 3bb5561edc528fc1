"""The steps of a document, read one by one before anything is known of the others."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from app.dsl.document import ATTEMPT_KEYS, OUTPUT_NAME, STEP_ID, STEP_KEYS, StepDocument
from app.dsl.findings import Findings
from app.dsl.limits import DEEPEST_BLOCKS, MOST_STEPS
from app.dsl.model_errors import report
from app.dsl.naming import FAILURE, OutputNames
from app.ports.problems import pointer
from app.steps.control import ControlKind
from app.steps.kind import StepKind
from app.steps.registry import CONTROL_KINDS

RawSteps = Iterable[tuple[str, Any]]
"""Steps as written, each with its pointer."""


@dataclass(frozen=True, slots=True)
class BodyDraft:
    """One body of a control step."""

    name: str | None
    drafts: Mapping[str, Draft]


@dataclass(frozen=True, slots=True)
class Draft:
    """One step as far as it could be read. What is None was reported."""

    pointer: str
    id: str
    key: str
    common: Mapping[str, Any]
    """The keys of every step, as written."""
    document: StepDocument | None
    """The same, checked."""
    depends_on: tuple[tuple[str, str], ...]
    """Pointer and id of each step that is named."""
    kind: StepKind | None
    control: ControlKind | None
    """Set instead of `kind` for a step that the scheduler carries out itself."""
    config: Mapping[str, Any]
    """The kind's own keys, without those that hold steps."""
    names: OutputNames
    blocks: Mapping[str, Any] = field(default_factory=dict)
    """A control kind's keys that hold steps or are evaluated among them."""
    bodies: tuple[BodyDraft, ...] = ()

    @property
    def within(self) -> tuple[str, ...]:
        """Ids of the steps of all bodies."""
        return tuple(step for body in self.bodies for step in body.drafts)


def raw_steps(value: Any, *parts: str) -> list[tuple[str, Any]]:
    """The steps of a list that stands at a place."""
    return [(pointer(*parts, position), raw) for position, raw in enumerate(_listed(value))]


def check_extent(steps: RawSteps, findings: Findings) -> None:
    """Refuse more steps, and deeper ones, than a workflow may have, before any of them is read."""
    pending = [(under, raw, 0) for under, raw in steps]
    count = len(pending)
    while pending and count <= MOST_STEPS:
        under, raw, depth = pending.pop()
        for place, inner in _within(raw):
            count += 1
            pending.append((under + place, inner, depth + 1))
        if depth > DEEPEST_BLOCKS:
            detail = f"more than {DEEPEST_BLOCKS} blocks within each other"
            findings.add(under, detail, "move the inner blocks to a workflow of their own")
            return
    if count > MOST_STEPS:
        findings.add("/steps", f"more than {MOST_STEPS} steps", "split the workflow")


def _within(raw: Any) -> Iterator[tuple[str, Any]]:
    kind = CONTROL_KINDS.get(str(raw.get("type"))) if isinstance(raw, dict) else None
    for body in kind.bodies(raw) if kind is not None else ():
        yield from body.steps


class StepReader:
    """Reads the steps of one document, those within others included."""

    __slots__ = ("_findings", "_kinds")

    def __init__(self, kinds: Mapping[str, StepKind], findings: Findings) -> None:
        self._kinds = kinds
        self._findings = findings

    def read(
        self,
        steps: RawSteps,
        *,
        around: ChainMap[str, None],
        prefix: str = "",
    ) -> dict[str, Draft]:
        """Every step that has an id of its own, by id and in document order; the rest is reported.

        `around` has the ids of the blocks around this one.
        """
        listed = list(steps)
        inner = around.new_child({step: None for _, raw in listed if (step := _id(raw)) is not None})
        drafts: dict[str, Draft] = {}
        for under, raw in listed:
            if not isinstance(raw, dict):
                self._findings.add(under, "a step is a mapping", "write '- id: …' and 'type: …'")
                continue
            draft = self._draft(raw, under, prefix, inner)
            if draft is None:
                continue
            if draft.id in drafts:
                detail = f"two steps are called {draft.id!r}"
                self._findings.add(f"{under}/id", detail, "give one of them another id")
            elif draft.id in around:
                detail = f"a step outside of this block is called {draft.id!r} as well"
                self._findings.add(f"{under}/id", detail, "give one of them another id")
            else:
                drafts[draft.id] = draft
        return drafts

    def _draft(
        self, raw: dict[str, Any], under: str, prefix: str, around: ChainMap[str, None]
    ) -> Draft | None:
        kind, control = self._kind(raw.get("type"), under)
        own = frozenset() if control is None else control.config_model.model_fields.keys()
        common = {key: value for key, value in raw.items() if key in STEP_KEYS and key not in own}
        if control is not None:
            common = self._without_attempts(common, control, under)
        document = self._checked(StepDocument, common, under)
        step = _id(raw)
        if step is None:
            return None
        config = {key: value for key, value in raw.items() if key not in STEP_KEYS - own}
        blocks: dict[str, Any] = {}
        bodies: tuple[BodyDraft, ...] = ()
        given = (common.get("output"), f"{under}/output")
        if control is None:
            names = self._names(step, kind, *given)
        else:
            block_keys = control.blocks_model.model_fields.keys()
            blocks = {key: config.pop(key) for key in raw if key in block_keys}
            whole = self._checked(control.blocks_model, blocks, under) is not None
            # Read even where the keys have problems: those of the steps are told as well.
            bodies = self._bodies(control, blocks, under, prefix + step, around)
            names = self._control_names(step, control, bodies, *given, known=whole)
        return Draft(
            pointer=under,
            id=step,
            key=prefix + step,
            common=common,
            document=document,
            depends_on=_depends_on(common.get("depends_on"), f"{under}/depends_on"),
            kind=kind,
            control=control,
            config=config,
            names=names,
            blocks=blocks,
            bodies=bodies,
        )

    def _checked(self, model: type[BaseModel], value: dict[str, Any], under: str) -> Any:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            report(error, self._findings, value=value, under=under, model=model)
            return None

    def _without_attempts(self, common: dict[str, Any], kind: ControlKind, under: str) -> dict[str, Any]:
        hint = "write it at the steps within" if kind.blocks_model.model_fields else "remove it"
        for key in sorted(ATTEMPT_KEYS & common.keys()):
            detail = f"{key!r} does not go with a step of kind {kind.name!r}, which has no attempts"
            self._findings.add(f"{under}/{key}", detail, hint)
        return {key: value for key, value in common.items() if key not in ATTEMPT_KEYS}

    def _bodies(
        self,
        kind: ControlKind,
        blocks: Mapping[str, Any],
        under: str,
        owner: str,
        around: ChainMap[str, None],
    ) -> tuple[BodyDraft, ...]:
        """The steps of each body. Cases may use the same ids: one of them runs, so paths stay unique."""
        seen: dict[str, Draft] = {}
        bodies = []
        for body in kind.bodies(blocks):
            steps = [(under + place, raw) for place, raw in body.steps]
            inner = f"{owner}." if body.name is None else f"{owner}[{body.name}]."
            drafts = self.read(steps, around=around, prefix=inner)
            seen.update(drafts)
            bodies.append(BodyDraft(body.name, drafts))
        named = kind.output_names(tuple(seen))[len(kind.outputs) :]
        for step in {FAILURE, *kind.outputs} & set(named):
            detail = f"a step within one of kind {kind.name!r} cannot be called {step!r}"
            hint = "what is read from outside by this name is something else; choose another id"
            self._findings.add(f"{seen[step].pointer}/id", detail, hint)
        return tuple(bodies)

    def _kind(self, name: Any, under: str) -> tuple[StepKind | None, ControlKind | None]:
        if not isinstance(name, str):
            return None, None
        kind, control = self._kinds.get(name), CONTROL_KINDS.get(name)
        if kind is None and control is None:
            known = [*self._kinds, *CONTROL_KINDS]
            hint = self._findings.spelling.hint(name, known, few=len(known))
            self._findings.add(f"{under}/type", f"unknown kind {name!r}", hint)
        return kind, control if kind is None else None

    def _names(self, step: str, kind: StepKind | None, raw: Any, under: str) -> OutputNames:
        own = () if kind is None else kind.outputs
        given = self._given(None if kind is None else kind.name, own, raw, under)
        return OutputNames(step=step, own=own, given=given, open=kind is None)

    def _control_names(
        self, step: str, kind: ControlKind, bodies: Iterable[BodyDraft], raw: Any, under: str, *, known: bool
    ) -> OutputNames:
        """`known`: its bodies could be read, so that every other output is a mistake."""
        within = tuple(inner for body in bodies for inner in body.drafts)
        own = kind.output_names(within)
        return OutputNames(
            step=step,
            own=own,
            given=self._given(kind.name if known else None, own, raw, under),
            open=kind.open or not known,
            whole=kind.whole,
            inside=kind.inside(within),
        )

    def _given(self, kind: str | None, own: tuple[str, ...], raw: Any, under: str) -> tuple[str, ...]:
        """The author's names of the outputs, by position; None for a kind whose outputs are not known."""
        listed = [(f"{under}/{position}", name) for position, name in enumerate(_listed(raw))]
        if isinstance(raw, str):
            listed = [(under, raw)]
        given: list[str] = []
        for position, (where, name) in enumerate(listed):
            if not isinstance(name, str) or not OUTPUT_NAME.fullmatch(name):
                break
            if name in given:
                detail, hint = f"the output name {name!r} is given twice", "give each output its own name"
                self._findings.add(where, detail, hint)
            elif kind is not None and position >= len(own):
                detail = f"a step of kind {kind!r} has no output number {position + 1} to name"
                self._findings.add(where, detail, "its outputs are " + (", ".join(own) or "none"))
            elif name in own and own[position] != name:
                detail = (
                    f"{name!r} already is the kind's name of another output than this, "
                    f"which is {own[position]!r}"
                )
                hint = "choose another name; the kind's own names always work"
                self._findings.add(where, detail, hint)
            given.append(name)
        return tuple(given)


def _id(raw: Any) -> str | None:
    step = raw.get("id") if isinstance(raw, dict) else None
    return step if isinstance(step, str) and STEP_ID.fullmatch(step) else None


def _depends_on(raw: Any, under: str) -> tuple[tuple[str, str], ...]:
    if isinstance(raw, str):
        return ((under, raw),)
    return tuple(
        (f"{under}/{position}", step) for position, step in enumerate(_listed(raw)) if isinstance(step, str)
    )


def _listed(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []
