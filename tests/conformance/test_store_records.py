"""What every store does with approvals, the step cache, and runs that have had their time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.ports.errors import StoreError, StoreUnavailable
from app.ports.runs import ApprovalRow, Definition, RunFilter, RunRow, StatusChange, Store
from tests.conformance.test_store import STORES
from tests.stores.samples import DEFINITION, NOON, a_run, a_workflow, an_answer, an_approval, events

PENDING = frozenset({"pending"})
ANY = frozenset[str]()


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = STORES[request.param](tmp_path)
    await opened.open()
    yield opened
    await opened.close()


def waiting(*approvals: ApprovalRow) -> StatusChange:
    return StatusChange(status="waiting", approvals=approvals)


def ended(run_id: str, at: float, **changes: Any) -> RunRow:
    return a_run(run_id, status="completed", finished_at=at, **changes)


class TestApprovals:
    async def test_approvals_of_another_run_or_of_two_tenants_are_refused(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        for wrong in (
            waiting(an_approval(run_id="r2")),
            waiting(an_approval(), an_approval("a2", tenant="t2")),
        ):
            with pytest.raises(ValueError, match="approvals"):
                await store.journal.append(events(2, 2), wrong)
        change = waiting(an_approval(tenant="t2", run_id="r2"))
        with pytest.raises(ValueError, match="approvals"):
            await store.runs.create(a_run("r2"), events(1, 1, "r2"), DEFINITION, change=change)
        assert len(await store.journal.read("r1")) == 1
        assert await store.approvals.list("t1", statuses=ANY, limit=10) == []

    async def test_a_fenced_write_stores_no_approval(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        with pytest.raises(StoreError):
            await store.journal.append(events(7, 7), waiting(an_approval()))
        assert await store.approvals.get("t1", "a1") is None

    async def test_another_tenant_s_approval_does_not_exist(self, store: Store) -> None:
        await store.runs.create(a_run(), events(1, 1), DEFINITION, change=waiting(an_approval()))
        assert await store.approvals.get("t2", "a1") is None
        assert await store.approvals.list("t2", statuses=ANY, limit=10) == []
        assert await store.approvals.list("t2", statuses=ANY, run_id="r1", limit=10) == []

    async def test_an_approval_comes_back_as_it_was_given(self, store: Store) -> None:
        plain = an_approval("a2", form=None, expires_at=None)
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
        await store.journal.append(events(2, 2), waiting(an_approval(), plain))
        assert await store.approvals.get("t1", "a1") == an_approval()
        assert await store.approvals.get("t1", "a2") == plain

    async def test_a_later_state_replaces_an_earlier_one(self, store: Store) -> None:
        answered = an_approval(status="answered", action="approve", answered_by="key-1", answered_at=NOON + 1)
        await store.runs.create(a_run(), events(1, 1), DEFINITION, change=waiting(an_approval()))
        await asyncio.gather(
            store.journal.append(events(2, 2), waiting(an_approval(status="expired"))),
            store.journal.append(events(3, 3), waiting(answered)),
        )
        assert await store.approvals.get("t1", "a1") == answered
        assert await store.approvals.list("t1", statuses=PENDING, limit=10) == []

    async def test_pages_follow_one_another_oldest_first(self, store: Store) -> None:
        rows = [
            an_approval(
                f"a{n:02}", created_at=NOON + n // 3 / 7, status="expired" if n % 4 == 0 else "pending"
            )
            for n in range(20)
        ]
        await store.runs.create(a_run(), events(1, 1), DEFINITION, change=waiting(*reversed(rows)))
        for statuses, run_id in ((ANY, None), (PENDING, None), (PENDING, "r1"), (ANY, "r1")):
            paged: list[ApprovalRow] = []
            after = None
            while page := await store.approvals.list(
                "t1", statuses=statuses, run_id=run_id, limit=3, after=after
            ):
                paged += page
                after = (page[-1].created_at, page[-1].id)
            assert paged == [row for row in rows if not statuses or row.status in statuses]
        assert await store.approvals.list("t1", statuses=ANY, run_id="r2", limit=3) == []


class TestCache:
    async def test_what_is_not_there_or_expired_is_not_found(self, store: Store) -> None:
        await store.cache.save("t1", "k", b"value", expires_at=NOON + 1)
        assert await store.cache.find("t1", "other", NOON) is None
        assert await store.cache.find("t2", "k", NOON) is None
        assert await store.cache.find("t1", "k", NOON + 1) is None
        assert await store.cache.find("t1", "k", NOON) == b"value"

    @pytest.mark.parametrize("size", [0, 1000, 16 * 1024 * 1024])
    async def test_a_later_value_replaces_an_earlier_one(self, store: Store, size: int) -> None:
        await store.cache.save("t1", "k", b"first", expires_at=NOON)
        await store.cache.save("t1", "k", b"x" * size, expires_at=NOON + 1)
        assert await store.cache.find("t1", "k", NOON) == b"x" * size

    async def test_of_values_kept_at_once_under_one_key_the_last_stays(self, store: Store) -> None:
        saves = [store.cache.save("t1", "k", b"%d" % n, expires_at=NOON + 1) for n in range(20)]
        await asyncio.gather(*saves, store.runs.create(a_run(), events(1, 1), DEFINITION))
        assert await store.cache.find("t1", "k", NOON) == b"19"

    async def test_prune_deletes_what_expired_first_up_to_its_limit(self, store: Store) -> None:
        for n in range(5):
            await store.cache.save("t1", f"k{n}", b"v", expires_at=NOON + n)
        assert await store.cache.prune(NOON + 3, limit=3) == 3
        assert await store.cache.find("t1", "k2", NOON - 9) is None
        assert await store.cache.find("t1", "k3", NOON - 9) == b"v"
        assert await store.cache.prune(NOON + 3, limit=3) == 1
        assert await store.cache.prune(NOON + 3, limit=3) == 0
        assert await store.cache.find("t1", "k4", NOON) == b"v"

    async def test_a_closed_store_refuses_them_all(self, store: Store) -> None:
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.cache.save("t1", "k", b"", expires_at=NOON)
        with pytest.raises(StoreUnavailable):
            await store.approvals.get("t1", "a1")
        with pytest.raises(StoreUnavailable):
            await store.runs.prune(NOON, limit=1)


class TestPrune:
    async def test_runs_that_ended_later_or_not_at_all_stay(self, store: Store) -> None:
        stay = [
            ended("later", NOON),
            a_run("waiting", status="waiting", created_at=0),
            a_run("odd", status="failed"),
            a_run("resumed", status="running", finished_at=NOON - 5),
        ]
        for run in stay:
            await store.runs.create(run, events(1, 1, run.id), DEFINITION)
        assert await store.runs.prune(NOON, limit=10) == 0
        assert {run.id for run in await store.runs.list("t1", RunFilter(), limit=10)} == {r.id for r in stay}

    async def test_the_oldest_go_first_with_all_that_belongs_to_them(self, store: Store) -> None:
        approval = an_approval(run_id="r2")
        labels = {"team": "a"}
        for run_id, at in (("r1", NOON - 1), ("r2", NOON - 3), ("r3", NOON - 2)):
            run = ended(run_id, at, labels=labels)
            change = StatusChange(status="completed", approvals=(approval,)) if run_id == "r2" else None
            record = an_answer(f"key-{run_id}")
            await store.runs.create(run, events(1, 3, run_id), DEFINITION, record, change=change)
        assert await store.runs.prune(NOON, limit=2) == 2
        assert await store.runs.get("t1", "r2") is None
        assert await store.journal.read("r2") == []
        assert await store.approvals.get("t1", "a1") is None
        left = await store.runs.list("t1", RunFilter(labels=labels), limit=10)
        assert [run.id for run in left] == ["r1"]
        assert await store.journal.read("r1") == events(1, 3)
        assert await store.idempotency.find("t1", "key-r2") is not None
        assert await store.runs.prune(NOON, limit=2) == 1
        assert await store.runs.prune(NOON, limit=2) == 0

    async def test_a_run_whose_caller_has_not_ended_stays_until_then(self, store: Store) -> None:
        await store.runs.create(a_run("caller", status="waiting"), events(1, 1, "caller"), DEFINITION)
        child = ended("child", NOON - 5, parent_run_id="caller")
        await store.runs.create(child, events(1, 1, "child"), DEFINITION)
        assert await store.runs.prune(NOON, limit=10) == 0
        change = StatusChange(status="completed", finished_at=NOON)
        await store.journal.append(events(2, 2, "caller"), change)
        assert await store.runs.prune(NOON, limit=10) == 1
        assert await store.runs.get("t1", "caller") is not None

    async def test_a_rerun_outlives_the_run_it_repeats(self, store: Store) -> None:
        again = a_run("again", parent_run_id="first")
        await store.runs.create(ended("first", NOON - 5), events(1, 1, "first"), DEFINITION)
        await store.runs.create(again, events(1, 1, "again"), DEFINITION)
        assert await store.runs.prune(NOON, limit=10) == 1
        assert await store.runs.get("t1", "again") == again

    async def test_definitions_go_with_the_last_that_names_them(self, store: Store) -> None:
        shared, registered = Definition(hash="d2", document=b"{}"), Definition(hash="d3", document=b"[]")
        await store.workflows.register(a_workflow(definition_hash="d3"), registered)
        for n, definition in enumerate((DEFINITION, shared, shared, registered)):
            run = ended(f"r{n}", NOON - 9 + n, definition_hash=definition.hash)
            await store.runs.create(run, events(1, 1, run.id), definition)
        await store.runs.prune(NOON, limit=2)
        assert await store.runs.definition("d1") is None
        assert await store.runs.definition("d2") == shared
        await store.runs.prune(NOON, limit=2)
        assert await store.runs.definition("d2") is None
        assert await store.runs.definition("d3") == registered
        await store.workflows.delete("t1", "w")
        await store.runs.prune(NOON, limit=2)
        assert await store.runs.definition("d3") is None

    async def test_what_was_deleted_can_be_stored_again(self, store: Store) -> None:
        run = ended("r1", NOON - 1)
        await store.runs.create(run, events(1, 4), DEFINITION)
        await store.runs.prune(NOON, limit=2)
        with pytest.raises(StoreError):
            await store.journal.append(events(5, 5))
        assert await store.journal.read("r1") == []
        await store.runs.create(replace(run, status="pending", finished_at=None), events(1, 1), DEFINITION)
        assert await store.runs.definition("d1") == DEFINITION
        await store.journal.append(events(2, 2))
