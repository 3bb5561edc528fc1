"""Reading what a model wrote: parse_json, extract.

Models put values into Markdown fences and prose around them. A fence is a line of three or more backticks
or tildes, up to a line of as many of the same; one that is never closed reaches to the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

import orjson
from pydantic import model_validator
from pydantic_core import PydanticCustomError

from app.ports.errors import PermanentError
from app.steps.fields import Flag, Name
from app.steps.kind import Templated
from app.steps.structured import unfenced
from app.steps.transforms.function import MISSING, Parameters, alone, as_text

_FENCE: Final = re.compile(r"^[ \t]*+(`{3,}+|~{3,}+)([^\n`]*+)$", re.MULTILINE)
_OPENING: Final = re.compile(r"[\[{]")
_MAX_PROSE: Final = 256 * 1024
"""Characters of text that values are looked for between other words."""
_MAX_TRIES: Final = 64


class Fallback(Parameters):
    """What stands in for text that is no JSON; without it such text fails the step."""

    default: Any = None


def parse_json(inputs: Sequence[Any], parameters: Fallback) -> Any:
    """The value that a JSON text holds; of a list of texts, the list of values.

    Where the text as a whole is no JSON, the first code fence in it that holds JSON counts. Raises
    `PermanentError("invalid_output")` for text without, unless there is a `default`: the same text parsed
    again is the same.
    """
    source = alone(inputs)
    if isinstance(source, list):
        return [_parsed(item, parameters) for item in source]
    return _parsed(source, parameters)


def _parsed(item: Any, parameters: Fallback) -> Any:
    if item is None and "default" in parameters.model_fields_set:
        return parameters.default
    text = as_text(item, function="parse_json")
    try:
        return orjson.loads(unfenced(text))
    except orjson.JSONDecodeError as error:
        value = next(_fenced_values(text), MISSING)
        if value is not MISSING:
            return value
        if "default" in parameters.model_fields_set:
            return parameters.default
        raise PermanentError(
            "invalid_output",
            f"'parse_json' was given text that is no JSON ({error.msg}, position {error.pos})",
        ) from None


class Wanted(Parameters):
    """What is taken out of an answer."""

    what: Templated[Literal["json", "code"]] = "json"
    language: Templated[Name] | None = None
    all: Templated[Flag] = False
    default: Any = None

    @model_validator(mode="after")
    def _of_code(self) -> Wanted:
        if self.language is not None and self.what == "json":
            raise PydanticCustomError("no_language", "'language' belongs to 'what: code'")
        return self


def extract(inputs: Sequence[Any], parameters: Wanted) -> Any:
    """What stands in a text between other words; of a list of texts, the list of what stands in each.

    - `what: json`: a value. The text itself if it is JSON, else what its code fences hold, else the
      objects and lists between its words (in texts of up to 256 Ki characters). Of several between words
      the longest counts.
    - `what: code`: the inside of a code fence, the first one or the first of `language`.

    With `all`, the list of everything found, in order. Nothing found is `default` (null), or with `all`
    the empty list.
    """
    source = alone(inputs)
    if isinstance(source, list):
        return [_extracted(item, parameters) for item in source]
    return _extracted(source, parameters)


def _extracted(item: Any, wanted: Wanted) -> Any:
    text = as_text(item, function="extract")
    found = _code(text, wanted.language) if wanted.what == "code" else _json(text)
    if wanted.all:
        return [value for value, _ in found]
    if not found:
        return wanted.default
    return max(found, key=lambda value_and_weight: value_and_weight[1])[0]


Weighed = list[tuple[Any, int]]
"""Values with weights: of equal ones the first counts, otherwise the heaviest."""


def _code(text: str, language: str | None) -> Weighed:
    wanted = language.casefold() if language else None
    return [(it.content, 0) for it in _fences(text) if wanted is None or it.language.casefold() == wanted]


def _json(text: str) -> Weighed:
    try:
        return [(orjson.loads(text), 0)]
    except orjson.JSONDecodeError:
        fenced = list(_fenced_values(text))
    return [(value, 0) for value in fenced] or list(_values_in_prose(text))


def _fenced_values(text: str) -> Iterator[Any]:
    for fence in _fences(text):
        try:
            yield orjson.loads(fence.content)
        except orjson.JSONDecodeError:
            continue


def _values_in_prose(text: str) -> Iterator[tuple[Any, int]]:
    if len(text) > _MAX_PROSE:
        return
    decoder, reached = json.JSONDecoder(), 0
    for number, opening in enumerate(_OPENING.finditer(text)):
        if number == _MAX_TRIES:
            return
        start = opening.start()
        if start < reached:
            continue
        try:
            _, end = decoder.raw_decode(text, start)
            value = orjson.loads(text[start:end])
        except (ValueError, RecursionError):
            continue
        reached = end
        yield value, end - start


class _Fence(NamedTuple):
    language: str
    content: str


def _fences(text: str) -> Iterator[_Fence]:
    opened: re.Match[str] | None = None
    for line in _FENCE.finditer(text):
        if opened is None:
            opened = line
        elif line[1].startswith(opened[1]) and not line[2].strip():
            yield _fence(opened, text[opened.end() : line.start()])
            opened = None
    if opened is not None:
        yield _fence(opened, text[opened.end() :])


def _fence(opened: re.Match[str], content: str) -> _Fence:
    language = opened[2].split()
    return _Fence(language[0] if language else "", content.removeprefix("\n").removesuffix("\n"))
