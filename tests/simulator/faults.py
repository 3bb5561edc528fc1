"""How the simulated vendor misbehaves, by name.

A fault is ordered by the model's name (`fault:stall`; `fault:rate_limit:2` for the first two calls with
one idempotency key) or by a rule of the control endpoint, which names a model, a path or `*`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from tests.simulator import answers


class Line(Protocol):
    """The connection that a fault plays on."""

    transport: asyncio.Transport

    def finish(self, data: bytes) -> None:
        """Send the rest of the answer and be done with the call."""
        ...


@dataclass(slots=True)
class Rule:
    """One order of the control endpoint; `times` counts down, None is for ever."""

    match: str
    fault: str
    times: int | None = None
    retry_after: str | None = None


@dataclass(slots=True)
class Script:
    """Which fault comes next."""

    rules: list[Rule] = field(default_factory=list)
    _seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def order(self, rule: Mapping[str, Any]) -> None:
        """Add a rule; unknown faults are refused."""
        if rule.get("fault") not in {*ERRORS, *PLAYS}:
            raise ValueError(
                f"there is no fault {rule.get('fault')!r}; there are: {sorted({*ERRORS, *PLAYS})}"
            )
        self.rules.append(Rule(**rule))

    def next_fault(self, *, model: str, path: str, key: str) -> Rule | None:
        """The fault for this call, if it is to fail."""
        for rule in self.rules:
            if rule.match in (model, path, "*") and rule.times != 0:
                if rule.times is not None:
                    rule.times -= 1
                return rule
        named = _BY_MODEL.fullmatch(model)
        if named is None:
            return None
        self._seen[model, key] += 1
        if named["times"] is not None and self._seen[model, key] > int(named["times"]):
            return None
        return Rule(match=model, fault=named["fault"])

    def reset(self) -> None:
        """Behave."""
        self.rules.clear()
        self._seen.clear()


def play(rule: Rule, line: Line) -> None:
    """Let the connection fail as ordered."""
    name = rule.fault
    if name in ERRORS:
        status, code, message = ERRORS[name]
        retry_after = rule.retry_after or ("0" if name == "rate_limit" else None)
        line.finish(
            answers.error(
                status, code, message, headers={"retry-after": retry_after} if retry_after else None
            )
        )
    elif name in PLAYS:
        PLAYS[name](line)
    else:
        line.finish(answers.error(400, "unknown_fault", f"there is no fault {name!r}"))


def _reset(line: Line) -> None:
    linger = struct.pack("ii", 1, 0)
    line.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    line.transport.abort()


def _reset_in_body(line: Line) -> None:
    whole = answers.completion_http("sim", answers.TEXT)
    line.transport.write(whole[: len(whole) // 2])
    asyncio.get_running_loop().call_later(0.02, _reset, line)


def _hang_up_after(data: bytes) -> Callable[[Line], None]:
    def play_it(line: Line) -> None:
        line.finish(data)
        line.transport.close()

    return play_it


def _drip(line: Line) -> None:
    line.transport.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n"
    )

    def drop() -> None:
        if not line.transport.is_closing():
            line.transport.write(b" ")
            asyncio.get_running_loop().call_later(0.02, drop)

    drop()


def _say(data: bytes) -> Callable[[Line], None]:
    return lambda line: line.finish(data)


def _write(data: bytes) -> Callable[[Line], None]:
    return lambda line: line.transport.write(data)


def _stream(*events: bytes, end: bytes = b"") -> bytes:
    return answers.STREAM_HEAD + b"".join(answers.chunk(event) for event in events) + end


_WHOLE = answers.completion("sim", answers.TEXT)
_EVENTS = tuple(answers.stream_events("sim", answers.TEXT))
_BY_MODEL = re.compile(r"fault:(?P<fault>[a-z_]+)(?::(?P<times>\d+))?")

ERRORS: Final[Mapping[str, tuple[int, str | None, str]]] = {
    "bad_request": (400, None, "messages: field required"),
    "context_length": (400, "context_length_exceeded", "the maximum context length is 8192 tokens"),
    "content_filter": (400, "content_filter", "the prompt was filtered"),
    "unauthorized": (401, "invalid_api_key", "Incorrect API key provided: simulated"),
    "forbidden": (403, None, "not in this region"),
    "not_found": (404, "model_not_found", "the model does not exist"),
    "request_timeout": (408, None, "too slow"),
    "conflict": (409, None, "locked"),
    "rate_limit": (429, "rate_limit_exceeded", "slow down"),
    "quota": (429, "insufficient_quota", "you exceeded your current quota"),
    "server_error": (500, None, "boom"),
    "overloaded": (503, None, "overloaded"),
}
PLAYS: Final[Mapping[str, Callable[[Line], None]]] = {
    "stall": lambda line: None,
    "stall_body": _write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"),
    "drip": _drip,
    "reset": _reset,
    "reset_body": _reset_in_body,
    "hang_up": lambda line: line.transport.close(),
    "short_body": _hang_up_after(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + _WHOLE),
    "long_body": _hang_up_after(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n" + _WHOLE),
    "empty_body": _say(answers.http(200, b"")),
    "bad_json": _say(answers.http(200, _WHOLE[:-20])),
    "no_choices": _say(answers.http(200, b'{"object": "chat.completion", "choices": []}')),
    "not_http": _hang_up_after(b"220 mail.example ESMTP ready\r\n"),
    "gzip_bomb": lambda line: line.finish(answers.gzip_bomb()),
    "bad_gzip": _say(answers.http(200, b"not gzip", headers={"content-encoding": "gzip"})),
    "cut_gzip": _say(answers.http(200, answers.gzip_bomb()[200:5000], headers={"content-encoding": "gzip"})),
    "stream_cut": _say(_stream(*_EVENTS[:3], end=answers.STREAM_END)),
    "stream_stall": _write(_stream(*_EVENTS[:3])),
    "stream_error": _say(
        _stream(
            *_EVENTS[:2],
            b'data: {"error": {"message": "overloaded", "type": "server_error", "code": 503}}\n\n',
            end=answers.STREAM_END,
        )
    ),
    "stream_open": _write(_stream(*_EVENTS)),
}
"""Faults that answers cannot express. `stream_open` sends a whole stream and never ends it."""
