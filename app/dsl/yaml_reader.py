"""One YAML document to plain JSON values, from parser events, refusing what JSON has no word for.

No anchors, aliases, tags, merge keys, repeated or non-text keys, numbers outside 64 bits, or second
document; bounded in depth and in values, so that nothing large is built from a small text. Scalars follow
YAML 1.2 (`app.dsl.scalars`). Problems with a single node are gathered; broken syntax and a limit end the
reading. The same walk notes where each value stands when it is asked to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from yaml.reader import Reader

from app.dsl.json_scan import line_and_column
from app.dsl.limits import LoadLimits
from app.dsl.scalars import NotRepresentable, resolve
from app.ports.errors import DefinitionInvalid
from app.ports.problems import Problem, pointer

try:
    from yaml._yaml import CParser as _Parser
except ImportError:  # a PyYAML built without libyaml: slower, the same events
    from yaml import SafeLoader as _Parser  # type: ignore[assignment]  # both have get_event()

MOST_PROBLEMS = 100
"""After as many the reading ends: the rest is rarely worth reading."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_QUOTE_KEY = "write the key in quotes to make it text"
_PLAIN_DATA = "write the value out; documents are plain data"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands (its key, where it has one; counted from 1) and a scalar as written."""

    line: int
    column: int
    text: str | None


@dataclass(slots=True)
class _Frame:
    container: Any
    """The list or mapping being read."""
    token: str | int | None
    """The member being read; None where a mapping expects its next key."""
    mark: Any = None
    """Where that member's key stands."""


def read_yaml(text: str, limits: LoadLimits, places: dict[str, Place] | None = None) -> Any:
    """The document's value; `places` is filled by JSON Pointer. Raises `DefinitionInvalid`."""
    return _Reader(limits, places).read(text)


