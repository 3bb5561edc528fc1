"""What is done about fire times that have come: on time, late, overlapping."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.schedules import FireCounts, ScheduleRow
from app.services.schedule_decisions import (
    MOST_AT_ONCE,
    MOST_QUEUED,
    ON_TIME_SECONDS,
    RECENT_FIRES,
    decide,
    failed,
    halted,
    replaced,
    request_of,
    run_id_of,
    started,
    triggered,
)
from app.services.schedule_times import timing_of
from tests.stores.samples import NOON
from tests.stores.schedule_samples import a_schedule, firing


def decided(schedule: ScheduleRow, now: float, *, previous_active: bool = False) -> ScheduleRow:
    timing = timing_of(schedule.spec, anchor=schedule.anchor)
    return decide(firing(schedule, previous_active=previous_active), timing, now)


def outcomes(schedule: ScheduleRow) -> list[tuple[float, str]]:
    """Oldest first, as minutes after noon."""
    return [((fire.fire_at - NOON) / 60, fire.outcome) for fire in reversed(schedule.progress.fires)]


def minutes(schedule: ScheduleRow) -> list[float]:
    return [(at - NOON) / 60 for at in schedule.progress.queue]


# --- on time ------------------------------------------------------------------------------------------


def test_a_fire_on_time_is_queued_and_the_next_one_set() -> None:
    after = decided(a_schedule(), NOON + 60.4)
    assert minutes(after) == [1]
    assert after.progress.next_fire_at == NOON + 120
    assert after.generation == 2
    assert after.progress.fires == ()


@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_lateness_of_seconds_misses_nothing(catch_up: str) -> None:
    every_second = a_schedule(
        interval_seconds=1, next_fire_at=NOON + 1, catch_up=catch_up, overlap="queue", catch_up_seconds=0
    )
    after = decided(every_second, NOON + 5.5)
    assert after.progress.queue == tuple(NOON + second for second in range(1, 6))
    assert after.progress.counts == FireCounts()


def test_the_last_fire_leaves_none_to_come() -> None:
    assert decided(a_schedule(end_at=NOON + 100), NOON + 60).progress.next_fire_at is None


# --- late ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "window", "queue", "missed"),
    [
        ("none", 3600, [], 3),
        ("latest", 0, [], 3),
        ("latest", 3600, [3], 2),
        ("latest", 100, [3], 2),
        ("all", 3600, [1, 2, 3], 0),
        ("all", 100, [2, 3], 1),
        ("all", 0, [], 3),
    ],
)
def test_what_came_while_nobody_looked_is_made_up_as_the_schedule_says(
    catch_up: str, window: int, queue: list[float], missed: int
) -> None:
    schedule = a_schedule(catch_up=catch_up, catch_up_seconds=window, overlap="queue")
    after = decided(schedule, NOON + 180 + ON_TIME_SECONDS + 5)
    assert minutes(after) == queue
    assert after.progress.counts.missed == missed
    assert after.progress.next_fire_at == NOON + 240
    assert [fire.outcome for fire in after.progress.fires] == ["missed"] * bool(missed)


def test_a_service_that_is_back_in_time_for_a_fire_starts_only_that_one() -> None:
    schedule = a_schedule(catch_up="latest", catch_up_seconds=3600, overlap="queue")
    after = decided(schedule, NOON + 181)
    assert (minutes(after), after.progress.counts.missed) == ([3], 2)
    (fire,) = after.progress.fires
    assert fire.detail == "2 fires came while the service did not look"


def test_a_long_outage_is_counted_and_made_up_in_bounded_pieces() -> None:
    def restarted(catch_up: str) -> ScheduleRow:
        return a_schedule(
            interval_seconds=1,
            next_fire_at=NOON + 1,
            catch_up=catch_up,
            catch_up_seconds=86_400,
            overlap="queue",
        )

    after = decided(restarted("latest"), NOON + 10_000)
    assert (after.progress.queue, after.progress.counts.missed) == ((NOON + 10_000,), MOST_AT_ONCE)
    after = decided(restarted("all"), NOON + 10_000)
    assert after.progress.next_fire_at == NOON + MOST_AT_ONCE + 1
    assert len(after.progress.queue) == MOST_AT_ONCE
    again = decided(after, NOON + 10_000)
    assert again.progress.next_fire_at == NOON + 2 * MOST_AT_ONCE + 1
    assert again.progress.counts.skipped == MOST_AT_ONCE


# --- overlaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "queue", "expected", "fires"),
    [
        ("skip", (), [], [(1, "skipped")]),
        ("queue", (), [1], []),
        ("cancel_previous", (), [1], []),
        ("skip", (NOON,), [0], [(1, "skipped")]),
        ("queue", (NOON,), [0, 1], []),
        ("cancel_previous", (NOON,), [0, 1], []),
        ("cancel_previous", (NOON - 60, NOON), [-1, 1], [(0, "skipped")]),
    ],
)
def test_a_fire_that_meets_an_active_run_does_what_the_overlap_policy_says(
    overlap: str, queue: tuple[float, ...], expected: list[float], fires: list[Any]
) -> None:
    after = decided(a_schedule(overlap=overlap, queue=queue), NOON + 60, previous_active=True)
    assert (minutes(after), outcomes(after)) == (expected, fires)
    assert after.progress.counts.skipped == len(fires)


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel_previous"])
def test_a_fire_that_meets_nothing_is_queued(overlap: str) -> None:
    assert minutes(decided(a_schedule(overlap=overlap), NOON + 60)) == [1]


def test_a_queue_that_waits_for_room_holds_one_fire_of_a_schedule_that_skips() -> None:
    after = decided(a_schedule(overlap="skip", queue=(NOON,)), NOON + 60)
    assert (minutes(after), outcomes(after)) == ([0], [(1, "skipped")])


def test_a_queue_is_bounded() -> None:
    full = tuple(NOON - number for number in range(MOST_QUEUED, 0, -1))
    after = decided(a_schedule(overlap="queue", queue=full), NOON + 60, previous_active=True)
    assert after.progress.queue == full
    assert outcomes(after) == [(1, "skipped")]


# --- outcomes -----------------------------------------------------------------------------------------


def test_a_start_takes_the_oldest_and_is_what_later_fires_overlap_with() -> None:
    after = started(a_schedule(queue=(NOON, NOON + 1)), "r7", NOON + 2)
    progress = after.progress
    assert (progress.queue, progress.previous_run_id, progress.last_run_id) == ((NOON + 1,), "r7", "r7")
    assert (progress.counts.started, progress.fires[0].run_id, after.generation) == (1, "r7", 2)


def test_a_failure_says_why_and_leaves_the_run_before() -> None:
    after = failed(a_schedule(queue=(NOON,), previous_run_id="r1", last_run_id="r1"), "gone", NOON + 2)
    progress = after.progress
    assert (progress.queue, progress.previous_run_id, progress.last_run_id) == ((), "r1", "r1")
    assert (progress.counts.failed, progress.fires[0].detail) == (1, "gone")


def test_a_fire_that_gives_way_is_skipped() -> None:
    after = replaced(a_schedule(queue=(NOON, NOON + 60)), NOON + 61)
    assert (minutes(after), outcomes(after)) == ([1], [(0, "skipped")])


def test_a_schedule_whose_times_are_lost_stops() -> None:
    after = halted(a_schedule(), "there is no time zone 'X'", NOON + 61)
    assert after.progress.next_fire_at is None
    assert outcomes(after) == [(1, "failed")]


def test_a_manual_run_is_no_overlap() -> None:
    after = triggered(a_schedule(previous_run_id="r1"), "r2", NOON)
    assert (after.progress.previous_run_id, after.progress.last_run_id) == ("r1", "r2")
    assert after.progress.fires[0].manual


def test_only_the_latest_fires_are_kept_but_all_are_counted() -> None:
    schedule = a_schedule()
    for number in range(3 * RECENT_FIRES):
        schedule = triggered(schedule, f"r{number}", NOON + number)
    assert len(schedule.progress.fires) == RECENT_FIRES
    assert schedule.progress.fires[0].run_id == f"r{3 * RECENT_FIRES - 1}"
    assert schedule.progress.counts.started == 3 * RECENT_FIRES


# --- runs ---------------------------------------------------------------------------------------------


def test_a_run_bears_the_name_of_its_schedule_and_its_time() -> None:
    request = request_of(a_schedule(name="n", labels={"team": "x", "schedule": "mine"}, priority=3), NOON)
    assert request.labels == {"team": "x"}
    assert request.own_labels == {"schedule": "n", "scheduled_for": "2027-01-15T08:00:00.000000Z"}
    assert request.priority == 3


@given(first=st.integers(0, 2**33), second=st.integers(0, 2**33))
def test_the_id_of_a_run_is_a_uuid_of_its_time_and_of_nothing_else(first: int, second: int) -> None:
    one, other = UUID(run_id_of("s1", float(first))), UUID(run_id_of("s1", float(second)))
    assert one == UUID(run_id_of("s1", float(first)))
    assert one != UUID(run_id_of("s2", float(first)))
    assert (one.version, one.variant) == (7, "specified in RFC 4122")
    assert one.int >> 80 == first * 1000
    assert (str(one) < str(other)) == (one.int < other.int)
    if first != second:
        assert (one < other) == (first < second)
