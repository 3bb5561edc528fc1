"""Following runs whose steps are within others: every event once, however often the reader is cut off."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pytest

from app.api.v1.event_responses import StreamLimits
from app.api.v1.schemas.events import Event
from app.ports.models import CallContext, ChatRequest
from app.services.run_events import event_of_row
from tests.api.harness import Api, api
from tests.engines.harness import llm, workflow

ITEMS = 500
DOCUMENT = workflow(
    {
        "id": "each",
        "type": "map",
        "items": "inputs.numbers",
        "as": "n",
        "max_concurrency": 8,
        "steps": [
            llm("say", "{{ n }}"),
            {
                "id": "route",
                "type": "branch",
                "condition": "n % 2 == 0",
                "branches": {"true": [{"id": "even", "type": "transform", "expression": "n // 2"}]},
            },
        ],
    }
)


async def unhurried(request: ChatRequest, context: CallContext) -> str:
    """An answer that lets others have their turn."""
    for _ in range(5):
        await asyncio.sleep(0)
    return "done"


class Connection:
    """One request for events; it hangs up once it has taken so many."""

    def __init__(
        self, service: Api, run_id: str, *, after: int | None, most: int, takes: bool = True
    ) -> None:
        self.events: list[Event] = []
        self._takes = takes
        self._most = most
        self._over = asyncio.Event()
        headers = [(b"host", b"127.0.0.1"), (b"accept", b"text/event-stream")]
        if after is not None:
            headers.append((b"last-event-id", b"%d" % after))
        path = f"/v1/runs/{run_id}/events"
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "server": ("127.0.0.1", 80),
        }
        self.call = service.app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] != "http.response.body" or self._over.is_set():
            return
        if not self._takes:
            await asyncio.Event().wait()
        for line in message["body"].splitlines():
            if line.startswith(b"data: "):
                self.events.append(Event.model_validate(orjson.loads(line[len(b"data: ") :])))
        if len(self.events) >= self._most:
            self._over.set()
        await asyncio.sleep(0)


async def read_in_pieces(service: Api, run_id: str, seed: int) -> list[Event]:
    """All events of a run, by one reader who loses the connection again and again."""
    chance = random.Random(seed)
    seen: list[Event] = []
    while not seen or not seen[-1].type.startswith("run.") or seen[-1].type == "run.started":
        after = max((event.seq for event in seen if event.seq is not None), default=None)
        connection = Connection(service, run_id, after=after, most=chance.choice((1, 7, 60, 400)))
        await asyncio.wait_for(connection.call, 30)
        seen += connection.events
    return seen


@pytest.mark.timeout(120)
async def test_readers_who_are_cut_off_at_random_see_every_event_exactly_once() -> None:
    async with api(script=unhurried) as service:
        run_id = await service.bench.submit(DOCUMENT, {"numbers": list(range(ITEMS))})
        readers = [read_in_pieces(service, run_id, seed) for seed in range(3)]
        while_it_ran = await asyncio.gather(*readers)
        afterwards = await read_in_pieces(service, run_id, 99)
        rows = await service.bench.store.journal.read(run_id)
    told = [event for row in rows if (event := event_of_row(row)) is not None]
    expected = [(event.seq, event.type, event.path) for event in told]
    assert len(expected) > 5 * ITEMS
    for seen in (*while_it_ran, afterwards):
        assert [(event.seq, event.type, event.path) for event in seen] == expected


async def test_deltas_of_steps_within_others_bear_their_paths_and_stand_within_their_attempts() -> None:
    go = asyncio.Event()

    async def spoken(request: ChatRequest, context: CallContext) -> str:
        await go.wait()
        return "one two three"

    document = workflow(
        {"id": "each", "type": "map", "items": "inputs.numbers", "steps": [llm("say", stream=True)]}
    )
    async with api(script=spoken) as service:
        run_id = await service.bench.submit(document, {"numbers": [1, 2, 3]})
        await service.bench.chat.started.wait()
        connection = Connection(service, run_id, after=None, most=10_000)
        following = asyncio.ensure_future(connection.call)
        while not service.bench.engine._live._listeners:  # noqa: ASYNC110  nobody tells of listeners
            await asyncio.sleep(0)
        go.set()
        await asyncio.wait_for(following, 10)
    assert connection.events[-1].type == "run.completed"
    for index in range(3):
        own = [event for event in connection.events if event.path == f"each[{index}].say"]
        kinds = [event.type for event in own]
        assert kinds == ["step.started", *["step.delta"] * 3, "step.completed"]
        assert [event.data["text"] for event in own[1:-1]] == ["one", "two", "three"]
        assert all(event.seq is None for event in own[1:-1])


async def test_a_reader_of_a_large_run_who_takes_nothing_is_dropped_and_can_resume() -> None:
    document = workflow(
        {"id": "each", "type": "map", "items": "inputs.numbers", "steps": [llm("say", stream=True)]}
    )
    async with api(streams=StreamLimits(stall_seconds=0.1)) as service:
        run_id = await service.bench.submit(document, {"numbers": list(range(ITEMS))})
        stuck = Connection(service, run_id, after=None, most=1, takes=False)
        await asyncio.wait_for(stuck.call, 10)
        assert stuck.events == []
        assert not service.bench.engine._live._listeners
        seen = await read_in_pieces(service, run_id, 1)
    history = [event.seq for event in seen if event.seq is not None]
    assert history == sorted(set(history))
    assert (seen[0].type, seen[-1].type) == ("run.started", "run.completed")
