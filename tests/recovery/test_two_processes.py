"""Two processes on one data directory: one executes, the other stands by and takes over."""

from __future__ import annotations

from tests.recovery.chain import outputs_of
from tests.recovery.services import Services, client_of
from tests.recovery.stored import integrity, stored_runs, succeeded_steps
from tests.simulator.process import Simulator


def test_the_second_stands_by_accepts_runs_and_takes_over_when_the_first_is_killed(
    services: Services, simulator: Simulator
) -> None:
    take_over(services, simulator)


def take_over(services: Services, simulator: Simulator) -> None:
    """Two services on one store; the one that executes is killed, the other ends everything."""
    first = services.ready()
    second = services.ready()
    with client_of(first) as executor, client_of(second) as standby:
        assert executor.checks()["executor"]["detail"] == "executor"
        assert standby.checks()["executor"]["detail"] == "standby"
        handed_on = standby.accepted("handed-on")
        assert standby.ended(handed_on)["outputs"] == outputs_of("handed-on")

        simulator.control(latency_ms=400)
        words = {
            client.accepted(f"{name}-{number}"): f"{name}-{number}"
            for name, client in (("first", executor), ("second", standby))
            for number in range(10)
        }
        simulator.wait(calls=3 + 30)
        first.kill()
        journalled = succeeded_steps(services.data_dir, live=True)
        calls = dict(simulator.stats().by_key)
        orphan = standby.accepted("orphan")
        words |= {orphan: "orphan", handed_on: "handed-on"}
        for run_id, word in words.items():
            assert standby.ended(run_id)["outputs"] == outputs_of(word)
        assert standby.checks()["executor"]["detail"] == "executor"
    second.kill()
    runs = stored_runs(services.data_dir)
    assert set(runs) == set(words)
    assert [run.flaws() for run in runs.values()] == [[]] * len(words)
    assert sum(len(run.of("AttemptLost")) for run in runs.values()) >= 5
    after = simulator.stats().by_key
    assert len(journalled) >= 10
    assert [key for key in journalled if after[key] != calls[key]] == []
    assert integrity(services.data_dir) == "ok"
