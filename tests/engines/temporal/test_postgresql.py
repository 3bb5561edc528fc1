"""The same promises with the journal in PostgreSQL, and workers that share no folder."""

from __future__ import annotations

import pytest

from tests.engines.temporal import test_faults as faults
from tests.engines.temporal import test_runs as runs
from tests.engines.temporal.cluster import Cluster

pytestmark = [pytest.mark.temporal, pytest.mark.timeout(180)]


def named(promise: runs.Promise) -> str:
    return promise.__name__.removeprefix("test_")


@pytest.mark.parametrize(
    "promise",
    [
        runs.test_a_run_is_executed_by_a_worker_and_followed_through_the_api,
        runs.test_cancelling_closes_the_socket_of_the_call,
        faults.test_a_frozen_worker_loses_its_run_and_writes_nothing_when_it_thaws,
    ],
    ids=named,
)
def test_on_postgresql(on_postgresql: Cluster, promise: runs.Promise) -> None:
    promise(on_postgresql)


@pytest.mark.chaos
@pytest.mark.parametrize(
    "promise",
    [
        runs.test_an_approval_parks_without_an_activity_and_goes_on_when_it_is_answered,
        runs.test_a_called_run_is_placed_and_its_caller_hears_of_its_end,
        runs.test_runs_of_one_concurrency_key_are_executed_one_after_another,
        faults.test_a_killed_workers_runs_go_on_elsewhere_and_no_journalled_step_is_repeated,
        faults.test_a_stopped_worker_hands_its_runs_over_and_exits_clean,
    ],
    ids=named,
)
def test_on_postgresql_too(on_postgresql: Cluster, promise: runs.Promise) -> None:
    """`tests/acceptance` and `tests/recovery` come by there in a shorter time."""
    promise(on_postgresql)
