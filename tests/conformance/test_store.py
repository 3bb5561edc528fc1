"""What every store does, over each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.ports.errors import AlreadyExists, Fenced, StoreError, StoreUnavailable
from app.ports.runs import Definition, JournalRow, RunFilter, StatusChange, Store
from app.stores.memory import MemoryStore
from app.stores.postgresql.connection import Address
from app.stores.postgresql.store import PostgresStore
from app.stores.sql.sqlite import SqliteStore
from tests.postgresql_server import database_of
from tests.stores.samples import DEFINITION, NOON, a_run, a_workflow, an_answer, an_event, events

DAY = 86_400.0
STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(now=lambda: NOON),
    "postgresql": lambda data_dir: PostgresStore(Address(url=database_of(data_dir)), now=lambda: NOON),
    "sqlite": lambda data_dir: SqliteStore(data_dir, now=lambda: NOON),
}


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = STORES[request.param](tmp_path)
    await opened.open()
    yield opened
    await opened.close()


class TestJournal:
    async def test_a_taken_seq_is_fenced_and_changes_nothing(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 3), DEFINITION)
        with pytest.raises(Fenced, match="'r1'"):
            await store.journal.append(events(3, 4), StatusChange(status="failed", finished_at=NOON))
        assert [row.seq for row in await store.journal.read("r1")] == [1, 2, 3]
        assert await store.runs.get("t1", "r1") == a_run()

    async def test_a_gap_is_fenced(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 2), DEFINITION)
        with pytest.raises(Fenced):
            await store.journal.append(events(4, 4))
        with pytest.raises(Fenced):
            await store.journal.append(events(2, 2, "unknown"))
        assert len(await store.journal.read("r1")) == 2
        assert await store.journal.read("unknown") == []

    @pytest.mark.parametrize(
        "rows",
        [
            pytest.param([an_event(2), an_event(4)], id="gap inside"),
            pytest.param([an_event(3), an_event(2)], id="backwards"),
            pytest.param([an_event(2), an_event(3, "r2")], id="two runs"),
            pytest.param([an_event(0)], id="below one"),
        ],
    )
    async def test_rows_that_do_not_belong_together_are_refused(
        self, store: Store, rows: list[JournalRow]
    ) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        with pytest.raises(ValueError, match="seq"):
            await store.journal.append(rows)
        assert len(await store.journal.read("r1")) == 1

    async def test_a_status_change_without_an_event_is_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="events"):
            await store.journal.append([], StatusChange(status="running"))
        await store.journal.append([])

    async def test_an_unknown_run_has_no_events(self, store: Store) -> None:
        assert await store.journal.read("nobody") == []

    async def test_rows_come_back_as_they_were_given(self, store: Store) -> None:
        payload = '{ "text": "Ünïcode 🎈 \\u0000 and\\n spaces" }'.encode()
        row = replace(an_event(1, payload=payload), at=1_732_270_000.1234567)
        await store.runs.create(a_run(), [row], DEFINITION)
        assert await store.journal.read("r1") == [row]

    async def test_a_read_ends_with_the_event_that_exceeds_its_bytes(self, store: Store) -> None:
        rows = [replace(row, payload=b'{"a":"%s"}' % (b"x" * 100)) for row in events(1, 5)]
        await store.runs.create(a_run(), rows, DEFINITION)
        read = store.journal.read
        assert await read("r1", max_bytes=0) == rows[:1]
        assert await read("r1", after=1, max_bytes=250) == rows[1:4]
        assert await read("r1", after=1, limit=2, max_bytes=250) == rows[1:3]
        assert await read("r1", after=5, max_bytes=250) == []

    async def test_reads_page_by_seq(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        await store.journal.append(events(2, 3))
        await store.journal.append(events(4, 6))
        assert await store.journal.read("r1") == events(1, 6)
        assert await store.journal.read("r1", after=2, limit=3) == events(3, 5)
        assert await store.journal.read("r1", after=6) == []

    async def test_concurrent_appends_of_one_seq_let_exactly_one_in(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        rivals = [store.journal.append([an_event(2, payload=b"%d" % n)]) for n in range(20)]
        results = await asyncio.gather(*rivals, return_exceptions=True)
        assert results.count(None) == 1
        assert sum(isinstance(result, Fenced) for result in results) == 19
        assert len(await store.journal.read("r1")) == 2

    async def test_one_refused_append_does_not_harm_the_others_of_its_batch(self, store: Store) -> None:
        for n in range(30):
            await store.runs.create(a_run(f"r{n}"), events(1, 1, f"r{n}"), DEFINITION)
        writes = [store.journal.append([an_event(9 if n == 13 else 2, f"r{n}")]) for n in range(30)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert [n for n, result in enumerate(results) if isinstance(result, Fenced)] == [13]
        assert results.count(None) == 29
        for n in range(30):
            assert len(await store.journal.read(f"r{n}")) == (1 if n == 13 else 2)

    async def test_a_status_change_goes_out_with_its_events(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        await store.journal.append(events(2, 2), StatusChange(status="running", started_at=NOON + 1))
        assert await store.runs.get("t1", "r1") == a_run(status="running", started_at=NOON + 1)
        await store.journal.append(events(3, 3), StatusChange(status="completed", finished_at=NOON + 2))
        finished = a_run(status="completed", started_at=NOON + 1, finished_at=NOON + 2)
        assert await store.runs.get("t1", "r1") == finished

    async def test_changes_of_one_run_in_one_batch_add_up_in_order(self, store: Store) -> None:
        await asyncio.gather(
            store.runs.create(a_run(), events(1, 1), DEFINITION),
            store.journal.append(events(2, 2), StatusChange(status="running", started_at=NOON + 1)),
            store.journal.append(events(3, 4), StatusChange(status="failed", finished_at=NOON + 2)),
        )
        assert await store.journal.read("r1") == events(1, 4)
        finished = a_run(status="failed", started_at=NOON + 1, finished_at=NOON + 2)
        assert await store.runs.get("t1", "r1") == finished

    async def test_a_cancelled_caller_does_not_undo_or_break_the_batch(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        await store.runs.create(a_run("r2"), events(1, 1, "r2"), DEFINITION)
        leaving = asyncio.create_task(store.journal.append(events(2, 2)))
        staying = asyncio.create_task(store.journal.append(events(2, 2, "r2")))
        await asyncio.sleep(0)
        leaving.cancel()
        await staying
        await asyncio.gather(leaving, return_exceptions=True)
        assert len(await store.journal.read("r2")) == 2
        await store.journal.append(events(3, 3))


class TestRuns:
    async def test_a_second_run_of_the_same_id_is_refused_whole(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 2), DEFINITION)
        other = Definition(hash="d2", document=b"{}")
        again = a_run(definition_hash="d2", tenant="t2")
        with pytest.raises(AlreadyExists, match="'r1'"):
            await store.runs.create(again, events(1, 3), other, an_answer())
        assert await store.runs.get("t1", "r1") == a_run()
        assert await store.runs.get("t2", "r1") is None
        assert len(await store.journal.read("r1")) == 2
        assert await store.runs.definition("d2") is None
        assert await store.idempotency.find("t1", "k1") is None

    async def test_a_taken_key_refuses_the_run_whole(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION, an_answer())
        with pytest.raises(AlreadyExists, match="'k1'"):
            await store.runs.create(a_run("r2"), events(1, 1, "r2"), DEFINITION, an_answer(body=b"second"))
        assert await store.runs.get("t1", "r2") is None
        assert await store.journal.read("r2") == []
        assert await store.idempotency.find("t1", "k1") == an_answer()

    async def test_of_a_hundred_concurrent_creates_under_one_key_one_wins(self, store: Store) -> None:
        creates = [
            store.runs.create(a_run(f"r{n}"), events(1, 1, f"r{n}"), DEFINITION, an_answer(body=b"%d" % n))
            for n in range(100)
        ]
        results = await asyncio.gather(*creates, return_exceptions=True)
        assert results.count(None) == 1
        assert sum(isinstance(result, AlreadyExists) for result in results) == 99
        (run,) = await store.runs.list("t1", RunFilter(), limit=100)
        kept = await store.idempotency.find("t1", "k1")
        assert kept is not None
        assert run.id == f"r{kept.body.decode()}"

    async def test_first_events_of_another_run_or_seq_are_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="'r1'"):
            await store.runs.create(a_run(), events(1, 1, "r2"), DEFINITION)
        with pytest.raises(ValueError, match="seq 1"):
            await store.runs.create(a_run(), events(2, 2), DEFINITION)
        assert await store.runs.get("t1", "r1") is None

    async def test_another_tenant_s_run_does_not_exist(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        assert await store.runs.get("t2", "r1") is None
        assert await store.runs.list("t2", RunFilter(), limit=10) == []
        assert await store.runs.active_of_workflow("t2", "w") == 0

    async def test_a_run_comes_back_as_it_was_given(self, store: Store) -> None:
        run = a_run(
            labels={"team": "search", 'odd "key".$': "ü"},
            priority=-3,
            parent_run_id="r0",
            created_at=1_732_270_000.1234567,
        )
        await store.runs.create(run, events(1, 1), DEFINITION)
        assert await store.runs.get("t1", "r1") == run
        assert await store.runs.list("t1", RunFilter(), limit=10) == [run]

    async def test_a_definition_is_stored_once_and_read_by_its_hash(self, store: Store) -> None:
        assert await store.runs.definition("d1") is None
        for n in range(3):
            await store.runs.create(a_run(f"r{n}"), events(1, 1, f"r{n}"), DEFINITION)
        assert await store.runs.definition("d1") == DEFINITION

    async def test_reads_see_every_acknowledged_write(self, store: Store) -> None:
        async def one(n: int) -> None:
            run = a_run(f"r{n}")
            await store.runs.create(run, events(1, 1, run.id), DEFINITION)
            assert await store.runs.get("t1", run.id) == run
            await store.journal.append(events(2, 2, run.id))
            assert len(await store.journal.read(run.id)) == 2

        await asyncio.gather(*(one(n) for n in range(50)))


class TestLists:
    async def test_newest_first_with_ties_broken_by_id(self, store: Store) -> None:
        ages = {"b": NOON, "a": NOON, "d": NOON - 1, "c": NOON + 1}
        for run_id, created_at in ages.items():
            await store.runs.create(a_run(run_id, created_at=created_at), events(1, 1, run_id), DEFINITION)
        listed = await store.runs.list("t1", RunFilter(), limit=10)
        assert [run.id for run in listed] == ["c", "b", "a", "d"]

    async def test_pages_follow_one_another_without_gap_or_repeat(self, store: Store) -> None:
        for n in range(25):
            run = a_run(f"r{n:02}", created_at=NOON + n // 3 / 7, labels={"even": str(n % 2)})
            await store.runs.create(run, events(1, 1, run.id), DEFINITION)
        for chosen in (RunFilter(), RunFilter(labels={"even": "1"}), RunFilter(workflow="w")):
            everything = await store.runs.list("t1", chosen, limit=100)
            paged: list[str] = []
            before = None
            while page := await store.runs.list("t1", chosen, limit=4, before=before):
                paged += [run.id for run in page]
                before = (page[-1].created_at, page[-1].id)
            assert paged == [run.id for run in everything]

    @pytest.mark.parametrize(
        ("filter", "expected"),
        [
            (RunFilter(statuses=frozenset({"failed"})), {"r2"}),
            (RunFilter(statuses=frozenset({"failed", "pending"})), {"r1", "r2"}),
            (RunFilter(workflow="other"), {"r3"}),
            (RunFilter(workflow="nobody's"), set()),
            (RunFilter(labels={"team": "a"}), {"r2", "r3"}),
            (RunFilter(labels={"team": "a", "env": "prod"}), {"r3"}),
            (RunFilter(labels={"team": "a", "env": "test"}), set()),
            (RunFilter(labels={"team": "a"}, workflow="other"), {"r3"}),
            (RunFilter(created_after=NOON + 1), {"r2", "r3"}),
            (RunFilter(created_before=NOON + 3), {"r1", "r2"}),
            (RunFilter(created_after=NOON + 1, created_before=NOON + 3), {"r2"}),
            (
                RunFilter(labels={"team": "a"}, created_before=NOON + 3, statuses=frozenset({"failed"})),
                {"r2"},
            ),
        ],
    )
    async def test_every_filter_that_is_set_must_hold(
        self, store: Store, filter: RunFilter, expected: set[str]
    ) -> None:
        for run in (
            a_run("r1", created_at=NOON + 1),
            a_run("r2", created_at=NOON + 2, status="failed", labels={"team": "a"}),
            a_run(
                "r3",
                created_at=NOON + 3,
                status="completed",
                workflow="other",
                labels={"team": "a", "env": "prod"},
            ),
            a_run("r4", tenant="t2", created_at=NOON + 2, status="failed", labels={"team": "a"}),
        ):
            await store.runs.create(run, events(1, 1, run.id), DEFINITION)
        assert {run.id for run in await store.runs.list("t1", filter, limit=10)} == expected

    async def test_the_queue_is_ordered_by_priority_then_age(self, store: Store) -> None:
        for run in (
            a_run("late", created_at=NOON + 2),
            a_run("early", created_at=NOON + 1),
            a_run("urgent", created_at=NOON + 3, priority=5, tenant="t2"),
            a_run("begun", created_at=NOON, status="running", priority=-1),
            a_run("done", status="completed", priority=9),
        ):
            await store.runs.create(run, events(1, 1, run.id), DEFINITION)
        both = frozenset({"pending", "running"})
        queue = await store.runs.unfinished(limit=10, statuses=both)
        assert [run.id for run in queue] == ["urgent", "early", "late", "begun"]
        short = await store.runs.unfinished(limit=2, statuses=both, exclude=frozenset({"urgent", "other"}))
        assert [run.id for run in short] == ["early", "late"]
        done = await store.runs.unfinished(limit=2, statuses=frozenset({"completed"}))
        assert [run.id for run in done] == ["done"]
        assert await store.runs.unfinished(limit=2, statuses=frozenset()) == []

    async def test_counts_follow_the_statuses(self, store: Store) -> None:
        for n, status in enumerate(("pending", "pending", "running", "failed")):
            run = a_run(f"r{n}", status=status, tenant=f"t{n % 2 + 1}")
            await store.runs.create(run, events(1, 1, run.id), DEFINITION)
        assert await store.runs.count(frozenset({"pending"})) == 2
        assert await store.runs.count(frozenset({"pending", "running", "failed"})) == 4
        assert await store.runs.count(frozenset()) == 0
        assert await store.runs.active_of_workflow("t1", "w") == 2
        await store.journal.append(events(2, 2, "r0"), StatusChange(status="cancelled", finished_at=NOON))
        assert await store.runs.count(frozenset({"pending"})) == 1
        assert await store.runs.active_of_workflow("t1", "w") == 1


class TestWorkflows:
    async def test_a_registered_version_is_refused_and_kept(self, store: Store) -> None:
        await store.workflows.register(a_workflow(), DEFINITION)
        other = Definition(hash="d2", document=b"{}")
        with pytest.raises(AlreadyExists, match="'1'"):
            await store.workflows.register(a_workflow(definition_hash="d2"), other, an_answer())
        assert await store.workflows.get("t1", "w", "1") == a_workflow(revision=1)
        assert await store.runs.definition("d2") is None
        assert await store.idempotency.find("t1", "k1") is None

    async def test_a_taken_key_refuses_the_registration(self, store: Store) -> None:
        await store.workflows.register(a_workflow(), DEFINITION, an_answer())
        with pytest.raises(AlreadyExists, match="'k1'"):
            await store.workflows.register(a_workflow("2"), DEFINITION, an_answer())
        assert await store.workflows.get("t1", "w", "2") is None

    async def test_concurrent_registrations_get_revisions_without_gap(self, store: Store) -> None:
        rows = await asyncio.gather(
            *(store.workflows.register(a_workflow(f"v{n}"), DEFINITION) for n in range(10))
        )
        assert sorted(row.revision for row in rows) == list(range(1, 11))

    async def test_the_version_registered_last_is_the_current_one(self, store: Store) -> None:
        assert await store.workflows.get("t1", "w") is None
        labels = {"team": "search"}
        first = await store.workflows.register(a_workflow("2.0", labels, description="new"), DEFINITION)
        second = await store.workflows.register(a_workflow("1.0"), DEFINITION)
        assert (first.revision, second.revision) == (1, 2)
        assert await store.workflows.get("t1", "w") == second
        assert await store.workflows.get("t1", "w", "2.0") == first
        assert await store.workflows.versions("t1", "w", limit=10) == [second, first]
        assert await store.workflows.versions("t1", "w", limit=1) == [second]
        assert await store.workflows.versions("t1", "w", limit=10, before_revision=2) == [first]

    async def test_lists_the_newest_version_of_each_name_in_pages(self, store: Store) -> None:
        for name in ("c", "a", "b"):
            for version in ("1", "2"):
                await store.workflows.register(a_workflow(version, name=name), DEFINITION)
        await store.workflows.register(a_workflow("9", name="a", tenant="t2"), DEFINITION)
        page = await store.workflows.list("t1", limit=2)
        assert [(row.name, row.version) for row in page] == [("a", "2"), ("b", "2")]
        rest = await store.workflows.list("t1", limit=2, after="b")
        assert [(row.name, row.version) for row in rest] == [("c", "2")]

    async def test_tenants_do_not_see_or_disturb_one_another(self, store: Store) -> None:
        await store.workflows.register(a_workflow(), DEFINITION)
        assert await store.workflows.get("t2", "w") is None
        assert await store.workflows.versions("t2", "w", limit=10) == []
        assert await store.workflows.delete("t2", "w") == 0
        assert (await store.workflows.register(a_workflow(tenant="t2"), DEFINITION)).revision == 1
        assert await store.workflows.get("t1", "w") is not None

    async def test_deleting_forgets_every_version_but_no_definition(self, store: Store) -> None:
        for version in ("1", "2"):
            await store.workflows.register(a_workflow(version), DEFINITION)
        assert await store.workflows.delete("t1", "w") == 2
        assert await store.workflows.delete("t1", "w") == 0
        assert await store.workflows.get("t1", "w") is None
        assert await store.runs.definition("d1") == DEFINITION
        assert (await store.workflows.register(a_workflow("1"), DEFINITION)).revision == 1


class TestIdempotency:
    async def test_a_taken_key_is_refused(self, store: Store) -> None:
        await store.idempotency.save(an_answer(body=b"first"))
        with pytest.raises(AlreadyExists, match="'k1'"):
            await store.idempotency.save(an_answer(body=b"second"))
        assert await store.idempotency.find("t1", "k1") == an_answer(body=b"first")

    async def test_keys_belong_to_a_tenant(self, store: Store) -> None:
        await store.idempotency.save(an_answer())
        assert await store.idempotency.find("t2", "k1") is None
        await store.idempotency.save(an_answer(tenant="t2"))

    async def test_an_expired_answer_is_gone_and_its_key_free(self, store: Store) -> None:
        old = an_answer(created_at=NOON - DAY, body=b"old")
        await store.runs.create(a_run(), events(1, 1), DEFINITION, old)
        await store.idempotency.save(an_answer("k2", created_at=NOON - DAY))
        await store.idempotency.save(an_answer("k3", created_at=NOON - DAY + 1))
        assert await store.idempotency.find("t1", "k1") is None
        assert await store.idempotency.find("t1", "k3") is not None
        await store.runs.create(a_run("r2"), events(1, 1, "r2"), DEFINITION, an_answer())
        await store.idempotency.save(an_answer("k2"))
        assert await store.idempotency.find("t1", "k1") == an_answer()
        assert await store.idempotency.find("t1", "k2") == an_answer("k2")

    async def test_prune_deletes_only_what_is_older(self, store: Store) -> None:
        for age in range(5):
            await store.idempotency.save(an_answer(f"k{age}", created_at=NOON - age))
        assert await store.idempotency.prune(NOON - 2) == 2
        assert await store.idempotency.prune(NOON - 2) == 0
        assert await store.idempotency.find("t1", "k2") is not None
        assert await store.idempotency.find("t1", "k3") is None


class TestLife:
    async def test_a_closed_store_refuses_everything(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.journal.append(events(2, 2))
        with pytest.raises(StoreUnavailable):
            await store.runs.create(a_run("r2"), [], DEFINITION)
        with pytest.raises(StoreUnavailable):
            await store.journal.read("r1")
        with pytest.raises(StoreError):
            await store.check()

    async def test_closing_stores_what_waits_and_opening_finds_it(self, store: Store) -> None:
        creates = [
            asyncio.create_task(store.runs.create(a_run(f"r{n}"), events(1, 2, f"r{n}"), DEFINITION))
            for n in range(100)
        ]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*creates)
        await store.open()
        assert await store.runs.count(frozenset({"pending"})) == 100
        await store.journal.append(events(3, 3, "r7"))
        with pytest.raises(Fenced):
            await store.journal.append(events(5, 5, "r8"))

    async def test_an_open_store_passes_its_check(self, store: Store) -> None:
        await store.check()
        await store.check()
