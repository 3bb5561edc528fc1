"""Whatever is done to both, the memory store and the SQLite store answer alike."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from app.ports.errors import StoreError
from app.ports.runs import Definition, IdempotencyRecord, RunFilter, StatusChange, Store
from app.stores.memory import MemoryStore
from app.stores.sql.sqlite import SqliteStore
from tests.stores.samples import NOON, a_run, a_workflow, an_answer, events

RUNS = st.sampled_from(["a", "b", "c", "d"])
TENANTS = st.sampled_from(["t1", "t2"])
NAMES = st.sampled_from(["w", "x"])
TIMES = st.integers(0, 3).map(lambda n: NOON + n / 3)
STATUSES = st.sampled_from(["pending", "running", "paused", "completed", "failed"])
LABELS = st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["1", "2"]))
DEFINITIONS = st.sampled_from([Definition(hash=f"d{n}", document=b"%d" % n) for n in range(2)])
ANSWERS = st.none() | st.builds(
    an_answer,
    st.sampled_from(["k1", "k2"]),
    TENANTS,
    st.sampled_from([NOON - 86_400, NOON - 1, NOON]),
    st.binary(max_size=3),
)
CHANGES = st.none() | st.builds(
    StatusChange, status=STATUSES, started_at=st.none() | TIMES, finished_at=st.none() | TIMES
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
Question = Callable[[Store], Awaitable[Any]]


class Twins(RuleBasedStateMachine):
    """Every rule asks both and compares the answers, the refusals included."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="twins-"))
        self.runner = asyncio.Runner()
        self.stores: list[Store] = [
            MemoryStore(now=lambda: NOON),
            SqliteStore(self.directory, now=lambda: NOON),
        ]
        for store in self.stores:
            self.runner.run(store.open())

    def teardown(self) -> None:
        for store in self.stores:
            self.runner.run(store.close())
        self.runner.close()
        shutil.rmtree(self.directory)

    def ask(self, question: Question) -> None:
        memory, sqlite = (self.runner.run(self._answer(question, store)) for store in self.stores)
        assert memory == sqlite

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
        )
        self.ask(lambda store: store.runs.create(run, events(1, count, run_id), definition, answer))

    @rule(run_id=RUNS, first=st.integers(1, 8), count=st.integers(1, 3), change=CHANGES)
    def append(self, *, run_id: str, first: int, count: int, change: StatusChange | None) -> None:
        rows = events(first, first + count - 1, run_id)
        self.ask(lambda store: store.journal.append(rows, change))

    @rule(appends=st.lists(st.tuples(RUNS, st.integers(1, 8), CHANGES), min_size=2, max_size=6))
    def append_together(self, *, appends: Appends) -> None:
        async def together(store: Store) -> list[type]:
            writes = [
                store.journal.append(events(first, first, run_id), change)
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
