"""Filters on lists and objects, each linear in its data and paid for. A missing value is an empty list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import pass_context

from app.ports.errors import TemplateFailed
from app.templating.missing import Key, Missing
from app.templating.operators import holds
from app.templating.predicates import TESTS
from app.templating.scope import Scope
from app.templating.values import concatenate, follow, items_of, kind, number, text, written


@pass_context
def count_items(scope: Scope, value: Any) -> int:
    """Items of a list, keys of an object, characters of a text."""
    if isinstance(value, (str, list, tuple, Mapping, range)):
        return len(value)
    return len(items_of(scope, value, "length"))


@pass_context
def join(scope: Scope, value: Any, d: Any = "", attribute: Any = None) -> str:
    """The items' texts, or of one attribute of each, with the delimiter `d` between them."""
    return concatenate(scope, _attributes(scope, value, attribute, "join"), text(scope, d))


@pass_context
def first(scope: Scope, value: Any) -> Any:
    """The first item."""
    items = value if isinstance(value, (list, tuple, str)) else items_of(scope, value, "first")
    return items[0] if items else Missing("the first item of an empty list is not there")


@pass_context
def last(scope: Scope, value: Any) -> Any:
    """The last item."""
    items = value if isinstance(value, (list, tuple, str)) else items_of(scope, value, "last")
    return items[-1] if items else Missing("the last item of an empty list is not there")


@pass_context
def as_list(scope: Scope, value: Any) -> list[Any]:
    """Items of a list, keys of an object, characters of a text."""
    return list(items_of(scope, value, "list"))


@pass_context
def pairs(scope: Scope, value: Any) -> list[tuple[Any, Any]]:
    """Keys of an object with their values."""
    if isinstance(value, Missing):
        return []
    if not isinstance(value, Mapping):
        raise TemplateFailed(f"items needs an object, not {kind(value)}")
    scope.spend(len(value))
    return list(value.items())


@pass_context
def reverse(scope: Scope, value: Any) -> Any:
    """Back to front."""
    if isinstance(value, str):
        return written(scope, value, "reverse")[::-1]
    return list(reversed(items_of(scope, value, "reverse")))


@pass_context
def total(scope: Scope, value: Any, attribute: Any = None, start: Any = 0) -> int | float:
    """The sum of numbers, or of one attribute of each item."""
    numbers = [number(part, "sum") for part in _attributes(scope, value, attribute, "sum")]
    return number(sum(numbers, number(start, "sum")), "sum")


@pass_context
def largest(scope: Scope, value: Any, attribute: Any = None) -> Any:
    """The item that is largest, by itself or by one attribute."""
    return _extreme(scope, value, attribute, "max", "gt")


@pass_context
def smallest(scope: Scope, value: Any, attribute: Any = None) -> Any:
    """The item that is smallest, by itself or by one attribute."""
    return _extreme(scope, value, attribute, "min", "lt")


def _extreme(scope: Scope, value: Any, attribute: Any, who: str, order: str) -> Any:
    items = items_of(scope, value, who)
    keys = _attributes(scope, items, attribute, who)
    if not keys:
        return Missing(f"the {who} of an empty list is not there")
    scope.spend(len(keys) * 4)
    best = 0
    for position in range(1, len(keys)):
        if holds(scope, keys[position], order, keys[best]):
            best = position
    return items[best]


def _path(scope: Scope, attribute: Any) -> tuple[Key, ...]:
    if isinstance(attribute, int):
        return (attribute,)
    return tuple(int(part) if part.isdigit() else part for part in text(scope, attribute).split("."))


def _attributes(scope: Scope, value: Any, attribute: Any, who: str) -> list[Any]:
    items = items_of(scope, value, who)
    if attribute is None:
        return list(items)
    path = _path(scope, attribute)
    scope.spend(len(items) * (len(path) + 2))
    return [follow(part, path, f"(item {index})") for index, part in enumerate(items)]


@pass_context
def mapped(scope: Scope, value: Any, name: Any = None, *args: Any, **options: Any) -> list[Any]:
    """`map(attribute='a.b', default=x)`, or another filter applied to every item."""
    if name is None:
        attribute, instead = options.pop("attribute", None), options.pop("default", None)
        if attribute is None or options:
            raise TemplateFailed("map takes attribute='name', or the name of a filter in quotes")
        found = _attributes(scope, value, attribute, "map")
        return [instead if isinstance(part, Missing) and instead is not None else part for part in found]
    items = items_of(scope, value, "map")
    scope.spend(len(items) * 4)
    return [scope.environment.call_filter(name, part, args, options, scope) for part in items]


def choose(by_attribute: bool, wanted: bool, who: str) -> Callable[..., list[Any]]:
    @pass_context
    def chosen(scope: Scope, value: Any, *args: Any) -> list[Any]:
        items = items_of(scope, value, who)
        subjects: list[Any] | tuple[Any, ...] = items
        if by_attribute:
            if not args:
                raise TemplateFailed(f"{who} takes the name of an attribute in quotes")
            subjects, args = _attributes(scope, items, args[0], who), args[1:]
        test = TESTS[args[0]] if args else None
        scope.spend(len(items) * 4)
        return [
            part
            for part, subject in zip(items, subjects, strict=True)
            if bool(test(scope, subject, *args[1:]) if test else subject) is wanted
        ]

    return chosen
