"""Accepts many runs at once: all of them go into the queue in one transaction, or none does.

None of them starts on the way in, however many places are free: the queue takes them up by priority and
age, as it takes up any other. What does not belong here: checking inputs (services), starting (uptake).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from app.core import events as e
from app.dsl.compiled import ConcurrencyRule
from app.engines.backlog import Backlog
from app.engines.codec import encode
from app.engines.concurrency import ConcurrencyBook, key_of, sharing
from app.engines.decisions import Decisions
from app.engines.engine import LimitReached, Overloaded, Submission
from app.engines.pace import Pace
from app.engines.submitted import submitted_data
from app.ports.errors import InputsInvalid
from app.ports.runs import JournalRow, RunRow, RunStore

log = structlog.get_logger(__name__)

LIMIT_RETRY_SECONDS: Final = 5
"""When to come back to a key whose places are taken."""


class BulkIntake:
    """Of one engine. `displace` is told of the last run of each key that takes the place of others."""

    def __init__(
        self,
        *,
        runs: RunStore,
        decisions: Decisions,
        backlog: Backlog,
        concurrency: ConcurrencyBook,
        max_pending: int,
        displace: Callable[[RunRow, ConcurrencyRule], None],
    ) -> None:
        self._runs = runs
        self._decisions = decisions
        self._backlog = backlog
        self._concurrency = concurrency
        self._max_pending = max_pending
        self._displace = displace

    def admit(self, count: int, *, retry_after: int) -> None:
        """Take places for this many runs. Raises `Overloaded` if they do not all fit."""
        if count > self._max_pending:
            raise Overloaded(
                f"{count} runs at once are more than may wait ({self._max_pending}); send fewer at a time",
                retry_after=retry_after,
            )
        if self._backlog.size + count > self._max_pending:
            raise Overloaded(
                f"{self._backlog.size} runs are waiting already, and {self._max_pending} may; {count} more "
                "do not fit: try again later, or send fewer at a time",
                retry_after=retry_after,
            )
        self._backlog.admitted(count)

    async def _keyed(self, submissions: Sequence[Submission], rule: ConcurrencyRule) -> Sequence[Submission]:
        """The submissions with their concurrency keys."""
        pace = Pace()
        keyed = []
        for position, submission in enumerate(submissions):
            try:
                value = await self._decisions.concurrency_key(rule, submission.inputs)
            except InputsInvalid as error:
                raise InputsInvalid(
                    [replace(one, pointer=f"/{position}/inputs{one.pointer}") for one in error.problems]
                ) from error
            keyed.append(replace(submission, run=replace(submission.run, concurrency_key=value)))
            await pace.keep()
        return keyed

    async def _refuse_too_many(self, submissions: Sequence[Submission], rule: ConcurrencyRule) -> None:
        for run, count in self._last_of_keys(submissions):
            key = key_of(run)
            under_way = self._concurrency.active(key)
            if under_way + count > rule.limit:
                others = f"{under_way} are, so {count} more are too many"
            elif await self._concurrency.spoken_for(key, limit=rule.limit, count=count):
                others = f"with those that are about to begin, {count} more are too many"
            else:
                continue
            raise LimitReached(
                f"of the runs of {sharing(run)} at most {rule.limit} may be under way; {others}",
                retry_after=LIMIT_RETRY_SECONDS,
            )

    def _last_of_keys(self, submissions: Sequence[Submission]) -> Sequence[tuple[RunRow, int]]:
        """Of every key the last run, and how many there are."""
        counts = Counter(key_of(one.run) for one in submissions)
        last = {key_of(one.run): one.run for one in submissions}
        return [(run, counts[key]) for key, run in last.items()]

    async def store(
        self,
        submissions: Sequence[Submission],
        rule: ConcurrencyRule | None,
        traceparent: str | None,
        accepted: asyncio.Future[None],
    ) -> bool:
        """Store runs whose places are taken, and tell whoever waits; whether they are stored.

        `accepted` raises `LimitReached` where the rule refuses runs and these would be too many,
        `InputsInvalid` with pointers that begin with the position of a submission, and `StoreError`.
        """
        count = len(submissions)
        try:
            if rule is None:
                await self._create(submissions, traceparent)
            else:
                submissions = await self._keyed(submissions, rule)
                keys = [key for one in submissions if (key := key_of(one.run)) is not None]
                async with self._concurrency.in_turn(rule, *keys):
                    if not self._concurrency.kept:
                        await self._concurrency.look()
                    if rule.on_limit == "reject":
                        await self._refuse_too_many(submissions, rule)
                    await self._create(submissions, traceparent)
        except BaseException as error:
            self._backlog.refused(count)
            if isinstance(error, asyncio.CancelledError):
                accepted.cancel()
                raise
            if accepted.done():
                log.warning("submissions.refused", runs=count, error=type(error).__name__)
            else:
                accepted.set_exception(error)
            return False
        self._backlog.stored(count)
        if not accepted.done():
            accepted.set_result(None)
        if rule is not None and rule.on_limit == "cancel_oldest":
            for run, count in self._last_of_keys(submissions):
                if self._concurrency.active(key_of(run)) + count > rule.limit:
                    self._displace(run, rule)
        return True

    async def _create(self, submissions: Sequence[Submission], traceparent: str | None) -> None:
        pace = Pace()
        rows: list[JournalRow] = []
        for submission in submissions:
            run = submission.run
            data = submitted_data(submission) | {"traceparent": traceparent}
            rows.append(encode(run.id, 1, e.RunSubmitted(at=run.created_at), data))
            await pace.keep()
        first = submissions[0]
        await self._runs.create_many(
            [one.run for one in submissions], rows, first.definition, first.idempotency
        )
