"""The SQL text that the SQLite adapter executes, read from `sqlite.sql`.

Bulk statements are written there for one row. `Bulk` repeats that row: a whole batch goes out in one
statement, filled up to one of a few sizes with rows whose first column is NULL, so that every text stays
prepared. Each step of SQLite gives the interpreter lock away and has to win it back from a busy event
loop: one step a batch, not one a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Rows of a bulk statement; the largest times the widest table stays below SQLite's 32,766 parameters."""
FILLER: Final = 0
"""Stands behind the NULL of a row that fills up. Python's `sqlite3` binds an `int`, `float`, `str` or
`bytearray` at once; for None and `bytes` it first looks for an adapter, which takes fifteen times as long."""

_SECTION = re.compile(r"^-- name: (\w+)\n(.*?);\n(?=\n-- name: |\Z)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"\(VALUES (\(\?(?:, \?)*\))\)")


@dataclass(frozen=True, slots=True)
class Bulk:
    """A statement for any number of rows of `width` parameters each."""

    width: int
    texts: Mapping[int, str]

    def statements(self, parameters: list[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
        """Split the parameters of whole rows into statements, each with its own."""
        for start in range(0, len(parameters), SIZES[-1] * self.width):
            part = parameters[start : start + SIZES[-1] * self.width]
            rows = len(part) // self.width
            size = next(size for size in SIZES if size >= rows)
            part.extend([None, *[FILLER] * (self.width - 1)] * (size - rows))
            yield self.texts[size], part


@dataclass(frozen=True, slots=True)
class Sql:
    """All statements by name."""

    named: Mapping[str, str]
    bulk: Mapping[str, Bulk]

    def __getitem__(self, name: str) -> str:
        return self.named[name]


def load_sql() -> Sql:
    """Read the text that ships with the package."""
    text = Path(__file__).with_name("sqlite.sql").read_text(encoding="utf-8")
    named: dict[str, str] = {}
    bulk: dict[str, Bulk] = {}
    for name, statement in _SECTION.findall(text):
        row = _ROW.search(statement)
        if row is None:
            named[name] = statement
        else:
            bulk[name] = _bulk(statement, row)
    return Sql(named=named, bulk=bulk)


def _bulk(statement: str, row: re.Match[str]) -> Bulk:
    one = row.group(1)
    before, after = statement[: row.start(1)], statement[row.end(1) :]
    return Bulk(width=one.count("?"), texts={n: before + ", ".join([one] * n) + after for n in SIZES})
