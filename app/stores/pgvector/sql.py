"""Every statement of the PostgreSQL vector store. Pure: names and values in, statements out.

In the configured schema stand a table `indexes`, which knows every index by its name, and a table of
records for each of them, `records_<number>`: the length of vectors is part of a column's type. Identifiers
are quoted, values are parameters. What the extension owns is named with the schema it is installed in, for
that need not be on anybody's search path.
"""

# ruff: noqa: S608 - identifiers are quoted by `quoted` or made of numbers; values are parameters

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.ports.vector_filters import FilterTree
from app.ports.vectors import Metric
from app.stores.pgvector.filter import Parameters, condition

OPERATORS: Final[dict[Metric, str]] = {"cosine": "<=>", "dot": "<#>", "euclidean": "<->"}
OPERATOR_CLASSES: Final[dict[Metric, str]] = {
    "cosine": "vector_cosine_ops",
    "dot": "vector_ip_ops",
    "euclidean": "vector_l2_ops",
}
PLAIN_DIMENSIONS: Final = 1750
"""The longest vectors that fit a page beside their record: kept in the row, a scan need not look them up."""
CREATION_LOCK: Final = 7_217_305_588_302_163_541
"""Key of the advisory lock under which indexes are made: any number that nobody else takes."""
EXTENSION: Final = (
    "SELECT namespace.nspname FROM pg_catalog.pg_extension AS extension "
    "JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = extension.extnamespace "
    "WHERE extension.extname = 'vector'"
)
LOCK_CREATION: Final = f"SELECT pg_advisory_xact_lock({CREATION_LOCK})"
SCHEMA_EXISTS: Final = "SELECT to_regnamespace($1::text) IS NOT NULL"
_WORDS: Final = """jsonb_to_tsvector('simple'::regconfig, metadata, '["string"]'::jsonb)"""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and the values of its parameters."""

    text: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRow:
    """An index as the database knows it."""

    number: int
    name: str
    dimensions: int
    metric: Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is looked for in one namespace, and what of it is wanted beside ids and scores."""

    vector: Sequence[float]
    namespace: str
    tree: FilterTree | None
    limit: int
    metadata: bool
    vectors: bool

    @property
    def columns(self) -> str:
        """Of a result."""
        return "id" + (", metadata" if self.metadata else "") + (", embedding" if self.vectors else "")


def quoted(identifier: str) -> str:
    """An identifier as it stands in a statement."""
    escaped = identifier.replace('"', '""')
    return f'"{escaped}"'


