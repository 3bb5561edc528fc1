"""What the dependencies of steps look like as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

MOST_CYCLES: Final = 20


def cycles(dependencies: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Circles of dependencies, each as the path that closes it: `(a, b, a)` says that a depends on b.

    Every set of steps that wait for each other yields one at least, up to `MOST_CYCLES` altogether.
    """
    order = _Order(dependencies)
    found: list[tuple[str, ...]] = []
    for start in dependencies:
        while start not in order.settled and len(found) < MOST_CYCLES:
            circle = order.circle_from(start)
            found.append((*circle, circle[0]))
            order.settle(circle)
    return found


def leaves(dependencies: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Steps that nothing depends on, in order."""
    needed = {need for needs in dependencies.values() for need in needs}
    return tuple(step for step in dependencies if step not in needed)


class _Order:
    """Steps are settled once all that they depend on are; what waits for a circle never is."""

    __slots__ = ("_dependencies", "_dependents", "_waiting", "settled")

    def __init__(self, dependencies: Mapping[str, Sequence[str]]) -> None:
        self.settled: set[str] = set()
        self._dependencies = dependencies
        self._waiting = {step: len(needs) for step, needs in dependencies.items()}
        self._dependents: dict[str, list[str]] = {step: [] for step in dependencies}
        for step, needs in dependencies.items():
            for need in needs:
                self._dependents[need].append(step)
        self.settle([step for step, count in self._waiting.items() if count == 0])

    def settle(self, steps: Iterable[str]) -> None:
        """Settle steps, and all that waited for nothing else."""
        ready = list(steps)
        self.settled.update(ready)
        while ready:
            for dependent in self._dependents[ready.pop()]:
                self._waiting[dependent] -= 1
                if self._waiting[dependent] == 0 and dependent not in self.settled:
                    self.settled.add(dependent)
                    ready.append(dependent)

    def circle_from(self, step: str) -> list[str]:
        """A circle that an unsettled step waits for."""
        path: dict[str, int] = {}
        while step not in path:
            path[step] = len(path)
            step = next(need for need in self._dependencies[step] if need not in self.settled)
        return list(path)[path[step] :]
