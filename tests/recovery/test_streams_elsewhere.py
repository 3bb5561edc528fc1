"""A reader sees every event and every word of a run that another process executes, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final

import pytest

from tests.postgresql_server import database_of, execute
from tests.recovery import streams
from tests.recovery.chain import submission
from tests.recovery.services import Client, Services, client_of
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator

STORES: Final = ("postgresql", "sqlite")
CUT: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
AND (query LIKE 'LISTEN%' OR query LIKE '%pg_notify(said%')
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """An executor and a standby on one store, and the process that executes."""

    executor: Client
    standby: Client
    process: ServiceProcess
    url: str | None


@contextmanager
def pair_on(store: str, folder: Path, simulator: Simulator) -> Iterator[Pair]:
    """Both, ready."""
    url = database_of(folder / "data") if store == "postgresql" else None
    with ExitStack() as stack:
        shared = {} if url is None else {"ORCHESTRATOR_STORE__URL": url}
        services = Services(folder, simulator, stack, shared)
        first = services.ready()
        second = services.ready(data_dir=services.data_dir if url is None else folder / "standby")
        executor, standby = (stack.enter_context(client_of(service)) for service in (first, second))
        assert standby.checks()["executor"]["detail"] == "standby"
        yield Pair(executor, standby, first, url)


@pytest.fixture(scope="module", params=STORES)
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    simulator_process: Simulator,
) -> Iterator[Pair]:
    """One for all tests that leave both alive."""
    with pair_on(request.param, tmp_path_factory.mktemp("pair"), simulator_process) as made:
        yield made


def test_events_still_come_when_the_connections_that_listen_are_cut(
    tmp_path: Path, simulator: Simulator
) -> None:
    with pair_on("postgresql", tmp_path, simulator) as pair:
        assert pair.url is not None
        run_id = streams.submit(pair.executor, simulator)
        seen: list[streams.Event] = []
        cut = 0
        with streams.reading(pair.standby, run_id) as events:
            for event in events:
                seen.append(event)
                if event["type"] == "step.delta" and not cut:
                    cut = len(execute(pair.url, CUT))
        assert cut >= 2
        assert streams.history_of(seen) == streams.stored_events(pair.executor, run_id)
        streams.assert_in_order(seen)
        # Words that were said in the gap are lost; when the connections stand again none is.
        assert streams.deltas(seen, "last") == streams.text_of("last")


@pytest.mark.parametrize("store", STORES)
def test_words_go_on_when_the_standby_has_taken_over(
    store: str, tmp_path: Path, simulator: Simulator
) -> None:
    with pair_on(store, tmp_path, simulator) as pair:
        run_id = streams.submit(pair.executor, simulator)
        seen: list[streams.Event] = []
        with streams.reading(pair.standby, run_id) as events:
            for event in events:
                seen.append(event)
                if event["type"] == "step.delta" and pair.process.exit_code() is None:
                    pair.process.kill()
        assert streams.history_of(seen) == streams.stored_events(pair.standby, run_id)
        streams.assert_in_order(seen)
        assert seen[-1]["type"] == "run.completed"
        assert [event["path"] for event in seen if event["type"] == "step.attempt_failed"][:1] == ["first"]
        for step in ("left", "right", "last"):
            assert streams.deltas(seen, step) == streams.text_of(step)


def test_a_reader_that_comes_back_misses_nothing_and_is_told_nothing_twice(
    pair: Pair, simulator: Simulator
) -> None:
    streams.assert_a_resumed_reader_misses_nothing(pair.executor, pair.standby, simulator)


def test_every_event_and_every_word_in_order(pair: Pair, simulator: Simulator) -> None:
    streams.assert_each_reader_sees_everything(pair.executor, [pair.standby], simulator)


def test_who_waits_on_a_standby_hears_of_the_end_at_once(pair: Pair, simulator: Simulator) -> None:
    late = []
    for number in range(5):
        answer = pair.standby.http.post("/v1/runs?wait=30", json=submission(f"waited-{number}"))
        answered_at = time.time()
        assert answer.status_code == 200, answer.text
        late.append(answered_at - datetime.fromisoformat(answer.json()["finished_at"]).timestamp())
    # A look comes once a second, so half of a second would be the middle without news.
    assert median(late) < 0.4, late
