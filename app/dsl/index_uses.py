"""What the steps of a document use indexes for, with the models that made the vectors. Pure.

An index holds vectors of one model. Where the document alone shows that it would hold, or be searched with,
those of another, its author is told: as a problem where it cannot be meant, as a warning where it may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from app.dsl.blocks import BlockStep
from app.dsl.compiled import IndexUse
from app.dsl.findings import Findings
from app.dsl.provenance import Provenance, Source
from app.ports.index_contracts import Offered, fits
from app.ports.problems import Problem
from app.steps.kind import is_template
from app.steps.vector_search import VectorSearchConfig
from app.steps.vector_upsert import RecordConfig, VectorUpsertConfig

MOST_WARNINGS: Final = 100
QUERY: Final = "/query"
VECTORS: Final = "/vectors"
_RECORD: Final = re.compile(r"/vectors(?:/\d+(?:/vector(?:/\d+)?)?)?")
"""Where a template yields vectors: all records, one of them, its vector, a number of it."""
_HINT: Final = "vectors of two models cannot stand in one index"

Parts = list[tuple[str, tuple[Source, ...]]]
"""The templates of a step that yield vectors, each with its pointer and where those come from."""


def index_uses(provenance: Provenance, findings: Findings) -> tuple[IndexUse, ...]:
    """Every step that searches an index or writes to one; one that writes two models' vectors is reported."""
    return tuple(use for step in provenance.steps if (use := _use(step, provenance, findings)) is not None)


def index_warnings(uses: Iterable[IndexUse]) -> tuple[Problem, ...]:
    """Two steps that use one index for vectors which do not go together, told at the second of them."""
    found: list[Problem] = []
    before: dict[tuple[str, str], list[IndexUse]] = {}
    for use in uses:
        if use.mixes:
            listed = ", ".join(repr(model) for model in use.mixes)
            hint = "embed all of them with one model, or name it as 'embedding_model' if it is the same"
            found.append(
                Problem(pointer=use.pointer, detail=f"{_HINT}, and these are of {listed}", hint=hint)
            )
        if use.database is None or use.index is None:
            continue
        others = before.setdefault((use.database, use.index), [])
        other = next((other for other in others if not fits(other.offered, use.offered)), None)
        if other is not None:
            found.append(_conflict(use, other))
        if all(other.offered != use.offered for other in others):
            others.append(use)
        if len(found) >= MOST_WARNINGS:
            break
    return tuple(found[:MOST_WARNINGS])


def _conflict(use: IndexUse, other: IndexUse) -> Problem:
    does, did = ("fills" if one.writes else "searches" for one in (use, other))
    return Problem(
        pointer=use.pointer,
        detail=f"this {does} index {use.index!r} of {use.database!r} with vectors made "
        f"{use.offered.spelled}, and step {other.key!r} {did} it with vectors made {other.offered.spelled}",
        hint="embed both with the same model, or use two indexes",
    )


def _use(step: BlockStep, provenance: Provenance, findings: Findings) -> IndexUse | None:
    config, draft = step.parts.model, step.parts.draft
    if not isinstance(config, VectorSearchConfig | VectorUpsertConfig):
        return None
    writes = isinstance(config, VectorUpsertConfig)
    parts = _parts(step, provenance)
    sources = list(dict.fromkeys(source for _, several in parts for source in several))
    models = list(dict.fromkeys(source.model for source in sources))
    sizes = {source.dimensions for source in sources}
    said = config.embedding_model
    index = None if is_template(config.index) else config.index
    mixes: tuple[str, ...] = ()
    if writes and said is None and not _reported(parts, findings, draft.pointer) and index is not None:
        known = tuple(dict.fromkeys(source.constant for source in sources if source.constant is not None))
        mixes = known if len(known) > 1 else ()
    made = models[0] if len(models) == 1 and said is None else None
    return IndexUse(
        key=draft.key,
        pointer=draft.pointer + (VECTORS if writes else QUERY),
        writes=writes,
        database=None if is_template(config.database) else config.database,
        index=index,
        made_by=made,
        offered=Offered(
            model=_constant(made if said is None else said),
            dimensions=sizes.pop() if len(sizes) == 1 else _length(config),
        ),
        mixes=mixes,
    )


def _parts(step: BlockStep, provenance: Provenance) -> Parts:
    compiled = step.parts.config
    return [
        (part.pointer, provenance.of(step, part.loaded.references))
        for part in (() if compiled is None else compiled.parts)
        if part.pointer == QUERY or part.pointer.startswith(QUERY + "/") or _RECORD.fullmatch(part.pointer)
    ]


def _reported(parts: Parts, findings: Findings, under: str) -> bool:
    """Whether two records of one upsert are surely of two models; then that is a problem."""
    first: str | None = None
    for place, sources in parts:
        models = {source.constant for source in sources}
        model = models.pop() if len(models) == 1 else None
        if first is not None and model is not None and model != first:
            detail = f"{_HINT}: these are of {model!r}, those before them of {first!r}"
            findings.add(under + place, detail, "embed all of them with one model, or use two steps")
            return True
        first = first or model
    return False


def _constant(model: str | None) -> str | None:
    return None if model is None or is_template(model) else model


def _length(config: VectorSearchConfig | VectorUpsertConfig) -> int | None:
    """The length of a vector that is written out."""
    return next((len(vector) for vector in _written(config)), None)


def _written(config: VectorSearchConfig | VectorUpsertConfig) -> Iterator[list[Any]]:
    if isinstance(config, VectorSearchConfig):
        candidates: list[Any] = [config.query]
    else:
        # What is a template is text here, whatever its field will hold.
        records: Any = config.vectors
        listed = records if isinstance(records, list) else []
        candidates = [record.vector for record in listed if isinstance(record, RecordConfig)]
    yield from (one for one in candidates if isinstance(one, list))
