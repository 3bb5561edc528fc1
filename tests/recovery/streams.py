"""A run that streams its answers, and what a reader of it must have seen, wherever the run was executed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tests.recovery.services import Client
from tests.simulator.process import Simulator

WORDS: Final = 40
GAP_MS: Final = 15
LATENCY_MS: Final = 1500
"""Of the first call: a reader is there before the first word, on a machine that does much else."""
STEPS: Final = ("first", "left", "right", "last")
AFTER: Final = {"first": [], "left": ["first"], "right": ["first"], "last": ["left", "right"]}

Event = Mapping[str, Any]


def text_of(step: str) -> str:
    """What the simulator answers to a step: its prompt."""
    return " ".join(f"{step}-{number}" for number in range(WORDS))


def document() -> dict[str, Any]:
    """One step, then two at once, then one; all of them stream."""
    steps = [
        {
            "id": name,
            "type": "llm",
            "provider": "sim",
            "model": "echo",
            "prompt": text_of(name),
            "stream": True,
            "depends_on": AFTER[name],
        }
        for name in STEPS
    ]
    return {"name": "streams", "steps": steps}


def submit(client: Client, simulator: Simulator) -> str:
    """The id of a run whose first word comes after a while."""
    simulator.control(latency_ms=LATENCY_MS, stream_gap_ms=GAP_MS)
    answer = client.http.post("/v1/runs", json={"workflow": document()})
    assert answer.status_code == 202, answer.text
    simulator.wait(in_flight=1)
    simulator.control(latency_ms=0)
    return str(answer.json()["id"])


@contextmanager
def reading(client: Client, run_id: str, *, after: int | None = None) -> Iterator[Iterator[Event]]:
    """Events as they come, as NDJSON; the reader leaves with the context."""
    headers = {"Accept": "application/x-ndjson"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    with client.http.stream("GET", f"/v1/runs/{run_id}/events", headers=headers) as answer:
        answer.raise_for_status()
        yield (json.loads(line) for line in answer.iter_lines() if line)


@contextmanager
def reading_sse(client: Client, run_id: str) -> Iterator[Iterator[Event]]:
    """The same as server-sent events."""
    url = f"/v1/runs/{run_id}/events"
    with client.http.stream("GET", url, headers={"Accept": "text/event-stream"}) as answer:
        answer.raise_for_status()
        yield (json.loads(line[5:]) for line in answer.iter_lines() if line.startswith("data:"))


def history_of(events: Sequence[Event]) -> list[Event]:
    """What is history of it: everything but deltas."""
    return [event for event in events if event["seq"] is not None]


def deltas(events: Sequence[Event], step: str) -> str:
    """What was streamed of a step by the attempt that completed it, put together."""
    ended = (step, events[place(events, "step.completed", step)]["attempt"])
    said = (event for event in events if event["type"] == "step.delta")
    return "".join(event["data"]["text"] for event in said if (event["path"], event["attempt"]) == ended)


def place(events: Sequence[Event], kind: str, step: str) -> int:
    """Where an event of a step stands."""
    return next(n for n, event in enumerate(events) if event["type"] == kind and event["path"] == step)


def stored_events(client: Client, run_id: str) -> list[Event]:
    """The history of a run that has ended."""
    return history_of(client.follow(run_id))


def assert_in_order(events: Sequence[Event]) -> None:
    """Every delta stands between the begin and the end of its attempt."""
    open_attempts: set[tuple[str, int]] = set()
    for event in events:
        attempt = (event["path"], event["attempt"])
        if event["type"] == "step.started":
            open_attempts.add(attempt)
        elif event["type"] == "step.delta":
            assert attempt in open_attempts, f"{event} is not within its attempt"
        elif event["type"] in {"step.completed", "step.attempt_failed"}:
            open_attempts.discard(attempt)


def assert_whole(events: Sequence[Event], history: Sequence[Event]) -> None:
    """Everything that is stored, once and in order, and every word, in its place."""
    assert history_of(events) == list(history)
    assert events[-1]["type"] == "run.completed"
    assert_in_order(events)
    for step in STEPS:
        completed = events[place(events, "step.completed", step)]
        assert completed["data"]["outputs"]["text"] == text_of(step)
        assert deltas(events, step) == text_of(step), step


def assert_each_reader_sees_everything(executor: Client, others: Sequence[Client], sim: Simulator) -> None:
    """A run that `executor` accepts, read through others by both formats at once; the reads are threads'."""
    run_id = submit(executor, sim)
    with (
        reading(others[0], run_id) as lines,
        reading_sse(others[-1], run_id) as frames,
    ):
        # The two are read one after the other: what is not taken yet waits in their sockets.
        seen = [list(lines), list(frames)]
    history = stored_events(executor, run_id)
    for events in seen:
        assert_whole(events, history)
        # They came while they were said, not with the end of their step.
        assert sum(event["type"] == "step.delta" and event["path"] == "first" for event in events) >= 4


def assert_a_resumed_reader_misses_nothing(executor: Client, other: Client, sim: Simulator) -> None:
    """One that leaves in the middle of an answer, comes back with the last id, and does so once more."""
    run_id = submit(executor, sim)
    seen: list[Event] = []
    for step in ("first", "left", None):
        last = history_of(seen)[-1:]
        with reading(other, run_id, after=last[0]["seq"] if last else None) as events:
            for event in events:
                seen.append(event)
                if event["type"] == "step.delta" and event["path"] == step:
                    break
    history = stored_events(executor, run_id)
    assert history_of(seen) == history
    assert_in_order(seen)
    assert deltas(seen, "last") == text_of("last")
    for step in STEPS:
        # What was said while nobody listened is not repeated, and nothing else is either.
        rest = iter(text_of(step).split())
        assert all(word in rest for word in deltas(seen, step).split()), deltas(seen, step)
