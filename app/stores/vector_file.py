"""The SQLite file of the embedded vector store: its schema and every statement about it.

One connection, used by one thread at a time, owns the file: write-ahead log, `synchronous=FULL`, so a
commit survives a kill and a power cut. Statements run inside `reading` or `writing`; several of them
see one state of the file. What a filter or a cosine means is not known here, and what is kept of words is
`vector_words`'.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.ports.errors import PermanentError
from app.stores.vector_words import VectorWords

SCHEMA_VERSION: Final = 2
FIRST_VERSION: Final = 1
"""Of a file that keeps no words."""

_SCHEMA: Final = (
    """CREATE TABLE vector_index (
           id INTEGER PRIMARY KEY,
           name TEXT NOT NULL UNIQUE,
           dimensions INTEGER NOT NULL
       ) STRICT""",
    """CREATE TABLE vector_record (
           index_id INTEGER NOT NULL REFERENCES vector_index (id),
           namespace TEXT NOT NULL,
           id TEXT NOT NULL,
           vector BLOB NOT NULL,
           metadata TEXT NOT NULL,
           UNIQUE (index_id, namespace, id)
       ) STRICT""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRow:
    """An index as stored."""

    id: int
    name: str
    dimensions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow:
    """A record as stored: little-endian float32 values, metadata as a JSON object."""

    id: str
    vector: bytes
    metadata: str


class VectorFile:
    """An open file. Every method may raise `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        """Open or create it. Raises `PermanentError` if a newer release wrote it."""
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.words = VectorWords(self._connection)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "busy_timeout = 5000",
            "foreign_keys = ON",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        with self.writing():
            version = self._schema_version()
            if version > SCHEMA_VERSION:
                raise PermanentError(
                    "invalid_config",
                    f"the vector file has schema {version}, this release knows {SCHEMA_VERSION}; "
                    "start the release that wrote it, or give another data directory",
                )
            if version == 0:
                for statement in _SCHEMA:
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {FIRST_VERSION}")

    def _schema_version(self) -> int:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        return int(version)

    def close(self) -> None:
        """Close it; the log is folded into the file."""
        self._connection.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Statements inside see one state of the file."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Statements inside are stored together, durably, or not at all."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def version(self) -> int:
        """A number that changes when another connection has written to the file."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def find_index(self, name: str) -> IndexRow | None:
        """The index of that name."""
        row = self._connection.execute(
            "SELECT id, name, dimensions FROM vector_index WHERE name = ?", (name,)
        ).fetchone()
        return None if row is None else IndexRow(id=row[0], name=row[1], dimensions=row[2])

    def index_names(self) -> list[str]:
        """All names, sorted."""
        return [name for (name,) in self._connection.execute("SELECT name FROM vector_index ORDER BY name")]

    def create_index(self, name: str, dimensions: int) -> IndexRow:
        """Add an index."""
        cursor = self._connection.execute(
            "INSERT INTO vector_index (name, dimensions) VALUES (?, ?) RETURNING id", (name, dimensions)
        )
        return IndexRow(id=cursor.fetchone()[0], name=name, dimensions=dimensions)

    def count(self, index_id: int) -> int:
        """Records of an index, over all namespaces."""
        return self._number("SELECT count(*) FROM vector_record WHERE index_id = ?", index_id)

    def count_namespace(self, index_id: int, namespace: str) -> int:
        """Records of one namespace."""
        return self._number(
            "SELECT count(*) FROM vector_record WHERE index_id = ? AND namespace = ?", index_id, namespace
        )

    def _number(self, sql: str, *parameters: int | str) -> int:
        return int(self._connection.execute(sql, parameters).fetchone()[0])

    def put(self, index_id: int, namespace: str, records: Sequence[RecordRow]) -> None:
        """Insert or replace by id."""
        self._connection.executemany(
            "INSERT INTO vector_record (index_id, namespace, id, vector, metadata) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (index_id, namespace, id) "
            "DO UPDATE SET vector = excluded.vector, metadata = excluded.metadata",
            ((index_id, namespace, record.id, record.vector, record.metadata) for record in records),
        )
        words_id = self.find_words(index_id, namespace)
        if words_id is not None:
            self.words.put(words_id, ((record.id, record.metadata) for record in records))

    def delete(self, index_id: int, namespace: str, ids: Sequence[str]) -> int:
        """Delete by id; returns how many there were."""
        cursor = self._connection.executemany(
            "DELETE FROM vector_record WHERE index_id = ? AND namespace = ? AND id = ?",
            ((index_id, namespace, record_id) for record_id in ids),
        )
        words_id = self.find_words(index_id, namespace)
        if words_id is not None:
            self.words.delete(words_id, ids)
        return max(cursor.rowcount, 0)

    def delete_namespace(self, index_id: int, namespace: str) -> int:
        """Delete a namespace's records; returns how many there were."""
        words_id = self.find_words(index_id, namespace)
        if words_id is not None:
            self.words.end(words_id)
        return self._connection.execute(
            "DELETE FROM vector_record WHERE index_id = ? AND namespace = ?", (index_id, namespace)
        ).rowcount

    def vectors(self, index_id: int, namespace: str, *, batch: int) -> Iterator[list[tuple[str, bytes]]]:
        """(id, vector) of every record of a namespace, in batches."""
        cursor = self._connection.execute(
            "SELECT id, vector FROM vector_record WHERE index_id = ? AND namespace = ?", (index_id, namespace)
        )
        while rows := cursor.fetchmany(batch):
            yield rows

    def metadata(self, index_id: int, namespace: str) -> Iterator[tuple[str, str]]:
        """(id, metadata) of every record of a namespace."""
        yield from self._connection.execute(
            "SELECT id, metadata FROM vector_record WHERE index_id = ? AND namespace = ?",
            (index_id, namespace),
        )

    def records(self, index_id: int, namespace: str, ids: Iterable[str]) -> Iterator[RecordRow]:
        """The records of these ids, in that order; ids that are not there are passed over."""
        for record_id in ids:
            row = self._connection.execute(
                "SELECT vector, metadata FROM vector_record WHERE index_id = ? AND namespace = ? AND id = ?",
                (index_id, namespace, record_id),
            ).fetchone()
            if row is not None:
                yield RecordRow(id=record_id, vector=row[0], metadata=row[1])

    def metadata_of(self, index_id: int, namespace: str, record_id: str) -> str:
        """The metadata of a record that is there."""
        row = self._connection.execute(
            "SELECT metadata FROM vector_record WHERE index_id = ? AND namespace = ? AND id = ?",
            (index_id, namespace, record_id),
        ).fetchone()
        return str(row[0])

    # --- words ----------------------------------------------------------------------------------------

    def find_words(self, index_id: int, namespace: str) -> int | None:
        """What `words` knows a namespace by; None if no words of it are kept."""
        return None if self._schema_version() == FIRST_VERSION else self.words.find(index_id, namespace)

    def begin_words(self, index_id: int, namespace: str) -> None:
        """Keep the words of a namespace from now on, and write the file in the newest schema."""
        if self._schema_version() == FIRST_VERSION:
            self.words.create_tables()
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.words.begin(index_id, namespace)
