"""Which task queue a run goes to: its tenant's, that of one of its labels, or the common one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQueues:
    """Names of task queues; the first rule that fits a run wins, tenants before labels."""

    common: str
    by_tenant: Mapping[str, str] = field(default_factory=dict)
    by_label: Mapping[str, str] = field(default_factory=dict)
    """`name=value` of a label → queue."""

    @property
    def all(self) -> frozenset[str]:
        """Every queue that a run may go to."""
        return frozenset({self.common, *self.by_tenant.values(), *self.by_label.values()})

    def of(self, tenant: str, labels: Mapping[str, str]) -> str:
        """The queue of a run."""
        if (queue := self.by_tenant.get(tenant)) is not None:
            return queue
        for name, value in sorted(labels.items()):
            if (queue := self.by_label.get(f"{name}={value}")) is not None:
                return queue
        return self.common
