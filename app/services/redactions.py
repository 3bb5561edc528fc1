"""What is taken out of a recording: what looks like a secret, and what its owner points at.

A value that is taken out leaves one of its own sort behind (`[redacted]` for text, 0 for a number), so that
what goes by its sort goes on. Text that is taken out goes wherever else an input or an answer repeats it,
in whatever case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from app.dsl.spelling import Speller
from app.engines.recording import Recording
from app.ports.problems import Problem
from app.security.redaction import REDACTED, Redactor, is_secret_key
from app.services.errors import FixtureRejected

EVERY: Final = "*"
"""As a part of a pointer: every member."""
MOST_COMPARISONS: Final = 10_000
SHORTEST_INPUT: Final = 4
"""Shorter texts are taken out where they are pointed at, and not looked for elsewhere: half the words of a
recording may hold them."""
SHORTEST_ANSWER: Final = 16
"""The same of answers, in which there are words of the protocol as well (`stop`, `content_filter`)."""
_STEP_PARTS: Final = 3
"""`steps`, the path, `outputs`: what a pointer to an answer begins with."""
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
"""Of a list item, as RFC 6901 writes it."""


def cleaned(value: Any, redactor: Redactor) -> Any:
    """A copy of a JSON value without secrets, however deep they are."""
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, dict):
        return {
            redactor.text(key): blank(item) if is_secret_key(key) else cleaned(item, redactor)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [cleaned(item, redactor) for item in value]
    return value


def blank(value: Any) -> Any:
    """A value of the same shape that says nothing."""
    match value:
        case str():
            return REDACTED if value else value
        case bool():
            return False
        case int() | float():
            return 0
        case dict():
            return {key: blank(item) for key, item in value.items()}
        case list():
            return [blank(item) for item in value]
        case _:
            return value


def redact_places(recording: Recording, pointers: Sequence[str]) -> Recording:
    """The recording without the inputs and answers that JSON Pointers (RFC 6901, `*` for every member) name,
    and without what the others repeat of them.

    Raises `FixtureRejected` for a pointer that names none.
    """
    if not pointers:
        return recording
    value = recording.model_dump()
    taken: set[str] = set()
    problems = []
    for position, text in enumerate(pointers):
        parts = [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]
        problem = _misplaced(text, parts) or _redact(value, text, parts, taken)
        if problem is not None:
            detail, hint = problem
            problems.append(Problem(pointer=f"/redact/{position}", detail=detail, hint=hint))
    if problems:
        raise FixtureRejected(
            f"nothing was redacted: {problems[0].detail}; {problems[0].hint}", problems=problems
        )
    if taken:
        # The longest first: one may be the beginning of another.
        alternatives = sorted(taken, key=len, reverse=True)
        repeated = re.compile("|".join(map(re.escape, alternatives)), re.IGNORECASE)
        value["inputs"] = _without(value["inputs"], repeated)
        for step in value["steps"].values():
            step["outputs"] = _without(step["outputs"], repeated)
            if step["error"] is not None:
                step["error"]["message"] = _without(step["error"]["message"], repeated)
    return Recording.model_validate(value)


def _texts(value: Any, shortest: int) -> Iterator[str]:
    """The texts of a value that are looked for elsewhere."""
    match value:
        case str():
            if len(value) >= shortest and value != REDACTED:
                yield value
        case dict():
            for item in value.values():
                yield from _texts(item, shortest)
        case list():
            for item in value:
                yield from _texts(item, shortest)


def _without(value: Any, texts: re.Pattern[str]) -> Any:
    match value:
        case str():
            return texts.sub(REDACTED, value)
        case dict():
            return {key: _without(item, texts) for key, item in value.items()}
        case list():
            return [_without(item, texts) for item in value]
        case _:
            return value


def _misplaced(text: str, parts: Sequence[str]) -> tuple[str, str] | None:
    if parts[:1] == ["inputs"]:
        return None
    if parts[:1] == ["steps"] and len(parts) >= _STEP_PARTS and parts[2] == "outputs":
        return None
    return (
        f"{text!r} names neither an input nor an answer",
        "write /inputs/NAME or /steps/PATH/outputs/NAME; all that was made of these goes with them",
    )


def _redact(value: Any, text: str, parts: Sequence[str], taken: set[str]) -> tuple[str, str] | None:
    """Blank what the parts lead to, and add its texts to what was taken; why not, if they lead nowhere."""
    places = [value]
    for part in parts[:-1]:
        found = [item for place in places for item in _members(place, part)]
        if not found:
            return _nowhere(text, part, places)
        places = found
    hit = False
    for place in places:
        for key in _keys(place, parts[-1]):
            taken.update(_texts(place[key], SHORTEST_INPUT if parts[0] == "inputs" else SHORTEST_ANSWER))
            place[key] = blank(place[key])
            hit = True
    return None if hit else _nowhere(text, parts[-1], places)


def _nowhere(text: str, part: str, places: Sequence[Any]) -> tuple[str, str]:
    known = [str(key) for place in places for key in _keys(place, EVERY)]
    hint = Speller(MOST_COMPARISONS).hint(part, known) or "look at the recording without redactions first"
    return f"{text!r} leads nowhere: there is no {part!r}", hint


def _members(place: Any, part: str) -> list[Any]:
    return [place[key] for key in _keys(place, part)]


def _keys(place: Any, part: str) -> list[Any]:
    if isinstance(place, dict):
        return list(place) if part == EVERY else [part] if part in place else []
    if isinstance(place, list):
        if part == EVERY:
            return list(range(len(place)))
        return [int(part)] if _INDEX.fullmatch(part) and int(part) < len(place) else []
    return []
