"""The SQL text that the PostgreSQL adapter executes, read from `postgresql.sql`.

Parameters are written `:name` there and are numbered for the server. A bulk statement takes one array a
column; the parameters that the plan of a commit holds row by row are turned by slicing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SECTION = re.compile(r"^-- name: (\w+)\n(.*?);\n(?=\n-- name: |\Z)", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?<!:):([a-z]\w*)")


@dataclass(frozen=True, slots=True)
class Bulk:
    """A statement for any number of rows of `width` columns."""

    width: int
    text: str

    def statements(self, parameters: list[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
        """One statement for all rows; none for no rows."""
        if parameters:
            yield self.text, [parameters[column :: self.width] for column in range(self.width)]


@dataclass(frozen=True, slots=True)
class Sql:
    """All statements by name."""

    named: Mapping[str, str]
    bulk: Mapping[str, Bulk]

    def __getitem__(self, name: str) -> str:
        return self.named[name]


def load_sql() -> Sql:
    """Read the text that ships with the package."""
    text = Path(__file__).with_name("postgresql.sql").read_text(encoding="utf-8")
    named: dict[str, str] = {}
    bulk: dict[str, Bulk] = {}
    for name, statement in _SECTION.findall(text):
        if "?" in statement:
            before, *rest = statement.split("?")
            numbered = before + "".join(f"${n}{part}" for n, part in enumerate(rest, 1))
            bulk[name] = Bulk(width=len(rest), text=numbered)
        else:
            named[name] = statement
    return Sql(named=named, bulk=bulk)


def numbered(text: str) -> tuple[str, Sequence[str]]:
    """The text with `$1`, `$2`, … for its named parameters, and their names in that order."""
    names = list(dict.fromkeys(_NAME.findall(text)))
    places = {name: f"${n}" for n, name in enumerate(names, 1)}
    return _NAME.sub(lambda found: places[found[1]], text), names
