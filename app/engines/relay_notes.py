"""What relays write to each other, as the texts of notes and back.

A text that cannot be read is of another version and means nothing here. What belongs together but does not
fit into one note goes into several.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

import orjson
import structlog

from app.engines.engine import Delta
from app.engines.live import Wish
from app.ports.peers import MAX_NOTE_BYTES

MAX_CHARACTERS: Final = 1000
"""Of a delta in one note: at six bytes each, as JSON writes the worst of them, with room for the rest."""
_FRAME: Final = 64
"""Bytes around what a note lists, at most."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A relay that just came, or that may have missed something: it wants to hear all wishes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the sender wants to hear, by run; None: nothing any more."""

    runs: Mapping[str, Wish | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Events of a run up to `seq` are durable."""

    run_id: str
    seq: int
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A piece of an answer."""

    run_id: str
    delta: Delta


@dataclass(frozen=True, slots=True, kw_only=True)
class Tidings:
    """What happened to runs, in order."""

    items: Sequence[Told | Said]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Something that the process that executes has to do was stored."""


Message = Hello | Wishes | Tidings | Work


def write(message: Message) -> list[str]:
    """The texts of as many notes as it takes. What cannot be written, or fits into none, is left out."""
    match message:
        case Hello():
            return ['{"hello":1}']
        case Work():
            return ['{"work":1}']
        case Wishes(runs=runs):
            return [f'{{"wishes":[{listed}]}}' for listed in _packed(_wish_lines(runs))]
        case Tidings(items=items):
            return [f'{{"tidings":[{listed}]}}' for listed in _packed(_lines(items))]
        case _:
            assert_never(message)


def read(text: str) -> Message | None:
    """The message of a note, or None."""
    try:
        body = orjson.loads(text)
        if "hello" in body:
            return Hello()
        if "work" in body:
            return Work()
        if "wishes" in body:
            return Wishes(runs={run_id: Wish(wish) if wish else None for run_id, wish in body["wishes"]})
        return Tidings(items=[_item(entry) for entry in body["tidings"]])
    except (ValueError, TypeError, KeyError):
        log.debug("relay.not_understood", characters=len(text))
        return None


def _wish_lines(runs: Mapping[str, Wish | None]) -> Iterator[bytes]:
    for run_id, wish in runs.items():
        yield orjson.dumps([run_id, 0 if wish is None else int(wish)])


def _lines(items: Iterable[Told | Said]) -> Iterator[bytes]:
    for item in items:
        match item:
            case Told(run_id=run_id, seq=seq, ended=ended):
                yield orjson.dumps([run_id, seq, int(ended)])
            case Said(run_id=run_id, delta=delta):
                yield from _delta_lines(run_id, delta)
            case _:
                assert_never(item)


def _delta_lines(run_id: str, delta: Delta) -> Iterator[bytes]:
    for begin in range(0, len(delta.text), MAX_CHARACTERS):
        text = delta.text[begin : begin + MAX_CHARACTERS]
        entry = [run_id, delta.after, delta.path, delta.attempt, delta.at, text]
        try:
            yield orjson.dumps(entry)
        except TypeError:  # half of a surrogate pair, which no JSON holds
            log.debug("relay.not_written", run_id=run_id, step=delta.path)


def _packed(lines: Iterable[bytes]) -> Iterator[str]:
    room = MAX_NOTE_BYTES - _FRAME
    pack: list[bytes] = []
    size = 0
    for line in lines:
        if len(line) > room:
            continue
        if pack and size + len(line) > room:
            yield b",".join(pack).decode()
            pack, size = [], 0
        pack.append(line)
        size += len(line) + 1
    if pack:
        yield b",".join(pack).decode()


def _item(entry: Any) -> Told | Said:
    run_id, seq, *rest = entry
    if len(rest) == 1:
        return Told(run_id=run_id, seq=seq, ended=bool(rest[0]))
    path, attempt, at, text = rest
    return Said(run_id=run_id, delta=Delta(path=path, attempt=attempt, text=text, at=at, after=seq))
