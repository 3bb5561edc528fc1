"""Following a run: every event once, in order, wherever the reader begins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import orjson
import pytest

from app.api.v1.event_responses import EventResponse, StreamLimits
from app.api.v1.schemas.events import Event
from app.ports.errors import TemporaryError
from app.ports.models import CallContext, ChatRequest
from app.services.event_stream import EventStream, Heartbeat
from app.services.run_events import RunEvent
from tests.api.harness import Api, api
from tests.engines.harness import llm, workflow

DOCUMENT = workflow(llm("a"), llm("b", "{{ steps.a.text }}"))
LINES = {"accept": "application/x-ndjson"}


def lines(answer: httpx.Response) -> list[Event]:
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [Event.model_validate_json(line) for line in answer.text.splitlines() if line]


def frames(answer: httpx.Response) -> list[dict[str, str]]:
    """Server-sent events as a browser reads them."""
    found = []
    for block in answer.text.split("\n\n"):
        pairs = [line.partition(": ") for line in block.splitlines() if not line.startswith(":")]
        if pairs:
            found.append({name: value for name, _, value in pairs})
    return found


async def finished(service: Api) -> str:
    answer = await service.client.post("/v1/runs?wait=9", json={"workflow": DOCUMENT})
    return str(answer.json()["links"]["events"])


async def test_both_forms_carry_the_same_events(service: Api) -> None:
    events = await finished(service)
    streamed = await service.client.get(events)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    retry, *seen = frames(streamed)
    assert retry == {"retry": "2000"}
    written = lines(await service.client.get(events, headers=LINES))
    assert [orjson.loads(frame["data"])["seq"] for frame in seen] == [event.seq for event in written]
    assert [(frame["id"], frame["event"]) for frame in seen] == [
        (str(event.seq), event.type) for event in written
    ]
    assert [event.type for event in written] == [
        "run.started",
        "step.started",
        "step.completed",
        "step.started",
        "step.completed",
        "run.completed",
    ]
    assert written[-1].data == {"outputs": {"b": "b done"}}


@pytest.mark.parametrize("how", ["header", "parameter"])
async def test_a_resumed_stream_has_neither_gap_nor_duplicate(service: Api, how: str) -> None:
    events = await finished(service)
    everything = [event.seq for event in lines(await service.client.get(events, headers=LINES))]
    for position, seq in enumerate(everything[:-1]):
        query = f"?after={seq}" if how == "parameter" else ""
        headers = LINES if how == "parameter" else {**LINES, "last-event-id": str(seq)}
        rest = [event.seq for event in lines(await service.client.get(events + query, headers=headers))]
        assert rest == everything[position + 1 :]
    over = await service.client.get(f"{events}?after={everything[-1]}")
    assert (over.status_code, over.content) == (204, b"")


async def test_only_the_wanted_types_come_and_the_stream_still_ends(service: Api) -> None:
    events = await finished(service)
    for query in ("types=step.completed,run.failed", "types=step.completed&types=run.failed"):
        seen = lines(await service.client.get(f"{events}?{query}", headers=LINES))
        assert [event.type for event in seen] == ["step.completed", "step.completed"]


async def test_a_follower_sees_the_run_as_it_happens_with_its_deltas_in_place() -> None:
    go = asyncio.Event()

    async def spoken(request: ChatRequest, context: CallContext) -> str:
        await go.wait()
        return "one two three"

    document = workflow(llm("a", stream=True), llm("b", "{{ steps.a.text }}"))
    async with api(script=spoken) as service:
        links = (await service.client.post("/v1/runs", json={"workflow": document})).json()["links"]
        await service.bench.chat.started.wait()
        following = asyncio.ensure_future(service.client.get(links["events"], headers=LINES))
        while not service.bench.engine._live._listeners:  # noqa: ASYNC110  nobody tells of listeners
            await asyncio.sleep(0)
        go.set()
        seen = lines(await following)
    deltas = [event for event in seen if event.type == "step.delta"]
    assert [event.data["text"] for event in deltas] == ["one", "two", "three"]
    assert all(event.seq is None and event.path == "a" for event in deltas)
    types = [(event.type, event.path) for event in seen]
    assert types.index(("step.started", "a")) < types.index(("step.delta", "a"))
    assert types.index(("step.completed", "a")) > len(types) - types[::-1].index(("step.delta", "a")) - 1
    assert types[-1] == ("run.completed", None)


async def test_a_retry_is_told_with_its_cause() -> None:
    async def flaky(request: ChatRequest, context: CallContext) -> str:
        if context.attempt == 1:
            raise TemporaryError("rate_limit", "slow down")
        return "done"

    async with api(script=flaky) as service:
        run = await service.run(workflow(llm("a")))
        seen = lines(await service.client.get(run["links"]["events"], headers=LINES))
    assert [(event.type, event.attempt) for event in seen] == [
        ("run.started", None),
        ("step.started", 1),
        ("step.attempt_failed", 1),
        ("step.retrying", 2),
        ("step.started", 2),
        ("step.completed", 2),
        ("run.completed", None),
    ]
    assert seen[2].data["error"]["error_class"] == "rate_limit"


class Reader:
    """An ASGI client that reads as it is told to."""

    def __init__(self, service: Api, path: str) -> None:
        self.chunks: list[bytes] = []
        self.readable = asyncio.Event()
        self.left = asyncio.Event()
        self.read = asyncio.Event()
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1")],
            "server": ("127.0.0.1", 80),
        }
        self.call = asyncio.ensure_future(service.app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            await self.readable.wait()
            self.chunks.append(message["body"])
            self.read.set()


async def never(request: ChatRequest, context: CallContext) -> str:
    await asyncio.Event().wait()
    return ""


async def following(service: Api) -> Reader:
    links = (await service.client.post("/v1/runs", json={"workflow": DOCUMENT})).json()["links"]
    await service.bench.chat.started.wait()
    return Reader(service, links["events"])


async def test_a_reader_who_takes_nothing_is_dropped() -> None:
    async with api(script=never, streams=StreamLimits(stall_seconds=0.05)) as service:
        reader = await following(service)
        await asyncio.wait_for(reader.call, 5)
        assert reader.chunks == []


class Beats(EventStream):
    """Beats for ever, and knows which tasks opened and closed it."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any] | None] = []

    async def items(self, *, heartbeat_seconds: float) -> AsyncGenerator[RunEvent | Heartbeat, None]:
        self.tasks.append(asyncio.current_task())
        try:
            while True:
                yield Heartbeat()
        finally:
            self.tasks.append(asyncio.current_task())


