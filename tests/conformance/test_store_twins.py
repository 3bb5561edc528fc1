"""Whatever is done to both, the memory store and a SQL store answer alike."""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from app.ports.errors import StoreError
from app.ports.runs import APPROVAL_STATUSES, Definition, IdempotencyRecord, RunFilter, StatusChange, Store
from tests.conformance.test_store import STORES
from tests.stores.samples import NOON, a_run, a_workflow, an_answer, an_approval, events

RUNS = st.sampled_from(["a", "b", "c", "d"])
TENANTS = st.sampled_from(["t1", "t2"])
NAMES = st.sampled_from(["w", "x"])
TIMES = st.integers(0, 3).map(lambda n: NOON + n / 3)
STATUSES = st.sampled_from(["pending", "running", "waiting", "paused", "cancelling", "completed", "failed"])
LABELS = st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["1", "2"]))
DEFINITIONS = st.sampled_from([Definition(hash=f"d{n}", document=b"%d" % n) for n in range(2)])
ANSWERS = st.none() | st.builds(
    an_answer,
    st.sampled_from(["k1", "k2"]),
    TENANTS,
    st.sampled_from([NOON - 86_400, NOON - 1, NOON]),
    st.binary(max_size=3),
)
WAKE_TIMES = st.none() | TIMES | st.just(math.inf)
APPROVALS = st.builds(
    an_approval,
    st.sampled_from(["a1", "a2", "a3"]),
    created_at=TIMES,
    status=st.sampled_from(sorted(APPROVAL_STATUSES)),
)
CHANGES = st.none() | st.builds(
    StatusChange,
    status=STATUSES,
    started_at=st.none() | TIMES,
    finished_at=st.none() | TIMES,
    wake_at=WAKE_TIMES,
    wakes=st.none() | RUNS,
    approvals=st.lists(APPROVALS, max_size=2),
)
FILTERS = st.builds(
    RunFilter,
    statuses=st.frozensets(STATUSES, max_size=2),
    workflow=st.none() | NAMES,
    labels=LABELS,
    created_after=st.none() | TIMES,
    created_before=st.none() | TIMES,
)
Appends = list[tuple[str, int, StatusChange | None]]


def of_run(run_id: str, change: StatusChange | None) -> StatusChange | None:
    """The change with its approvals made out to the run."""
    if change is None:
        return None
    return replace(change, approvals=[replace(row, run_id=run_id) for row in change.approvals])


Question = Callable[[Store], Awaitable[Any]]