class Sql:
    """The statements for one schema; `extension` is the schema that the extension is in."""

    def __init__(self, schema: str, extension: str) -> None:
        self.schema = quoted(schema)
        self._extension = quoted(extension)
        self._indexes = f"{self.schema}.indexes"
        self._columns = "number, name, dimensions, metric"

    def create_schema(self) -> str:
        """The schema."""
        return f"CREATE SCHEMA {self.schema}"

    def create_indexes(self) -> str:
        """The table of indexes; harmless when it is there."""
        return (
            f"CREATE TABLE IF NOT EXISTS {self._indexes} ("
            "number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
            "name text NOT NULL UNIQUE, dimensions integer NOT NULL, metric text NOT NULL)"
        )

    def add_index(self, name: str, dimensions: int, metric: Metric) -> Statement:
        """Nothing is returned where the index is there already."""
        return Statement(
            f"INSERT INTO {self._indexes} (name, dimensions, metric) VALUES ($1, $2, $3) "
            f"ON CONFLICT (name) DO NOTHING RETURNING {self._columns}",
            (name, dimensions, metric),
        )

    def create_records(self, index: IndexRow, *, hnsw: bool, words: bool) -> list[str]:
        """The table of an index's records, and the indexes on it."""
        table = self._records(index)
        statements = [
            f'CREATE TABLE {table} (namespace text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, '
            f"embedding {self._extension}.vector({index.dimensions:d}) NOT NULL, metadata jsonb NOT NULL, "
            "PRIMARY KEY (namespace, id))"
        ]
        if index.dimensions <= PLAIN_DIMENSIONS:
            statements.append(f"ALTER TABLE {table} ALTER COLUMN embedding SET STORAGE PLAIN")
        if hnsw:
            operators = f"{self._extension}.{OPERATOR_CLASSES[index.metric]}"
            statements.append(f"CREATE INDEX ON {table} USING hnsw (embedding {operators})")
        if words:
            statements.append(f"CREATE INDEX ON {table} USING gin ({_WORDS})")
        return statements

    def find_index(self, name: str) -> Statement:
        """One index, if it is there."""
        return Statement(f"SELECT {self._columns} FROM {self._indexes} WHERE name = $1", (name,))

    def index_names(self) -> Statement:
        """The names of all indexes."""
        return Statement(f"SELECT name FROM {self._indexes} ORDER BY name")

    def upsert(self, index: IndexRow) -> str:
        """For many times (namespace, id, vector, metadata as JSON)."""
        return (
            f"INSERT INTO {self._records(index)} (namespace, id, embedding, metadata) "
            "VALUES ($1, $2, $3, $4) ON CONFLICT (namespace, id) "
            "DO UPDATE SET embedding = excluded.embedding, metadata = excluded.metadata"
        )

    def nearest(self, index: IndexRow, query: Query, *, exact: bool) -> Statement:
        """Rows with their `distance`, nearest first.

        An HNSW index gives an order by the bare operator and nothing else, and it may leave records out.
        `exact` has every record of the namespace looked at, and orders equally near ones by id. There a
        vector of zeros, which has no direction and so no cosine, is as far as one at right angles.
        """
        parameters = Parameters(query.vector)
        distance = (
            f"embedding OPERATOR({self._extension}.{OPERATORS[index.metric]}) $1::{self._extension}.vector"
        )
        order = "distance"
        if exact:
            order = "distance, id"
            distance = f"coalesce(nullif({distance}, 'NaN'::float8), 1::float8)"
        where = _where(query, parameters)
        limit = parameters.add(query.limit, "bigint")
        return Statement(
            f"SELECT {query.columns}, {distance} AS distance FROM {self._records(index)} "
            f"WHERE {where} ORDER BY {order} LIMIT {limit}",
            parameters.values,
        )

    def best_by_words(self, index: IndexRow, query: Query, words: str) -> Statement:
        """Rows (id, score) of the records that hold one of the words, best first, equal ones by id.

        `words` is a query of PostgreSQL's text search. The score is its `ts_rank`, lowered for long texts.
        """
        parameters = Parameters(words)
        where = _where(query, parameters)
        limit = parameters.add(query.limit, "bigint")
        asked = "to_tsquery('simple'::regconfig, $1::text)"
        return Statement(
            f"SELECT id, ts_rank({_WORDS}, {asked}, 1)::float8 AS score FROM {self._records(index)} "
            f"WHERE {where} AND {_WORDS} @@ {asked} ORDER BY score DESC, id LIMIT {limit}",
            parameters.values,
        )

    def by_id(self, index: IndexRow, query: Query, ranked: Iterable[tuple[float, str]]) -> Statement:
        """The rows of a ranking, in any order."""
        return Statement(
            f"SELECT {query.columns} FROM {self._records(index)} "
            "WHERE namespace = $1 AND id = ANY($2::text[])",
            (query.namespace, [record_id for _, record_id in ranked]),
        )

    def delete(
        self, index: IndexRow, namespace: str, *, ids: Sequence[str] | None, tree: FilterTree | None
    ) -> Statement:
        """What has the ids or passes the filter; without either all of the namespace."""
        parameters = Parameters()
        where = f"namespace = {parameters.add(namespace, 'text')}"
        if ids is not None:
            where += f" AND id = ANY({parameters.add(list(ids), 'text[]')})"
        if tree is not None:
            where += f" AND {condition(tree, parameters)}"
        return Statement(f"DELETE FROM {self._records(index)} WHERE {where}", parameters.values)

    def count(self, index: IndexRow) -> Statement:
        """How many records there are, in all namespaces."""
        return Statement(f"SELECT count(*) FROM {self._records(index)}")

    def _records(self, index: IndexRow) -> str:
        return f"{self.schema}.records_{index.number:d}"


def _where(query: Query, parameters: Parameters) -> str:
    where = f"namespace = {parameters.add(query.namespace, 'text')}"
    return where if query.tree is None else f"{where} AND {condition(query.tree, parameters)}"
