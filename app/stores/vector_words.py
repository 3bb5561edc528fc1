"""The words of records, kept by SQLite's FTS5 for hybrid searches: the tables and every statement about them.

A namespace has its words kept from its first hybrid search on; until then nothing is spent on them, and a
file without any is one that older releases can open. From then on they are written in the transaction of
the records they belong to, so the two never differ. Each namespace has a table of its own: what words weigh
there depends on no other namespace.

A record's words are those of the texts among its metadata. A word is a run of letters and digits; case and
diacritics make no difference (FTS5's tokenizer `unicode61`). Statements run inside the transactions of
`VectorFile`, which owns the connection.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from unicodedata import normalize

import orjson

from app.ports.errors import PermanentError

MOST_WORDS: Final = 64
"""Different words of one query that are looked for; further ones are passed over."""
_WORD: Final = re.compile(r"[^\W_]+")
_TABLES: Final = (
    # AUTOINCREMENT: a number, which names a table, is never given twice.
    """CREATE TABLE vector_words (
           id INTEGER PRIMARY KEY AUTOINCREMENT,
           index_id INTEGER NOT NULL REFERENCES vector_index (id),
           namespace TEXT NOT NULL,
           UNIQUE (index_id, namespace)
       ) STRICT""",
    """CREATE TABLE vector_words_record (
           number INTEGER PRIMARY KEY,
           words_id INTEGER NOT NULL REFERENCES vector_words (id),
           record_id TEXT NOT NULL,
           UNIQUE (words_id, record_id)
       ) STRICT""",
)


class VectorWords:
    """Of one file. Every method may raise `sqlite3.Error`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def available(self) -> bool:
        """Whether this SQLite has FTS5."""
        found = self._connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone()
        return found is not None

    def create_tables(self) -> None:
        """Make a file ready to keep words."""
        for statement in _TABLES:
            self._connection.execute(statement)

    def find(self, index_id: int, namespace: str) -> int | None:
        """The number of a namespace whose words are kept."""
        row = self._connection.execute(
            "SELECT id FROM vector_words WHERE index_id = ? AND namespace = ?", (index_id, namespace)
        ).fetchone()
        return None if row is None else int(row[0])

    def begin(self, index_id: int, namespace: str) -> None:
        """Keep the words of a namespace from now on, those of the records it has first."""
        cursor = self._connection.execute(
            "INSERT INTO vector_words (index_id, namespace) VALUES (?, ?) RETURNING id", (index_id, namespace)
        )
        words_id = int(cursor.fetchone()[0])
        self._connection.execute(
            f"CREATE VIRTUAL TABLE {_table(words_id)} "
            "USING fts5(words, tokenize='unicode61 remove_diacritics 2')"
        )
        place = (index_id, namespace)
        self._connection.execute(
            "INSERT INTO vector_words_record (words_id, record_id) "
            "SELECT ?, id FROM vector_record WHERE index_id = ? AND namespace = ?",
            (words_id, *place),
        )
        stored = self._connection.execute(
            "SELECT kept.number, record.metadata FROM vector_words_record AS kept "
            "JOIN vector_record AS record ON record.id = kept.record_id "
            "WHERE kept.words_id = ? AND record.index_id = ? AND record.namespace = ? ORDER BY kept.number",
            (words_id, *place),
        )
        self._connection.executemany(
            f"INSERT INTO {_table(words_id)} (rowid, words) VALUES (?, ?)",  # noqa: S608  a number
            ((number, _text(orjson.loads(metadata))) for number, metadata in stored),
        )

    def put(self, words_id: int, records: Iterable[tuple[str, str]]) -> None:
        """Insert or replace the words of records (id, metadata)."""
        insert = f"INSERT OR REPLACE INTO {_table(words_id)} (rowid, words) VALUES (?, ?)"  # noqa: S608  a number
        for record_id, metadata in records:
            (number,) = self._connection.execute(
                "INSERT INTO vector_words_record (words_id, record_id) VALUES (?, ?) "
                "ON CONFLICT (words_id, record_id) DO UPDATE SET record_id = excluded.record_id "
                "RETURNING number",
                (words_id, record_id),
            ).fetchone()
            self._connection.execute(insert, (number, _text(orjson.loads(metadata))))

    def delete(self, words_id: int, ids: Sequence[str]) -> None:
        """Forget the words of records; ids that are not there are passed over."""
        forget = f"DELETE FROM {_table(words_id)} WHERE rowid = ?"  # noqa: S608  a number
        for record_id in ids:
            row = self._connection.execute(
                "DELETE FROM vector_words_record WHERE words_id = ? AND record_id = ? RETURNING number",
                (words_id, record_id),
            ).fetchone()
            if row is not None:
                self._connection.execute(forget, row)

    def end(self, words_id: int) -> None:
        """Keep the words of a namespace no longer."""
        self._connection.execute(f"DROP TABLE {_table(words_id)}")
        self._connection.execute("DELETE FROM vector_words_record WHERE words_id = ?", (words_id,))
        self._connection.execute("DELETE FROM vector_words WHERE id = ?", (words_id,))

    def matches(self, words_id: int, text: str, *, most: int | None) -> Iterator[tuple[float, str]]:
        """(score, id) of the `most` records that fit a text best (None: of all that have a word of it), best
        first, equal ones by id.

        The score is Okapi BM25 with k1 = 1.2 and b = 0.75, as FTS5's `bm25` computes it; higher is better.
        """
        query = query_of(text)
        if query is None:
            return
        table = _table(words_id)
        yield from self._connection.execute(
            f"SELECT -bm25({table}), kept.record_id FROM {table} "  # noqa: S608  a number
            f"JOIN vector_words_record AS kept ON kept.number = {table}.rowid "
            f"WHERE {table} MATCH ? ORDER BY bm25({table}), kept.record_id LIMIT ?",
            (query, -1 if most is None else most),
        )


def query_of(text: str) -> str | None:
    """The FTS5 query for any of a text's words; None if it has none.

    Words are quoted and hold letters and digits alone, so nothing in a text is an operator.
    """
    words = {word.lower(): word for word in _WORD.findall(normalize("NFC", text))}
    return " OR ".join(f'"{word}"' for word in [*words.values()][:MOST_WORDS]) or None


def no_words() -> PermanentError:
    """This SQLite cannot keep words."""
    return PermanentError(
        "invalid_request",
        "the embedded vector store searches by words with SQLite's FTS5, which this Python's SQLite lacks; "
        "leave 'hybrid' out, or run the service on a Python whose SQLite has it",
    )


def _table(words_id: int) -> str:
    return f"vector_words_text_{words_id:d}"


def _text(metadata: Mapping[str, Any]) -> str:
    texts: list[str] = []
    for value in metadata.values():
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, list):
            texts += [item for item in value if isinstance(item, str)]
    return "\n".join(texts)
