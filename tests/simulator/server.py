"""The simulated vendor: HTTP/1.1 by hand, because it shares its cores with what is being measured.

Paths: `/v1/chat/completions`, `/v1/embeddings`, `/v1/messages`, `/hook…` (records what is posted),
`/redirect?to=…`, and for tests `/_stats`, `/_control`, `/_reset`, `/_wait`. One request at a time on a
connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import parse_qs
from zlib import crc32

import orjson

from tests.simulator import answers, messages
from tests.simulator.faults import Script, play
from tests.simulator.ledger import WAITABLE, Ledger


@dataclass(slots=True)
class World:
    """What all connections share."""

    latency: float
    """Seconds before every answer."""
    spread: float = 0.0
    """Seconds by which an answer may take longer than another; how long one does is up to its key."""
    stream_gap: float = 0.0
    """Seconds between the words of a stream."""
    ledger: Ledger = field(default_factory=Ledger)
    script: Script = field(default_factory=Script)
    texts: dict[str, str | list[str]] = field(default_factory=dict)
    """Answers by model, instead of the usual one; of a list one after the other, the last one for ever."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, header names in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One client's connection."""

    transport: asyncio.Transport

    def __init__(self, world: World) -> None:
        self._world = world
        self._buffer = b""
        self._key = ""
        self._model = ""
        self._in_call = False
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio.Protocol."""
        self.transport = cast("asyncio.Transport", transport)
        self._world.ledger.open_sockets += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio.Protocol."""
        self._world.ledger.open_sockets -= 1
        self._end_call(whole=False)
        self._world.ledger.changed()

    def eof_received(self) -> bool:
        """asyncio.Protocol. The client went away: that is when an abort is noticed."""
        self._end_call(whole=False)
        return False

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol."""
        self._buffer += data
        self._serve()

    def _serve(self) -> None:
        """Take requests off the buffer, one after another."""
        while not self._busy:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            request_line, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            method, target, _ = request_line.split(" ", 2)
            path, _, query = target.partition("?")
            self._busy = True
            request = Request(method, path, query, headers, rest[:length])
            if "transfer-encoding" in headers:
                self.finish(answers.error(411, None, "send a content-length"))
            else:
                self._route(request)

    def _route(self, request: Request) -> None:
        handler = HANDLERS.get(request.path) or (_hook if request.path.startswith("/hook") else _missing)
        handler(self, self._world, request)

    def call(self, request: Request, model: str, answer: Callable[[], None]) -> None:
        """Count a call and answer it after the latency, unless it is to fail."""
        world = self._world
        self._key, self._model = request.headers.get("idempotency-key", ""), model
        self._in_call = True
        world.ledger.called(self._key, request.body, request.headers)
        rule = world.script.next_fault(model=model, path=request.path, key=self._key)
        then = answer if rule is None else lambda: play(rule, self)
        seconds = world.latency + world.spread * (crc32(self._key.encode()) % 1000) / 1000
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._unless_gone, then)
        else:
            then()

    def finish(self, data: bytes) -> None:
        """Send the rest of the answer and be done with the call."""
        self.transport.write(data)
        self._end_call(whole=True)
        self._busy = False
        self._serve()

    def stream(self, events: Iterable[bytes]) -> None:
        """Send the events of a stream, at once or with the gap between them."""
        pieces = [answers.chunk(event) for event in events]
        if not self._world.stream_gap:
            self.finish(answers.STREAM_HEAD + b"".join(pieces) + answers.STREAM_END)
            return
        self.transport.write(answers.STREAM_HEAD)
        self._stream_on(pieces)

    def _stream_on(self, pieces: list[bytes]) -> None:
        if not pieces:
            self.finish(answers.STREAM_END)
            return
        self.transport.write(pieces.pop(0))
        loop = asyncio.get_running_loop()
        loop.call_later(self._world.stream_gap, self._unless_gone, lambda: self._stream_on(pieces))

    def _unless_gone(self, then: Callable[[], None]) -> None:
        if not self.transport.is_closing():
            then()

    def _end_call(self, *, whole: bool) -> None:
        if self._in_call:
            self._in_call = False
            self._world.ledger.ended(self._key, self._model, whole=whole)


def _chat(line: Connection, world: World, request: Request) -> None:
    asked = orjson.loads(request.body)
    model, text = asked["model"], _said(world, asked, is_json="response_format" in asked)
    if asked.get("stream"):
        line.call(request, model, lambda: line.stream(answers.stream_events(model, text)))
    else:
        line.call(request, model, lambda: line.finish(answers.completion_http(model, text)))


def _messages(line: Connection, world: World, request: Request) -> None:
    asked = orjson.loads(request.body)
    model, text = asked["model"], _said(world, asked, is_json="output_config" in asked)
    if asked.get("stream"):
        line.call(request, model, lambda: line.stream(messages.stream_events(model, text)))
    else:
        line.call(request, model, lambda: line.finish(messages.message_http(model, text)))


def _said(world: World, asked: dict[str, Any], *, is_json: bool) -> str:
    """What the model answers: as it was told to, the usual text, or the last turn (`echo`)."""
    ordered = world.texts.get(asked["model"])
    if isinstance(ordered, list):
        return ordered.pop(0) if len(ordered) > 1 else ordered[0]
    if ordered is not None:
        return ordered
    if asked["model"] == "echo":
        return str(asked["messages"][-1]["content"])
    return answers.JSON_TEXT if is_json else answers.TEXT


def _embeddings(line: Connection, world: World, request: Request) -> None:
    asked = orjson.loads(request.body)
    line.call(request, asked["model"], lambda: line.finish(answers.http(200, answers.embeddings(asked))))


def _hook(line: Connection, world: World, request: Request) -> None:
    def answer() -> None:
        posted = {"method": request.method, "path": request.path, "headers": request.headers}
        world.ledger.hooks.append({**posted, "body": request.body.decode(errors="replace")})
        line.finish(answers.http(200, b'{"ok": true}'))

    line.call(request, request.path, answer)


def _redirect(line: Connection, world: World, request: Request) -> None:
    query = parse_qs(request.query)
    status = int(query.get("status", ["302"])[0])
    line.finish(answers.http(status, b"", headers={"location": query["to"][0]}))


def _stats(line: Connection, world: World, request: Request) -> None:
    line.finish(answers.http(200, orjson.dumps(world.ledger.snapshot())))


def _control(line: Connection, world: World, request: Request) -> None:
    orders = orjson.loads(request.body)
    try:
        for rule in orders.get("faults", ()):
            world.script.order(rule)
    except (ValueError, TypeError) as error:
        line.finish(answers.error(400, "bad_order", str(error)))
        return
    world.latency = orders.get("latency_ms", world.latency * 1000) / 1000
    world.spread = orders.get("spread_ms", world.spread * 1000) / 1000
    world.stream_gap = orders.get("stream_gap_ms", world.stream_gap * 1000) / 1000
    world.texts.update(orders.get("texts", {}))
    line.finish(answers.http(200, b"{}"))


def _reset(line: Connection, world: World, request: Request) -> None:
    world.ledger.reset()
    world.script.reset()
    world.texts.clear()
    world.stream_gap = world.spread = 0.0
    line.finish(answers.http(200, b"{}"))


def _wait(line: Connection, world: World, request: Request) -> None:
    """Answer when every count named in the query is reached, or with what there is after `seconds`."""
    query = {name: float(values[0]) for name, values in parse_qs(request.query).items()}
    seconds = query.pop("seconds", 10.0)
    ledger = world.ledger
    answered = False

    def answer() -> None:
        nonlocal answered
        answered = True
        line.finish(answers.http(200, orjson.dumps(ledger.snapshot())))

    def reached() -> bool:
        if not answered and all(_meets(ledger, name, number) for name, number in query.items()):
            answer()
        return answered

    def give_up() -> None:
        if not answered:
            answer()

    if not reached():
        ledger.watchers.append(reached)
        asyncio.get_running_loop().call_later(seconds, give_up)


def _meets(ledger: Ledger, name: str, number: float) -> bool:
    if name == "open_at_most":
        return ledger.open_sockets <= number
    return name in WAITABLE and ledger.count(name) >= number


def _missing(line: Connection, world: World, request: Request) -> None:
    line.finish(answers.error(404, None, f"there is no {request.path}"))


HANDLERS: Final[dict[str, Callable[[Connection, World, Request], Any]]] = {
    "/v1/chat/completions": _chat,
    "/v1/embeddings": _embeddings,
    "/v1/messages": _messages,
    "/redirect": _redirect,
    "/_stats": _stats,
    "/_control": _control,
    "/_reset": _reset,
    "/_wait": _wait,
}
