"""The steps of a document, read one by one before anything is known of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app.dsl.document import LATER_KINDS, LATER_STEP_KEYS, OUTPUT_NAME, STEP_ID, STEP_KEYS, StepDocument
from app.dsl.findings import Findings
from app.dsl.model_errors import report
from app.dsl.naming import OutputNames
from app.ports.problems import pointer
from app.steps.kind import StepKind

NOT_YET = "remove it, or wait for a version that has it"


@dataclass(frozen=True, slots=True)
class Draft:
    """One step as far as it could be read. What is None was reported."""

    pointer: str
    id: str
    common: Mapping[str, Any]
    """The keys of every step, as written."""
    document: StepDocument | None
    """The same, checked."""
    depends_on: tuple[tuple[str, str], ...]
    """Pointer and id of each step that is named."""
    kind: StepKind | None
    config: Mapping[str, Any]
    """The kind's own keys."""
    names: OutputNames


def read_steps(raw_steps: list[Any], kinds: Mapping[str, StepKind], findings: Findings) -> dict[str, Draft]:
    """Every step that has an id of its own, by id and in document order; the rest is reported."""
    drafts: dict[str, Draft] = {}
    for position, raw in enumerate(raw_steps):
        under = pointer("steps", position)
        if not isinstance(raw, dict):
            findings.add(under, "a step is a mapping", "write '- id: …' and 'type: …'")
            continue
        draft = _draft(raw, under, kinds, findings)
        if draft is None:
            continue
        if draft.id in drafts:
            findings.add(f"{under}/id", f"two steps are called {draft.id!r}", "give one of them another id")
            continue
        drafts[draft.id] = draft
    return drafts


def _draft(
    raw: dict[str, Any], under: str, kinds: Mapping[str, StepKind], findings: Findings
) -> Draft | None:
    for key in LATER_STEP_KEYS & raw.keys():
        findings.add(f"{under}/{key}", f"{key!r} is not supported by this version", NOT_YET)
    common = {key: value for key, value in raw.items() if key in STEP_KEYS}
    document = None
    try:
        document = StepDocument.model_validate(common)
    except ValidationError as error:
        report(error, findings, value=common, under=under, model=StepDocument)
    step = common.get("id")
    kind = _kind(common.get("type"), under, kinds, findings)
    if not isinstance(step, str) or not STEP_ID.fullmatch(step):
        return None
    return Draft(
        pointer=under,
        id=step,
        common=common,
        document=document,
        depends_on=_depends_on(common.get("depends_on"), f"{under}/depends_on"),
        kind=kind,
        config={key: raw[key] for key in raw if key not in STEP_KEYS and key not in LATER_STEP_KEYS},
        names=_names(step, kind, common.get("output"), f"{under}/output", findings),
    )


def _kind(name: Any, under: str, kinds: Mapping[str, StepKind], findings: Findings) -> StepKind | None:
    if not isinstance(name, str) or name in kinds:
        return kinds.get(name) if isinstance(name, str) else None
    if name in LATER_KINDS:
        findings.add(f"{under}/type", f"the kind {name!r} is not supported by this version", NOT_YET)
    else:
        hint = findings.spelling.hint(name, kinds, few=len(kinds))
        findings.add(f"{under}/type", f"unknown kind {name!r}", hint)
    return None


def _depends_on(raw: Any, under: str) -> tuple[tuple[str, str], ...]:
    if isinstance(raw, str):
        return ((under, raw),)
    listed = raw if isinstance(raw, list) else []
    return tuple(
        (f"{under}/{position}", step) for position, step in enumerate(listed) if isinstance(step, str)
    )


def _names(step: str, kind: StepKind | None, raw: Any, under: str, findings: Findings) -> OutputNames:
    own = kind.outputs if kind is not None else ()
    listed = (
        [(f"{under}/{position}", name) for position, name in enumerate(raw)] if isinstance(raw, list) else []
    )
    if isinstance(raw, str):
        listed = [(under, raw)]
    given: list[str] = []
    for position, (where, name) in enumerate(listed):
        if not isinstance(name, str) or not OUTPUT_NAME.fullmatch(name):
            break
        if name in given:
            findings.add(where, f"the output name {name!r} is given twice", "give each output its own name")
        elif kind is not None and position >= len(own):
            detail = f"a step of kind {kind.name!r} has no output number {position + 1} to name"
            findings.add(where, detail, "its outputs are " + (", ".join(own) or "none"))
        elif name in own and own[position] != name:
            detail = (
                f"{name!r} already is the kind's name of another output than this, which is {own[position]!r}"
            )
            findings.add(where, detail, "choose another name; the kind's own names always work")
        given.append(name)
    return OutputNames(step=step, own=own, given=tuple(given))