async def test_a_dropped_readers_stream_is_closed_by_the_task_that_read_it() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: Any) -> None:
        if message.get("body") == b": keep-alive\n\n":
            await asyncio.Event().wait()

    stream = Beats()
    limits = StreamLimits(stall_seconds=0.01)
    response = EventResponse(stream, media_type="text/event-stream", types=frozenset(), limits=limits)
    await asyncio.wait_for(response({"type": "http"}, receive, send), 5)
    opened_by, closed_by = stream.tasks
    assert opened_by is closed_by


async def test_a_reader_who_leaves_ends_the_stream() -> None:
    async with api(script=never) as service:
        reader = await following(service)
        reader.readable.set()
        await reader.read.wait()
        reader.left.set()
        await asyncio.wait_for(reader.call, 5)
        assert not service.bench.engine._live._listeners


async def test_a_quiet_stream_beats_and_a_shutdown_ends_it() -> None:
    async with api(script=never, streams=StreamLimits(heartbeat_seconds=0.01)) as service:
        reader = await following(service)
        reader.readable.set()
        while b": keep-alive\n\n" not in reader.chunks:
            reader.read.clear()
            await asyncio.wait_for(reader.read.wait(), 5)
        service.services.close()
        await asyncio.wait_for(reader.call, 5)
        assert reader.chunks[-1] == b""
