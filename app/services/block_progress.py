"""How the items of a map and the iterations of a loop stand, one by one and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from app.core.plan import Map, blocks_of
from app.core.state import ENDED, StepState, StepStatus
from app.engines.history import History


def was_entered(history: History, step: StepState) -> bool:
    """Whether a control step knows what it began with: its case, its items."""
    record = history.steps.get(step.path)
    return record is not None and record.started_at is not None


def part_status(history: History, step: StepState, index: int) -> str:
    """The status of an item or iteration, in the words of steps."""
    control = step.control
    if control is None or index >= _begun(step):
        return "pending" if step.status not in ENDED else "skipped"
    if index in control.failed:
        return "failed"
    if index in control.open:
        return "running"
    prefix = f"{step.path}[{index}]."
    statuses = {
        history.state.steps[prefix + node.id].status
        for block in blocks_of(step.node.control)
        for node in block.nodes
    }
    if StepStatus.FAILED in statuses:
        return "failed"
    return "cancelled" if StepStatus.CANCELLED in statuses else "completed"


def counts_of(history: History, step: StepState) -> Mapping[str, int]:
    """How many items or iterations have each status. Costs a look at each that has ended."""
    total = 0 if step.control is None else step.control.count
    begun = min(total, _begun(step))
    counts = Counter(part_status(history, step, index) for index in range(begun))
    if total > begun:
        counts[part_status(history, step, begun)] += total - begun
    return dict(sorted(counts.items()))


def _begun(step: StepState) -> int:
    """Items or iterations whose steps were made."""
    if step.control is None:
        return 0
    return step.control.begun if isinstance(step.node.control, Map) else step.control.count
