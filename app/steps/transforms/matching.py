"""Regular expressions, on an engine without backtracking (RE2), within a budget of time.

Even so a search for many matches can be quadratic, and a large pattern costs its size at every character:
both are bounded before and while matching.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal

import re2  # type: ignore[import-untyped]  # the wheel ships no type hints
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.ports.errors import PermanentError
from app.steps.fields import Flag, Int, Text
from app.steps.kind import Templated, is_template
from app.steps.transforms.function import MAX_SIZE, Parameters, alone, as_text, refuse, too_large

MAX_MATCHES: Final = 10_000
MAX_WORK: Final = 50_000_000
"""Instructions of the pattern times characters of the text: about 0.2 s at worst."""
MAX_SECONDS: Final = 0.25
MAX_MEMORY: Final = 1024 * 1024


class Pattern(Parameters):
    """A pattern in RE2's syntax (no look-around, no back-references) and what to do with its matches."""

    pattern: Templated[Annotated[str, Field(min_length=1, max_length=1_000)]]
    operation: Templated[Literal["find", "first", "test", "split", "replace"]] = "find"
    replacement: Templated[Text] | None = None
    group: Templated[Annotated[Int, Field(ge=0, le=99)]] | None = None
    ignore_case: Templated[Flag] = False

    @model_validator(mode="after")
    def _replacement_given(self) -> Pattern:
        if (self.operation == "replace") != (self.replacement is not None) and not is_template(
            self.operation
        ):
            raise PydanticCustomError("replacement", "'replacement' belongs to 'operation: replace'")
        return self


def regex(inputs: Sequence[Any], parameters: Pattern) -> Any:
    """What a pattern finds in a text; of a list of texts, the list of what it finds in each.

    - `find` (default): every match; - `first`: the first one, or null; - `test`: whether there is one;
    - `split`: the parts between matches; - `replace`: the text with `replacement` for every match, taken
    literally. A match is the text of `group`, by default of group 1 if the pattern has groups, else the
    whole of it. At most `MAX_MATCHES` matches a text.
    """
    expression = compiled(parameters)
    group = (1 if expression.groups else 0) if parameters.group is None else parameters.group
    if group > expression.groups:
        raise refuse(f"'regex' has no group {group}; the pattern has {expression.groups}")
    deadline = time.thread_time() + MAX_SECONDS
    source = alone(inputs)
    texts = source if isinstance(source, list) else [source]
    results = []
    for item in texts:
        text = as_text(item, function="regex")
        results.append(_result(text, _matches(expression, text, deadline), parameters, group))
    return results if isinstance(source, list) else results[0]


def compiled(parameters: Pattern) -> Any:
    """The compiled pattern. Raises `PermanentError("invalid_config")` for one that RE2 does not take."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    options.case_sensitive = not parameters.ignore_case
    try:
        return re2.compile(parameters.pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise PermanentError("invalid_config", f"the pattern cannot be used: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    first = error.args[0] if error.args else error
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(error)


def pattern_problem(parameters: Pattern) -> str | None:
    """Why a pattern that is written out in a document cannot be used, or None."""
    if is_template(parameters.pattern):
        return None
    try:
        compiled(parameters)
    except PermanentError as error:
        return str(error)
    return None


def _matches(expression: Any, text: str, deadline: float) -> Iterator[Any]:
    if expression.programsize * len(text) > MAX_WORK:
        raise PermanentError("too_large", "the text is too long for this pattern; split it first")
    try:
        for number, match in enumerate(expression.finditer(text)):
            if number == MAX_MATCHES:
                raise PermanentError(
                    "too_large", f"the pattern has more than {MAX_MATCHES} matches in one text"
                )
            if time.thread_time() > deadline:
                raise PermanentError(
                    "too_large", f"matching took more than {MAX_SECONDS} s; simplify the pattern"
                )
            yield match
    except UnicodeEncodeError:
        raise refuse("'regex' was given text that is not valid Unicode") from None


def _result(text: str, matches: Iterator[Any], parameters: Pattern, group: int) -> Any:
    match parameters.operation:
        case "find":
            return [found.group(group) for found in matches]
        case "first":
            return next((found.group(group) for found in matches), None)
        case "test":
            return next(matches, None) is not None
        case _:
            between = _between(text, matches)
    if parameters.operation == "split":
        return between
    replacement = parameters.replacement or ""
    if len(replacement) * len(between) + len(text) > MAX_SIZE:
        raise too_large()
    return replacement.join(between)


def _between(text: str, matches: Iterator[Any]) -> list[str]:
    parts, end = [], 0
    for found in matches:
        parts.append(text[end : found.start()])
        end = found.end()
    return [*parts, text[end:]]
