"""SIGKILL for one of several processes, or for all of them, again and again under load.

Whoever is killed is started again on its port; sometimes it is killed once more before it is ready. Clients
submit to whichever processes are there.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from tests.recovery.ledger import Crowd

ALL_AT_ONCE: Final = 0.15
"""How often everybody dies at once."""
AGAIN: Final = 0.2
"""How often one dies again while it starts."""
LIFE_SECONDS: Final = (0.1, 0.9)
STARTING_SECONDS: Final = (0.0, 1.5)
READY_SECONDS: Final = 120.0
"""For a start on a machine that does much else."""
MOST_UNENDED: Final = 100
"""Runs in hand beyond which the clients rest before the next kill: what only waits is not at risk."""
LOOK_SECONDS: Final = 0.5


class Process(Protocol):
    """A service or a worker."""

    def kill(self) -> None:
        """SIGKILL, and wait."""
        ...

    def wait_ready(self, seconds: float) -> object:
        """Wait until it does its work. Raises `AssertionError` if it does not."""
        ...


@dataclass(slots=True)
class Victim:
    """A place that a process has, dead or alive."""

    begin: Callable[[], Process]
    """Starts one, without waiting."""
    role: Callable[[], str]
    """What a process that is ready does at the moment."""
    url: str | None = None
    """Where it takes submissions."""
    process: Process = field(init=False)


@dataclass(slots=True)
class Killer:
    """`note` looks at what the dead left, told whether others live; `unended` counts runs in hand."""

    victims: Sequence[Victim]
    crowd: Crowd
    chance: random.Random
    note: Callable[[bool], None]
    unended: Callable[[], int]
    killed: Counter[str] = field(default_factory=Counter)
    """By the role that they had."""
    _turn: list[Victim] = field(default_factory=list)
    """Who is still to be killed before anybody is killed again."""

    async def start(self) -> None:
        """Start everybody."""
        self.crowd.urls.clear()
        await self._revive(self.victims)

    async def kill(self, times: int) -> None:
        """Kill that often; everybody is ready again in the end."""
        while self.killed.total() < times:
            await self._caught_up()
            await asyncio.sleep(self.chance.uniform(*LIFE_SECONDS))
            everybody = self.chance.random() < ALL_AT_ONCE
            chosen = self.victims if everybody else [self._next()]
            await self._kill(chosen, [await asyncio.to_thread(victim.role) for victim in chosen])
            if self.chance.random() < AGAIN:
                for victim in chosen:
                    victim.process = victim.begin()
                await asyncio.sleep(self.chance.uniform(*STARTING_SECONDS))
                await self._kill(chosen, ["starting"] * len(chosen))
            await self._revive(chosen)

    async def _caught_up(self) -> None:
        while await asyncio.to_thread(self.unended) > MOST_UNENDED:
            self.crowd.up.clear()
            await asyncio.sleep(LOOK_SECONDS)
        self.crowd.up.set()

    def _next(self) -> Victim:
        if not self._turn:
            self._turn = self.chance.sample(self.victims, len(self.victims))
        return self._turn.pop()

    async def _kill(self, victims: Sequence[Victim], roles: Sequence[str]) -> None:
        for victim in victims:
            if victim.url in self.crowd.urls:
                self.crowd.urls.remove(victim.url)
        if not self.crowd.urls:
            self.crowd.up.clear()
        for victim in victims:
            await asyncio.to_thread(victim.process.kill)
        self.killed.update(roles)
        await asyncio.to_thread(self.note, len(victims) < len(self.victims))

    async def _revive(self, victims: Sequence[Victim]) -> None:
        for victim in victims:
            victim.process = victim.begin()
        for victim in victims:
            await asyncio.to_thread(victim.process.wait_ready, READY_SECONDS)
            if victim.url is not None:
                self.crowd.urls.append(victim.url)
                self.crowd.up.set()
