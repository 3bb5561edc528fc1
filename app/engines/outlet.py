"""What is to be told to one other process: in order, put together where that changes nothing, bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import structlog

from app.engines.engine import Delta
from app.engines.relay_notes import Said, Told

MAX_CHARACTERS: Final = 1_048_576
"""Of deltas that wait; past it they are dropped, for their answers come whole with their events."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Saying:
    """A delta that grows for as long as it waits."""

    run_id: str
    first: Delta
    texts: list[str] = field(default_factory=list)

    def whole(self) -> Said:
        first = self.first
        delta = Delta(
            path=first.path,
            attempt=first.attempt,
            text="".join(self.texts),
            at=first.at,
            after=first.after,
        )
        return Said(run_id=self.run_id, delta=delta)


class Outlet:
    """Deltas stay before the events that came after them; what an attempt says next joins what waits."""

    def __init__(self) -> None:
        self._items: list[Told | _Saying] = []
        self._growing: dict[str, dict[tuple[str, int], _Saying]] = {}
        """By run and attempt: deltas after which no event of their run was told."""
        self._characters = 0

    def tell(self, told: Told) -> None:
        """Events became durable."""
        if self._growing.pop(told.run_id, None) is None and self._items:
            last = self._items[-1]
            if isinstance(last, Told) and last.run_id == told.run_id:
                self._items[-1] = told
                return
        self._items.append(told)

    def say(self, run_id: str, delta: Delta) -> None:
        """A piece of an answer came."""
        growing = self._growing.setdefault(run_id, {})
        saying = growing.get((delta.path, delta.attempt))
        if saying is None:
            saying = growing[delta.path, delta.attempt] = _Saying(run_id, delta)
            self._items.append(saying)
        saying.texts.append(delta.text)
        self._characters += len(delta.text)
        if self._characters > MAX_CHARACTERS:
            self._shed()

    def take(self) -> list[Told | Said]:
        """All of it; nothing waits any more."""
        items, self._items = self._items, []
        self._growing.clear()
        self._characters = 0
        return [item if isinstance(item, Told) else item.whole() for item in items]

    def _shed(self) -> None:
        log.warning("relay.deltas_dropped", characters=self._characters)
        self._items = [item for item in self._items if isinstance(item, Told)]
        self._growing.clear()
        self._characters = 0
