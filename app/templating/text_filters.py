"""Filters on texts and numbers, each linear in its data and paid for."""

from __future__ import annotations

import math
import re
from typing import Any

from jinja2 import pass_context

from app.ports.errors import TemplateFailed
from app.templating.limits import MAX_DECIMALS, MAX_INDENT
from app.templating.missing import Missing
from app.templating.scope import Scope
from app.templating.values import number, text, written


@pass_context
def default(_: Scope, value: Any, default_value: Any = "", boolean: Any = False) -> Any:
    """Another value where this one is missing, or with `boolean` where it is false, empty or null."""
    return default_value if isinstance(value, Missing) or (boolean and not value) else value


@pass_context
def upper(scope: Scope, value: Any) -> str:
    """Upper case."""
    return written(scope, value, "upper").upper()


@pass_context
def lower(scope: Scope, value: Any) -> str:
    """Lower case."""
    return written(scope, value, "lower").lower()


@pass_context
def capitalize(scope: Scope, value: Any) -> str:
    """The first letter in upper case, the others in lower case."""
    return written(scope, value, "capitalize").capitalize()


@pass_context
def title(scope: Scope, value: Any) -> str:
    """Every word's first letter in upper case."""
    source = written(scope, value, "title")
    scope.spend(len(source))
    return re.sub(r"\w[\w']*", lambda word: word[0].capitalize(), source)


@pass_context
def trim(scope: Scope, value: Any, chars: str | None = None) -> str:
    """Without white space, or these characters, at both ends."""
    return written(scope, value, "trim").strip(chars)


@pass_context
def string(scope: Scope, value: Any) -> str:
    """As it would be written into text."""
    return written(scope, value, "string")


@pass_context
def wordcount(scope: Scope, value: Any) -> int:
    """Words between white space."""
    words = written(scope, value, "wordcount")
    scope.spend(len(words) >> 2)
    return len(words.split())


@pass_context
def truncate(  # noqa: PLR0917  # the order of Jinja2's own filter
    scope: Scope, value: Any, length: Any = 255, killwords: Any = False, end: Any = "...", leeway: Any = 5
) -> str:
    """At most `length` characters with `end`, cut between words unless `killwords`."""
    source, ending = written(scope, value, "truncate"), text(scope, end)
    size = int(number(length, "truncate"))
    if size < len(ending):
        raise TemplateFailed(f"truncate({size}) leaves no room for its end {ending!r}")
    if len(source) <= size + number(leeway, "truncate"):
        return source
    kept = source[: size - len(ending)]
    return (kept if killwords else kept.rsplit(" ", 1)[0]) + ending


@pass_context
def replace(scope: Scope, value: Any, old: Any, new: Any, count: Any = None) -> str:
    """Every `old`, or the first `count`, replaced."""
    source, old, new = written(scope, value, "replace"), text(scope, old), text(scope, new)
    limit = -1 if count is None else int(number(count, "replace"))
    found = source.count(old) if limit < 0 else min(source.count(old), limit)
    scope.spend(len(source) >> 3)
    scope.allow_text(len(source) + found * (len(new) - len(old)))
    return source.replace(old, new, limit)


@pass_context
def indent(scope: Scope, value: Any, width: Any = 4, first: Any = False, blank: Any = False) -> str:
    """Lines after the first, or all of them, indented by `width` spaces."""
    source = written(scope, value, "indent")
    width = int(number(width, "indent"))
    if not 0 <= width <= MAX_INDENT:
        raise TemplateFailed(f"indent takes 0 to {MAX_INDENT} spaces, not {width}")
    scope.allow_text(len(source) + width * (source.count("\n") + 1))
    margin = " " * width
    lines = source.split("\n")
    shifted = [margin + line if line or blank else line for line in lines[1:]]
    return "\n".join([margin + lines[0] if first else lines[0], *shifted])


@pass_context
def as_int(scope: Scope, value: Any, default: Any = 0) -> int:
    """A whole number; `default` for what is none."""
    return int(_converted(scope, value, "int", default))


@pass_context
def as_float(scope: Scope, value: Any, default: Any = 0.0) -> float:
    """A number; `default` for what is none."""
    return float(_converted(scope, value, "float", default))


def _converted(scope: Scope, value: Any, who: str, instead: Any) -> int | float:
    if isinstance(value, str):
        scope.spend(len(value) >> 3)
        for convert in (int, float):
            try:
                return number(convert(value), who)
            except (ValueError, TemplateFailed):
                continue
        return number(instead, who)
    if isinstance(value, (int, float, Missing)):
        return number(value, who)
    return number(instead, who)


@pass_context
def absolute(_: Scope, value: Any) -> int | float:
    """Without its sign."""
    return abs(number(value, "abs"))


@pass_context
def rounded(_: Scope, value: Any, precision: Any = 0, method: Any = "common") -> int | float:
    """To `precision` decimals: `common`, `ceil` or `floor`."""
    places = int(number(precision, "round"))
    if abs(places) > MAX_DECIMALS:
        raise TemplateFailed(f"round takes -{MAX_DECIMALS} to {MAX_DECIMALS} decimals, not {places}")
    original = number(value, "round")
    if method == "common":
        return round(original, places)
    if method not in {"ceil", "floor"}:
        raise TemplateFailed("round takes 'common', 'ceil' or 'floor'")
    step = math.ceil if method == "ceil" else math.floor
    return number(step(original * 10**places) / 10**places, "round")
