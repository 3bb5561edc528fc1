"""Where the members of a JSON text stand. The slow path, walked only when there is something to point at.

The text must have passed a real parser: this scanner finds tokens, it does not judge the grammar.
Offsets count characters of the text from 0. What is wrong with a member is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson

_TOKEN = re.compile(r'[ \t\r\n]*([{}\[\],:]|"(?:[^"\\]|\\.)*"|[^ \t\r\n{}\[\],:"]+)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Member:
    """One value of the text."""

    parts: tuple[str | int, ...]
    """Reference tokens from the root, as a JSON Pointer counts them."""
    start: int
    """Offset of its key where it has one, else of the value."""
    text: str
    """A scalar as written, or the opening bracket of a container."""
    repeated: bool
    """Whether its object has an earlier member of the same name."""


@dataclass(slots=True)
class _Frame:
    parts: tuple[str | int, ...]
    is_object: bool
    token: str | int = 0
    start: int = 0
    awaits_key: bool = False
    repeated: bool = False
    names: set[str] = field(default_factory=set)


def scan(text: str) -> Iterator[Member]:
    """Every value of a valid JSON text in document order, containers before their members."""
    stack: list[_Frame] = []
    for match in _TOKEN.finditer(text):
        lexeme, start = match[1], match.start(1)
        top = stack[-1] if stack else None
        if lexeme == "," and top is not None:
            _next_member(top)
        elif lexeme in ("}", "]"):
            stack.pop()
        elif lexeme == ":":
            continue
        elif top is not None and top.awaits_key:
            _name_member(top, lexeme, start)
        else:
            member = _member(top, lexeme, start)
            yield member
            if lexeme in ("{", "["):
                is_object = lexeme == "{"
                stack.append(_Frame(member.parts, is_object, awaits_key=is_object))


def decode_string(token: str) -> str:
    """The text behind a JSON string literal."""
    return str(orjson.loads(token)) if "\\" in token else token[1:-1]


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Both count from 1; columns count characters."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _next_member(frame: _Frame) -> None:
    if frame.is_object:
        frame.awaits_key = True
    elif isinstance(frame.token, int):
        frame.token += 1


def _name_member(frame: _Frame, token: str, start: int) -> None:
    name = decode_string(token)
    frame.token, frame.start, frame.awaits_key = name, start, False
    frame.repeated = name in frame.names
    frame.names.add(name)


def _member(frame: _Frame | None, token: str, start: int) -> Member:
    if frame is None:
        return Member((), start, token, repeated=False)
    return Member(
        (*frame.parts, frame.token),
        frame.start if frame.is_object else start,
        token,
        repeated=frame.repeated,
    )
