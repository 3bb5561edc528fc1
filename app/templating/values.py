"""What template values are: plain data, reached into by key and index only, and how they become text.

No attribute of a Python object is ever read on behalf of a template, except the few names of the loop
record, of groups and of a namespace that are listed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson
from jinja2.runtime import LoopContext
from jinja2.utils import Namespace, missing

from app.ports.errors import TemplateFailed
from app.templating.limits import MAX_INTEGER, MAX_TREE_DEPTH
from app.templating.missing import Key, Missing
from app.templating.scope import Scope

LOOP_FIELDS: Final = frozenset(
    {
        "index",
        "index0",
        "revindex",
        "revindex0",
        "first",
        "last",
        "length",
        "depth",
        "depth0",
        "previtem",
        "nextitem",
    }
)
GROUP_FIELDS: Final = frozenset({"grouper", "list"})
_FIELDS: Final = ((LoopContext, LOOP_FIELDS), (tuple, GROUP_FIELDS))
SCALARS: Final = frozenset({str, int, float, bool, type(None)})


_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    ((type(None), Missing), "null"),
    (bool, "true or false"),
    (str, "text"),
    ((int, float), "a number"),
    (Mapping, "an object"),
    (Iterable, "a list"),
)


def kind(value: Any) -> str:
    """A value's type in an author's words."""
    for types, words in _KINDS:
        if isinstance(value, types):
            return words
    return "a function" if callable(value) else "no data"


def look_up(holder: Any, key: Key) -> Any:
    """The item under a key or index, or Jinja2's marker for none. Never a method or attribute."""
    if isinstance(holder, Mapping):
        return holder.get(key, missing)
    if isinstance(key, int):
        fits = isinstance(holder, (list, tuple, str)) and -len(holder) <= key < len(holder)
        return holder[key] if fits else missing
    fields = next((names for known, names in _FIELDS if isinstance(holder, known)), None)
    if isinstance(holder, Namespace):
        fields = frozenset() if key.startswith("_") else frozenset({key})
    return getattr(holder, key, missing) if fields and key in fields else missing


def follow(value: Any, keys: tuple[Key, ...], label: str) -> Any:
    """Reach into a value along keys; `label` is what the value is called. Yields `Missing`, never raises."""
    for position, key in enumerate(keys):
        if type(value) is dict:
            found = value.get(key, missing)
        elif isinstance(value, Missing):
            return value.extend(keys[position:])
        else:
            found = look_up(value, key)
        if found is missing:
            return Missing.at(label, keys, position, value)
        value = found
    return value


def present(value: Any) -> Any:
    """The value itself. Raises `TemplateFailed` for one that is missing."""
    if isinstance(value, Missing):
        raise TemplateFailed(value.explain())
    return value


def text(scope: Scope, value: Any) -> str:
    """How a value is written into text: like JSON, except that text has no quotes and null is nothing."""
    if isinstance(value, str):
        return value if type(value) is str else str(value)
    if value is None:
        return ""
    if value is True or value is False:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    return as_json(scope, value)


def as_json(scope: Scope, value: Any, *, indent: bool = False) -> str:
    """Compact JSON, or with an indentation of two spaces. Raises `TemplateFailed`."""
    present(value)
    scope.spend_on(value)
    try:
        encoded = orjson.dumps(value, default=_unfold, option=orjson.OPT_INDENT_2 if indent else None)
    except TypeError as error:
        raise TemplateFailed(f"{kind(value)} cannot be written as JSON: {error}") from error
    return encoded.decode()


def _unfold(value: Any) -> Any:
    present(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Iterator, range)) and not isinstance(value, LoopContext):
        return list(value)
    raise TemplateFailed(f"{kind(value)} cannot be written as JSON")


def plain(scope: Scope, value: Any, depth: int = 0) -> Any:
    """A value that the template built, as JSON data: tuples and iterators become lists."""
    if type(value) in SCALARS:
        return value
    if depth > MAX_TREE_DEPTH:
        raise TemplateFailed(f"the value is nested more than {MAX_TREE_DEPTH} levels deep")
    present(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        scope.spend(len(value) + 4)
        return {
            _plain_key(key): item if type(item) in SCALARS else plain(scope, item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple, range, Iterator)) and not isinstance(value, LoopContext):
        items = items_of(scope, value, "the value")
        return [item if type(item) in SCALARS else plain(scope, item, depth + 1) for item in items]
    raise TemplateFailed(f"{kind(value)} is no JSON value")


def _plain_key(key: Any) -> str:
    if isinstance(key, str):
        return str(key)
    raise TemplateFailed(f"the keys of an object are text, not {kind(key)}")


def items_of(scope: Scope, value: Any, who: str) -> list[Any] | tuple[Any, ...]:
    """What iterating over a value yields: items, keys or characters. `who` asks. Raises `TemplateFailed`."""
    if isinstance(value, (list, tuple)):
        scope.spend(len(value) + 2)
        return value
    if isinstance(value, (Mapping, str, range)):
        scope.spend(len(value) + 2)
        return list(value)
    if isinstance(value, Missing):
        return ()
    if isinstance(value, Iterator) and not isinstance(value, LoopContext):
        items = list(value)
        scope.spend(len(items))
        return items
    raise TemplateFailed(f"{who} needs a list, not {kind(value)}; default([], true) makes null an empty one")


def number(value: Any, who: str) -> int | float:
    """A finite number. `who` asks. Raises `TemplateFailed`."""
    present(value)
    if isinstance(value, (int, float)):
        if -MAX_INTEGER <= value <= MAX_INTEGER or (isinstance(value, float) and math.isfinite(value)):
            return value
        raise TemplateFailed(f"{who} meets a number that is too large")
    raise TemplateFailed(f"{who} needs a number, not {kind(value)}; the filters int and float convert text")


def written(scope: Scope, value: Any, who: str) -> str:
    """The text of a value that a filter works on. Raises `TemplateFailed`."""
    present(value)
    if callable(value):
        raise TemplateFailed(f"{who} needs text, not {kind(value)}")
    result = text(scope, value)
    scope.spend(len(result) >> 6)
    return result


def concatenate(scope: Scope, values: Iterable[Any], delimiter: str = "") -> str:
    """The texts of values, with a delimiter between them. Raises `TemplateFailed` for more than fits."""
    parts: list[str] = []
    size = 0
    for value in values:
        part = text(scope, value)
        size += len(part) + len(delimiter)
        scope.allow_text(size, fresh=len(part) + len(delimiter))
        parts.append(part)
    return delimiter.join(parts)
