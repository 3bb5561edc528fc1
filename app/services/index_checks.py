"""Whether what a plan would search for or write fits the indexes, by what is remembered of them.

Nobody is called: an index that was made anew elsewhere is recognised when a run uses it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from app.dsl.compiled import CompiledStep, CompiledWorkflow, IndexUse
from app.ports.index_contracts import IndexContract, IndexContracts, Offered, breach, fits
from app.ports.problems import Problem
from app.services.plan_views import PlannedStep

MOST_INDEXES: Final = 100
"""That are looked up for one plan."""
_HINT: Final = "an index that was made anew elsewhere is recognised when a run uses it"


async def broken_contracts(
    contracts: IndexContracts,
    workflow: CompiledWorkflow,
    steps: Sequence[PlannedStep],
    model_of: Callable[[CompiledStep], Awaitable[str | None]],
) -> list[Problem]:
    """A problem for each step whose vectors its index would not take. Raises `StoreError`.

    `model_of` tells which model makes the vectors of a step, from what is known before the run.
    """
    planned = {step.key: step for step in steps}
    known: dict[tuple[str, str], IndexContract | None] = {}
    found: list[Problem] = []
    for use in workflow.index_uses:
        step = planned.get(use.key)
        if step is None or step.instances == 0:
            continue
        config = step.config if isinstance(step.config, Mapping) else {}
        database = _text(config.get("database")) or use.database
        index = _text(config.get("index")) or use.index
        if database is None or index is None:
            continue
        place = (database, index)
        if place not in known:
            if len(known) == MOST_INDEXES:
                break
            known[place] = await contracts.get(database, index)
        contract = known[place]
        if contract is None:
            continue
        offered = _offered(use, config, await model_of(workflow.steps[use.key]))
        if not fits(contract, offered):
            detail = breach(contract, offered, query=not use.writes)
            found.append(Problem(pointer=use.pointer, detail=detail, hint=_HINT))
    return found


def _offered(use: IndexUse, config: Mapping[str, Any], made_by: str | None) -> Offered:
    """The vectors as the plan knows them: a template may have rendered to more than the document tells."""
    dimensions = use.offered.dimensions
    if dimensions is None:
        dimensions = _length(config)
    said = _text(config.get("embedding_model"))
    return Offered(model=use.offered.model or said or made_by, dimensions=dimensions)


def _length(config: Mapping[str, Any]) -> int | None:
    vector = config.get("query")
    records = config.get("vectors")
    if isinstance(records, list) and records and isinstance(records[0], Mapping):
        vector = records[0].get("vector")
    return len(vector) if isinstance(vector, list) and vector else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