class _Reader:
    """One walk over the events of a text."""

    __slots__ = ("_documents", "_limits", "_places", "_problems", "_root", "_stack", "_values")

    def __init__(self, limits: LoadLimits, places: dict[str, Place] | None) -> None:
        self._limits = limits
        self._places = places
        self._problems: list[Problem] = []
        self._stack: list[_Frame] = []
        self._root: Any = None
        self._documents = 0
        self._values = 0

    def read(self, text: str) -> Any:
        """The root value."""
        try:
            for event in _events(text):
                self._take(event)
        except (yaml.YAMLError, UnicodeEncodeError) as error:
            self._stop(_syntax_problem(text, error))
        if self._documents == 0:
            self._stop(
                Problem(pointer="", detail="the document is empty", hint="start with a name and steps")
            )
        if self._problems:
            raise DefinitionInvalid(self._problems)
        return self._root

    def _take(self, event: Any) -> None:
        kind = type(event)
        if kind is ScalarEvent:
            self._scalar(event)
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            self._stack.pop()
            self._complete()
        elif kind is MappingStartEvent:
            self._open(event, _Frame({}, None))
        elif kind is SequenceStartEvent:
            self._open(event, _Frame([], 0))
        elif kind is AliasEvent:
            self._alias(event)
        elif kind is DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                self._stop(
                    self._problem(event, "a second document begins here", "send one document at a time")
                )

    def _scalar(self, event: Any) -> None:
        self._count(event)
        if self._expects_key():
            self._key(event)
            return
        value = self._resolved(event)
        self._put(event, value, event.value)
        self._complete()

    def _key(self, event: Any) -> None:
        frame, name = self._stack[-1], event.value
        value = self._resolved(event)
        repeated = name in frame.container
        frame.token, frame.mark = name, event.start_mark
        if not isinstance(value, str):
            self._refuse(event, f"the key {name[:40]!r} is not text", _QUOTE_KEY)
        elif name == "<<" and event.implicit[0]:
            self._refuse(event, "merge keys are not accepted", _PLAIN_DATA)
        elif repeated:
            self._refuse(event, f"{name[:100]!r} is given twice", "keep one of the two")

    def _resolved(self, event: Any) -> Any:
        self._check_properties(event)
        text = event.value
        if odd := _UNSTORABLE.search(text):
            what = "a NUL character" if odd[0] == "\0" else "half of a surrogate pair"
            self._refuse(event, f"holds {what}", "remove it; no store can keep it")
        if not event.implicit[0]:
            return text
        try:
            return resolve(text)
        except NotRepresentable as wrong:
            self._refuse(event, f"{text[:40]!r} is {wrong}", "write it as text, in quotes")
            return text

    def _open(self, event: Any, frame: _Frame) -> None:
        self._count(event)
        self._check_properties(event)
        if self._expects_key():
            self._stop(self._problem(event, "a list or mapping cannot be a key", _QUOTE_KEY))
        if len(self._stack) >= self._limits.max_depth:
            detail = f"nested deeper than {self._limits.max_depth} levels"
            self._stop(self._problem(event, detail, "flatten it"))
        self._put(event, frame.container, None)
        self._stack.append(frame)

    def _alias(self, event: Any) -> None:
        detail = f"the alias {'*' + event.anchor[:40]!r} is not accepted"
        if self._expects_key():
            self._stop(self._problem(event, detail, _PLAIN_DATA))
        self._refuse(event, detail, _PLAIN_DATA)
        self._put(event, None, None)
        self._complete()

    def _check_properties(self, event: Any) -> None:
        if event.anchor is not None:
            self._refuse(event, f"the anchor {'&' + event.anchor[:40]!r} is not accepted", _PLAIN_DATA)
        if event.tag is not None:
            self._refuse(event, f"the tag {event.tag[:40]!r} is not accepted", _PLAIN_DATA)

    def _expects_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].token is None

    def _put(self, event: Any, value: Any, text: str | None) -> None:
        frame = self._stack[-1] if self._stack else None
        if self._places is not None:
            mark = frame.mark if frame is not None and frame.mark is not None else event.start_mark
            self._places[self._pointer()] = Place(mark.line + 1, mark.column + 1, text)
        if frame is None:
            self._root = value
        elif type(frame.container) is list:
            frame.container.append(value)
        else:
            frame.container[frame.token] = value

    def _complete(self) -> None:
        """The member being read is done."""
        if self._stack:
            frame = self._stack[-1]
            frame.token = frame.token + 1 if isinstance(frame.token, int) else None

    def _count(self, event: Any) -> None:
        self._values += 1
        if self._values > self._limits.max_values:
            detail = f"more than {self._limits.max_values} keys and values"
            self._stop(self._problem(event, detail, "split the document"))

    def _pointer(self) -> str:
        return pointer(*(frame.token for frame in self._stack if frame.token is not None))

    def _problem(self, event: Any, detail: str, hint: str) -> Problem:
        mark = event.start_mark
        return Problem(
            pointer=self._pointer(), detail=detail, hint=hint, line=mark.line + 1, column=mark.column + 1
        )

    def _refuse(self, event: Any, detail: str, hint: str) -> None:
        self._problems.append(self._problem(event, detail, hint))
        if len(self._problems) >= MOST_PROBLEMS:
            raise DefinitionInvalid(self._problems)

    def _stop(self, problem: Problem) -> NoReturn:
        raise DefinitionInvalid([*self._problems, problem])


def _events(text: str) -> Iterator[Any]:
    parser = _Parser(text)
    while (event := parser.get_event()) is not None:
        yield event


def _syntax_problem(text: str, error: yaml.YAMLError | UnicodeEncodeError) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        line, column = error.problem_mark.line + 1, error.problem_mark.column + 1
        detail = " ".join(part for part in (error.context, error.problem) if part)
        return Problem(
            pointer="",
            detail=f"not YAML: {detail}",
            hint="mend the YAML at this place",
            line=line,
            column=column,
        )
    odd = Reader.NON_PRINTABLE.search(text)
    line, column = line_and_column(text, odd.start() if odd else 0)
    return Problem(
        pointer="",
        detail="holds a character that YAML does not allow",
        hint="remove it, or write it as an escape in double quotes",
        line=line,
        column=column,
    )
