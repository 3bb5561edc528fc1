"""Hints for authors whose template uses what is not there: the nearest name, or how it is written here."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

_FILTER_HINTS = {
    "safe": "leave it out: nothing is escaped here",
    "attr": "write value['name']",
    "json": "write {{ value | tojson }}",
    "to_json": "write {{ value | tojson }}",
    "size": "write {{ value | length }}",
    "len": "write {{ value | length }}",
    "str": "write {{ value | string }}",
}
_METHOD_HINTS = {
    "items": "write {% for key, value in data | items %}",
    "keys": "write {% for key in data %}, or {{ data | list }}",
    "values": "write {% for key, value in data | items %}",
    "get": "write {{ data.name | default('…') }}",
    "format": "join texts with ~: {{ 'a ' ~ value }}",
    "append": "data cannot be changed; build a list with the filter map or select",
}


def nearest(name: str, known: Collection[str]) -> str | None:
    """`did you mean …?`, where a known name is similar."""
    near = get_close_matches(name, sorted(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None


def on_filter(name: str, known: Collection[str]) -> str | None:
    """What to write instead of an unknown filter."""
    return _FILTER_HINTS.get(name) or nearest(name, known)


def on_method(name: str, filters: Collection[str]) -> str | None:
    """What to write instead of a method of data."""
    return _METHOD_HINTS.get(name) or (f"write {{{{ value | {name} }}}}" if name in filters else None)