class Twins(RuleBasedStateMachine):
    """Every rule asks both and compares the answers, the refusals included."""

    other = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="twins-"))
        self.runner = asyncio.Runner()
        self.stores: list[Store] = [STORES["memory"](self.directory), STORES[self.other](self.directory)]
        for store in self.stores:
            self.runner.run(store.open())

    def teardown(self) -> None:
        for store in self.stores:
            self.runner.run(store.close())
        self.runner.close()
        shutil.rmtree(self.directory)

    def ask(self, question: Question) -> None:
        memory, other = (self.runner.run(self._answer(question, store)) for store in self.stores)
        assert memory == other

    @staticmethod
    async def _answer(question: Question, store: Store) -> Any:
        try:
            return await question(store)
        except StoreError as error:
            return type(error)

    @rule(
        run_id=RUNS,
        tenant=TENANTS,
        name=NAMES,
        created_at=TIMES,
        status=STATUSES,
        priority=st.integers(-1, 1),
        labels=LABELS,
        count=st.integers(0, 3),
        definition=DEFINITIONS,
        answer=ANSWERS,
        key=st.none() | st.just("k"),
        parent=st.none() | RUNS,
        finished_at=st.none() | TIMES,
        change=CHANGES,
    )
    def create(
        self,
        *,
        run_id: str,
        tenant: str,
        name: str,
        created_at: float,
        status: str,
        priority: int,
        labels: dict[str, str],
        count: int,
        definition: Definition,
        answer: IdempotencyRecord | None,
        key: str | None,
        parent: str | None,
        finished_at: float | None,
        change: StatusChange | None,
    ) -> None:
        run = a_run(
            run_id,
            tenant=tenant,
            workflow=name,
            created_at=created_at,
            status=status,
            priority=priority,
            labels=labels,
            definition_hash=definition.hash,
            concurrency_key=key,
            parent_run_id=parent,
            finished_at=finished_at,
        )
        rows = events(1, count, run_id)
        also = None if change is None or not rows else replace(change, approvals=())
        self.ask(lambda store: store.runs.create(run, rows, definition, answer, change=also))

    @rule(run_id=RUNS, first=st.integers(1, 8), count=st.integers(1, 3), change=CHANGES)
    def append(self, *, run_id: str, first: int, count: int, change: StatusChange | None) -> None:
        rows = events(first, first + count - 1, run_id)
        self.ask(lambda store: store.journal.append(rows, of_run(run_id, change)))

    @rule(appends=st.lists(st.tuples(RUNS, st.integers(1, 8), CHANGES), min_size=2, max_size=6))
    def append_together(self, *, appends: Appends) -> None:
        async def together(store: Store) -> list[type]:
            writes = [
                store.journal.append(events(first, first, run_id), of_run(run_id, change))
                for run_id, first, change in appends
            ]
            results = await asyncio.gather(*writes, return_exceptions=True)
            return [type(result) for result in results]

        self.ask(together)

    @rule(run_id=RUNS, after=st.integers(0, 5), limit=st.none() | st.integers(1, 4))
    def read(self, *, run_id: str, after: int, limit: int | None) -> None:
        self.ask(lambda store: store.journal.read(run_id, after=after, limit=limit))

    @rule(tenant=TENANTS, run_id=RUNS, name=NAMES)
    def look(self, *, tenant: str, run_id: str, name: str) -> None:
        self.ask(lambda store: store.runs.get(tenant, run_id))
        self.ask(lambda store: store.runs.active_of_workflow(tenant, name))

    @rule(
        tenant=TENANTS,
        filter=FILTERS,
        limit=st.integers(1, 4),
        before=st.none() | st.tuples(TIMES, RUNS),
    )
    def list_runs(
        self, *, tenant: str, filter: RunFilter, limit: int, before: tuple[float, str] | None
    ) -> None:
        self.ask(lambda store: store.runs.list(tenant, filter, limit=limit, before=before))

    @rule(statuses=st.frozensets(STATUSES), limit=st.integers(1, 4), exclude=st.frozensets(RUNS, max_size=2))
    def queue(self, *, statuses: frozenset[str], limit: int, exclude: frozenset[str]) -> None:
        self.ask(lambda store: store.runs.unfinished(limit=limit, statuses=statuses, exclude=exclude))
        self.ask(lambda store: store.runs.count(statuses))

    @rule(
        tenant=TENANTS,
        name=NAMES,
        version=st.sampled_from(["1", "2"]),
        definition=DEFINITIONS,
        answer=ANSWERS,
        labels=LABELS,
    )
    def register(
        self,
        *,
        tenant: str,
        name: str,
        version: str,
        definition: Definition,
        answer: IdempotencyRecord | None,
        labels: dict[str, str],
    ) -> None:
        row = a_workflow(version, labels, tenant=tenant, name=name, definition_hash=definition.hash)
        self.ask(lambda store: store.workflows.register(row, definition, answer))

    @rule(tenant=TENANTS, name=NAMES)
    def delete(self, *, tenant: str, name: str) -> None:
        self.ask(lambda store: store.workflows.delete(tenant, name))

    @rule(
        tenant=TENANTS,
        name=NAMES,
        version=st.none() | st.sampled_from(["1", "2"]),
        revision=st.none() | st.integers(1, 3),
    )
    def workflows(self, *, tenant: str, name: str, version: str | None, revision: int | None) -> None:
        self.ask(lambda store: store.workflows.get(tenant, name, version))
        self.ask(lambda store: store.workflows.versions(tenant, name, limit=2, before_revision=revision))
        self.ask(lambda store: store.workflows.list(tenant, limit=1, after=version and name))

    @rule(now=TIMES, limit=st.integers(1, 3))
    def parked(self, *, now: float, limit: int) -> None:
        self.ask(lambda store: store.runs.due(now, limit=limit))
        self.ask(lambda store: store.runs.next_wake())

    @rule()
    def wake_parked(self) -> None:
        self.ask(lambda store: store.runs.wake_parked())

    @rule()
    def wake_callers(self) -> None:
        self.ask(lambda store: store.runs.wake_callers())

    @rule(tenant=TENANTS, name=NAMES, run_id=RUNS)
    def relations(self, *, tenant: str, name: str, run_id: str) -> None:
        self.ask(lambda store: store.runs.active_by_concurrency_key())
        self.ask(lambda store: store.runs.overtaken(tenant, name, "k", keep=1, limit=2))
        self.ask(lambda store: store.runs.statuses([run_id, "unknown"]))
        self.ask(lambda store: store.runs.children(tenant, run_id))

    @rule(
        tenant=TENANTS,
        statuses=st.frozensets(st.sampled_from(sorted(APPROVAL_STATUSES)), max_size=2),
        run_id=st.none() | RUNS,
        after=st.none() | st.tuples(TIMES, st.sampled_from(["a1", "a2"])),
    )
    def approvals(
        self,
        *,
        tenant: str,
        statuses: frozenset[str],
        run_id: str | None,
        after: tuple[float, str] | None,
    ) -> None:
        self.ask(lambda store: store.approvals.get(tenant, "a1"))
        self.ask(
            lambda store: store.approvals.list(tenant, statuses=statuses, run_id=run_id, limit=2, after=after)
        )

    @rule(tenant=TENANTS, key=st.sampled_from(["k1", "k2"]), value=st.binary(max_size=3), at=TIMES, now=TIMES)
    def cache(self, *, tenant: str, key: str, value: bytes, at: float, now: float) -> None:
        self.ask(lambda store: store.cache.save(tenant, key, value, expires_at=at))
        self.ask(lambda store: store.cache.find(tenant, key, now))
        self.ask(lambda store: store.cache.prune(now, limit=9))

    @rule(before=TIMES, limit=st.integers(1, 3), definition=DEFINITIONS)
    def prune_runs(self, *, before: float, limit: int, definition: Definition) -> None:
        self.ask(lambda store: store.runs.prune(before, limit=limit))
        self.ask(lambda store: store.runs.definition(definition.hash))

    @rule(answer=ANSWERS)
    def keep(self, *, answer: IdempotencyRecord | None) -> None:
        if answer is not None:
            self.ask(lambda store: store.idempotency.save(answer))
            self.ask(lambda store: store.idempotency.find(answer.tenant, answer.key))

    @rule(age=st.integers(0, 2))
    def prune(self, *, age: int) -> None:
        self.ask(lambda store: store.idempotency.prune(NOON - age))

    @rule()
    def restart(self) -> None:
        for store in self.stores:
            self.runner.run(store.close())
            self.runner.run(store.open())


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


class TwinsOnPostgresql(Twins):
    """The same, with PostgreSQL."""

    other = "postgresql"


TestTwinsOnPostgresql = TwinsOnPostgresql.TestCase
TestTwinsOnPostgresql.settings = settings(max_examples=8, stateful_step_count=30, deadline=None)
