"""The filters that are safe on the event loop: each one's cost is linear in its data, and paid for.

They take the place of Jinja2's own of the same names, in workers too, so that a template means the same
wherever it renders. Missing values act as empty lists; where text or a number is needed they fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from app.templating import list_filters as lists
from app.templating import text_filters as texts
from app.templating.operators import json_text

FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "abs": texts.absolute,
    "capitalize": texts.capitalize,
    "count": lists.count_items,
    "d": texts.default,
    "default": texts.default,
    "first": lists.first,
    "float": texts.as_float,
    "indent": texts.indent,
    "int": texts.as_int,
    "items": lists.pairs,
    "join": lists.join,
    "last": lists.last,
    "length": lists.count_items,
    "list": lists.as_list,
    "lower": texts.lower,
    "map": lists.mapped,
    "max": lists.largest,
    "min": lists.smallest,
    "reject": lists.choose(False, False, "reject"),
    "rejectattr": lists.choose(True, False, "rejectattr"),
    "replace": texts.replace,
    "reverse": lists.reverse,
    "round": texts.rounded,
    "select": lists.choose(False, True, "select"),
    "selectattr": lists.choose(True, True, "selectattr"),
    "string": texts.string,
    "sum": lists.total,
    "title": texts.title,
    "tojson": json_text,
    "trim": texts.trim,
    "truncate": texts.truncate,
    "upper": texts.upper,
    "wordcount": texts.wordcount,
}
