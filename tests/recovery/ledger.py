"""A crowd of clients that writes down every 2xx, and goes on through the deaths of the service.

Half of them send an idempotency key and repeat a submission under it until it is acknowledged; the others
let go of what was not answered. The ledger is the clients' side of the promise: what it holds must be there.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.recovery.chain import submission

CLIENTS: Final = 8
PAUSE_SECONDS: Final = 0.3
"""Longest pause of a client between two submissions; pacing, so that runs are in flight and not queued."""
RETRY_SECONDS: Final = 0.02
ACCEPTED: Final = 202


@dataclass(slots=True)
class Ledger:
    """What the clients know."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    """Words by run id."""
    keyed: dict[str, str] = field(default_factory=dict)
    """Run ids by key; one a key."""
    unanswered: set[str] = field(default_factory=set)
    """Words of submissions without a key that nobody acknowledged: such a run may be or not be."""
    contradictions: list[str] = field(default_factory=list)
    """Answers that no client should ever see."""

    def answered(self, word: str, key: str | None, answer: httpx.Response) -> None:
        """Enter an answer."""
        if answer.status_code != ACCEPTED:
            self.contradictions.append(f"{answer.status_code} {answer.text}")
            return
        run_id = answer.json()["id"]
        self.acknowledged[run_id] = word
        if key is not None and self.keyed.setdefault(key, run_id) != run_id:
            self.contradictions.append(f"key {key!r} gave {run_id!r} after {self.keyed[key]!r}")


class Crowd:
    """Clients that submit for as long as they may."""

    def __init__(
        self,
        url: str,
        ledger: Ledger,
        chance: random.Random,
        *,
        refused: frozenset[int] = frozenset(),
        clients: int = CLIENTS,
        pause_seconds: float = PAUSE_SECONDS,
        body: Callable[[str], Mapping[str, Any]] = submission,
    ) -> None:
        """`refused`: answers after which a submission is repeated, for nothing was stored.
        `body`: of the submission of a word.
        """
        self.up = asyncio.Event()
        """Set while the service is there, cleared before it is killed: without it the clients wait."""
        self.urls = [url]
        """Of the processes that are there, while any is; a submission goes to one of them."""
        self._ledger = ledger
        self._chance = chance
        self._refused = refused
        self._clients = clients
        self._pause_seconds = pause_seconds
        self._body = body
        self._words = (f"word-{number}" for number in itertools.count())

    @asynccontextmanager
    async def submitting(self) -> AsyncIterator[None]:
        """Submit while the context is open; at its end the submissions in hand come to their end."""
        stop = asyncio.Event()
        limits = httpx.Limits(max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(trust_env=False, timeout=30, limits=limits) as http,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self._clients):
                group.create_task(self._client(http, stop, keyed=bool(number % 2)))
            yield
            stop.set()

    async def _client(self, http: httpx.AsyncClient, stop: asyncio.Event, *, keyed: bool) -> None:
        while not stop.is_set():
            word = next(self._words)
            await self._submit(http, word, f"key-{word}" if keyed else None)
            await asyncio.sleep(self._chance.uniform(0, self._pause_seconds))

    async def _submit(self, http: httpx.AsyncClient, word: str, key: str | None) -> None:
        """One submission, repeated if it has a key. A refused connection has submitted nothing."""
        headers = {"Idempotency-Key": key} if key else {}
        while True:
            await self.up.wait()
            url = self._chance.choice(self.urls)
            try:
                answer = await http.post(f"{url}/v1/runs", json=self._body(word), headers=headers)
            except httpx.ConnectError:
                await asyncio.sleep(RETRY_SECONDS)
            except httpx.TransportError:
                if key is None:
                    self._ledger.unanswered.add(word)
                    return
            else:
                if answer.status_code in self._refused:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                self._ledger.answered(word, key, answer)
                return
