"""How the statements of the SQL stores are spelled for PostgreSQL.

They are written once, in `app.stores.sql`, with SQLite's functions on JSON; here is what PostgreSQL calls
them. Text compares byte by byte (`COLLATE "C"`), as everywhere else, whatever the database's own language;
whole numbers have 64 bits. Many rows are one array a column (`unnest`). Used at development time only.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDialect, PGTypeCompiler
from sqlalchemy.types import NullType

UNTYPED: Final = {
    "statuses": "TEXT",
    "status": "TEXT",
    "revision": "BIGINT",
    "next_attempt_at": "DOUBLE PRECISION",
}
"""Parameters whose type does not follow from where they stand."""


class _Types(PGTypeCompiler):
    def visit_TEXT(self, type_: Any, **kw: Any) -> str:  # noqa: N802  SQLAlchemy's name
        return 'TEXT COLLATE "C"'

    def visit_INTEGER(self, type_: Any, **kw: Any) -> str:  # noqa: N802  SQLAlchemy's name
        return "BIGINT"


class _Statements(PGCompiler):
    def visit_bindparam(self, bindparam: Any, *args: Any, **kw: Any) -> str:
        text: str = super().visit_bindparam(bindparam, *args, **kw)  # type: ignore[no-untyped-call]  # untyped there
        kind = UNTYPED.get(bindparam.key)
        return text if kind is None else f"CAST({text} AS {kind})"

    def visit_column(self, column: Any, *args: Any, **kw: Any) -> str:
        # The unary plus is a hint to SQLite.
        text: str = super().visit_column(column, *args, **kw)
        return text.removeprefix("+") if column.is_literal else text

    def visit_values(self, element: Any, *args: Any, **kw: Any) -> str:
        arrays = ", ".join(
            f"CAST(? AS {_array_of(self.dialect.type_compiler_instance.process(column.type))})"
            for column in element.columns
        )
        return f"SELECT * FROM unnest({arrays})"  # noqa: S608  of our own columns

    def visit_table_valued_alias(self, element: Any, **kw: Any) -> str:
        pairs = "key" in element.c
        return str(super().visit_table_valued_alias(element, pairs=pairs, **kw))  # type: ignore[no-untyped-call]  # as above

    def visit_json_each_func(self, function: Any, *, pairs: bool = False, **kw: Any) -> str:
        name = "jsonb_each_text" if pairs else "jsonb_array_elements_text"
        return f"{name}({self._json(function, **kw)})"

    def visit_json_extract_func(self, function: Any, **kw: Any) -> str:
        _, path = function.clauses
        place = re.findall(r"\d+", self.process(path, **kw))[0]
        text = f"{self._json(function, **kw)} ->> {place}"
        if isinstance(function.type, NullType) or "CHAR" in str(function.type):
            return f"({text})"
        return f"CAST({text} AS {self.dialect.type_compiler_instance.process(function.type)})"

    def _on_conflict_target(self, clause: Any, **kw: Any) -> Any:
        # SQLite's clause has no constraints by name.
        clause.constraint_target = None
        return super()._on_conflict_target(clause, **kw)  # type: ignore[no-untyped-call]  # as above

    def visit_zeroblob_func(self, function: Any, **kw: Any) -> str:
        return r"'\x00'::bytea"

    def visit_randomblob_func(self, function: Any, **kw: Any) -> str:
        # 32 bytes a hash, which no compression makes smaller.
        size = int(self.process(next(iter(function.clauses)), **kw))
        rows = f"generate_series(1, {size // 32}) AS n"
        hashes = "string_agg(sha256((random() + n)::text::bytea), '')"
        return f"(SELECT {hashes} FROM {rows})"  # noqa: S608  of a number of ours

    def _json(self, function: Any, **kw: Any) -> str:
        source = self.process(next(iter(function.clauses)), **kw)
        if source.startswith(":"):
            source = f"CAST({source} AS TEXT)"
        return f"CAST({source} AS JSONB)"


def _array_of(kind: str) -> str:
    return f"{kind.partition(' COLLATE')[0]}[]"


def dialect() -> PGDialect:
    """For statements with named parameters (`:name`)."""
    made = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]  # as above
    made.insert_returning = False
    made.statement_compiler = _Statements
    made.type_compiler_instance = _Types(made)
    return made
