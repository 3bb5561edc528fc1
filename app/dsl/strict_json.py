"""JSON as the service accepts it: one value for one text, and nothing that cannot be carried on.

On top of the grammar it refuses what parsers disagree about or databases choke on: repeated names in an
object, NUL characters, lone surrogates, NaN, Infinity, numbers that no double or 64-bit integer holds,
and nesting beyond a bound.

The common case stays close to the bare parser. A compact text that its value dumps to again has lost
nothing (1.8 times the bare parser for 2 KB). Elsewhere repeated names are found by comparing how many
colons the text has with how many its dump has (2.5 times): parsing drops a repeated member with its colon
and can add none, so unless a colon is written as an escape, the two counts are equal exactly if nothing
was dropped. Whatever cannot be cleared this cheaply goes to the exact scanner, which also knows where the
fault stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from app.dsl.json_scan import Member, decode_string, line_and_column, scan
from app.ports.errors import OrchestratorError
from app.ports.problems import Problem, pointer

INTEGER_RANGE: Final = range(-(2**63), 2**64)
"""What every component carries unchanged: signed and unsigned 64-bit integers."""

_DUMPABLE_DEPTH: Final = 200
"""orjson refuses to dump what is nested deeper than 254 levels."""
_DIGITS_TO_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER: Final = b"0" * 19
_LONGEST_INTEGER: Final = len(str(2**64))
_WIDE_INTEGER: Final = re.compile(rb"(?:^|[\[:,\s])-?[0-9]{19,}(?=[\s,\]}]|$)")


class MalformedJson(OrchestratorError):
    """A text is no JSON that the service accepts; `problem` says where and what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Fault:
    """Something a strict reader refuses although the grammar allows it. `offset` counts characters."""

    pointer: str
    offset: int
    detail: str
    hint: str

    def problem(self, text: str) -> Problem:
        """The fault with its place in `text`."""
        line, column = line_and_column(text, self.offset)
        return Problem(pointer=self.pointer, detail=self.detail, hint=self.hint, line=line, column=column)


def parse_strict_json(body: bytes, *, max_depth: int = 64) -> Any:
    """Parse UTF-8 JSON. Raises `MalformedJson` with the first fault's pointer, line, column and hint."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(syntax_problem(body, error)) from None
    if not looks_plain(body, value, max_depth=max_depth):
        text = body.decode()
        for fault in faults(text, max_depth=max_depth):
            raise MalformedJson(fault.problem(text))
    return value


def looks_plain(body: bytes, value: Any, *, max_depth: int) -> bool:
    """Whether a parsed text certainly has no `faults`; False means that they have to be looked for."""
    if b"\\" in body and (b"\\u003" in body or b"\\u0000" in body):
        return False
    depth = min(max_depth, _DUMPABLE_DEPTH)
    if body.count(b"{") + body.count(b"[") > depth and _is_deeper(value, depth):
        return False
    dumped = orjson.dumps(value)
    if dumped == body:
        return True
    if _LONG_NUMBER in body.translate(_DIGITS_TO_ZERO) and _WIDE_INTEGER.search(body):
        return False
    return body.count(b":") == dumped.count(b":")


def faults(text: str, *, max_depth: int) -> Iterator[Fault]:
    """What is refused of a text the parser took, in document order; too deep a nesting ends the search."""
    for member in scan(text):
        where = pointer(*member.parts)
        if member.repeated:
            yield Fault(where, member.start, f"{member.parts[-1]!r} is given twice", "keep one of the two")
        if member.text in ("{", "[") and len(member.parts) >= max_depth:
            yield Fault(where, member.start, f"nested deeper than {max_depth} levels", "flatten it")
            return
        if _holds_nul(member):
            yield Fault(where, member.start, "holds a NUL character", "remove it; no store can keep it")
        if _is_wide_integer(member.text):
            yield Fault(where, member.start, "an integer of more than 64 bits", "write it as text, in quotes")


def syntax_problem(body: bytes, error: orjson.JSONDecodeError) -> Problem:
    """A parser's refusal, with its place."""
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        before = body[: wrong.start].decode()
        line, column = line_and_column(before, len(before))
        return Problem(
            pointer="", detail="not UTF-8 text", hint="encode it as UTF-8", line=line, column=column
        )
    return Problem(
        pointer="",
        detail=f"not JSON: {error.msg.split(': line', 1)[0]}",
        hint="mend the JSON at this place",
        line=error.lineno,
        column=error.colno,
    )


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


def _holds_nul(member: Member) -> bool:
    name = member.parts[-1] if member.parts else ""
    if isinstance(name, str) and "\0" in name:
        return True
    return "\\u0000" in member.text and "\0" in decode_string(member.text)


def _is_wide_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    if len(digits) < len(_LONG_NUMBER) or not digits.isdecimal():
        return False
    return len(digits) > _LONGEST_INTEGER or int(text) not in INTEGER_RANGE
