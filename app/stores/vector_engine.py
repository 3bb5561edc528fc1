"""The embedded vector store itself, synchronous: for the one thread that `EmbeddedVectorStore` owns.

The file is the truth. Namespaces that are searched are kept in memory, least recently used first out,
within `cache_bytes`; a namespace that would not fit is read through in blocks instead. A write goes to
the file first; the resident copy is taken out of the cache while it changes, so that whatever fails in
between, the next search reads the file. A write by another process is seen by the file's version and
empties the cache. Imports numpy: see `vector_matrix`.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import orjson

from app.ports.vector_checks import (
    check_dimensions,
    check_hybrid,
    check_index,
    check_namespace,
    check_selection,
    check_text,
    check_top_k,
    unknown_index,
)
from app.ports.vector_filters import FilterTree, matches, parse_filter
from app.ports.vectors import Filter, Hybrid, IndexInfo, VectorHit, VectorQuery, VectorRecord
from app.stores.vector_blocks import BLOCK_ROWS, Rows
from app.stores.vector_file import IndexRow, VectorFile
from app.stores.vector_fusion import candidates_for, fused
from app.stores.vector_input import from_bytes, to_batch, to_row
from app.stores.vector_matrix import ResidentVectors, row_bytes, unit_rows
from app.stores.vector_words import no_words


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    """A search, checked: which namespace, what to find there."""

    index: IndexRow
    namespace: str
    unit: Rows
    top_k: int
    tree: FilterTree | None


class VectorEngine:
    """Raises `PermanentError` for what the caller can mend, `sqlite3.Error` for what the file cannot do."""

    def __init__(self, file: VectorFile, *, cache_bytes: int) -> None:
        self._file = file
        self._cache_bytes = cache_bytes
        self._resident: OrderedDict[tuple[int, str], ResidentVectors] = OrderedDict()
        self._version = file.version()

    @property
    def resident_bytes(self) -> int:
        """Memory the cache holds, about."""
        return sum(resident.nbytes for resident in self._resident.values())

    def search(self, index_name: str, query: VectorQuery) -> list[VectorHit]:
        """The nearest records, best first; with `hybrid` those that are best by both rankings."""
        check_top_k(query.top_k)
        namespace = check_namespace(query.namespace)
        tree = None if query.filter is None else parse_filter(query.filter)
        row = to_row(query.vector, what="the query vector")
        hybrid = query.hybrid
        if hybrid is not None:
            check_hybrid(hybrid)
            self._keep_words(check_text(index_name, what="an index name"), namespace)
        with self._file.reading():
            self._notice_other_writers()
            index = self._index(index_name)
            check_dimensions(index.name, has=index.dimensions, given=len(row))
            unit = unit_rows(row[None, :])[0]
            asked = _Query(index=index, namespace=namespace, unit=unit, top_k=query.top_k, tree=tree)
            ranked = self._nearest(asked) if hybrid is None else self._best_of_both(asked, hybrid)
            if not (query.include_metadata or query.include_vectors):
                return [VectorHit(id=key, score=score) for score, key in ranked]
            rows = self._file.records(index.id, namespace, (key for _, key in ranked))
            return [
                VectorHit(
                    id=row.id,
                    score=score,
                    metadata=orjson.loads(row.metadata) if query.include_metadata else None,
                    vector=from_bytes([row.vector], index.dimensions)[0].tolist()
                    if query.include_vectors
                    else None,
                )
                for (score, _), row in zip(ranked, rows, strict=True)
            ]

    def upsert(self, index_name: str, records: Sequence[VectorRecord], *, namespace: str) -> int:
        """Insert or replace, all or none."""
        check_index(index_name)
        check_text(namespace, what="a namespace")
        if not records:
            return 0
        batch = to_batch(records)
        dimensions = batch.rows.shape[1]
        with self._file.writing():
            self._notice_other_writers()
            index = self._file.find_index(index_name) or self._file.create_index(index_name, dimensions)
            check_dimensions(index.name, has=index.dimensions, given=dimensions)
            resident = self._resident.pop((index.id, namespace), None)
            self._file.put(index.id, namespace, batch.records)
        if resident is not None:
            resident.put([record.id for record in batch.records], batch.rows, batch.metadata)
            self._keep(index, namespace, resident)
        return len(batch.records)

    def delete(
        self,
        index_name: str,
        *,
        ids: Sequence[str] | None,
        filter: Filter | None,
        delete_all: bool,
        namespace: str,
    ) -> int:
        """Delete by exactly one of the three."""
        tree = check_selection(ids=ids, filter=filter, delete_all=delete_all)
        check_text(namespace, what="a namespace")
        with self._file.writing():
            self._notice_other_writers()
            index = self._index(index_name)
            resident = self._resident.pop((index.id, namespace), None)
            if delete_all:
                return self._file.delete_namespace(index.id, namespace)
            going = list(ids or ()) if tree is None else self._passing(index, namespace, tree)
            count = self._file.delete(index.id, namespace, going)
        if resident is not None:
            resident.remove(going)
            self._keep(index, namespace, resident)
        return count

    def describe(self, index_name: str) -> IndexInfo:
        """What an index holds, over all namespaces."""
        with self._file.reading():
            index = self._index(index_name)
            count = self._file.count(index.id)
        return IndexInfo(name=index.name, dimensions=index.dimensions, metric="cosine", count=count)

    def _index(self, name: str) -> IndexRow:
        index = self._file.find_index(check_text(name, what="an index name"))
        if index is not None:
            return index
        raise unknown_index(name, self._file.index_names())

    def _nearest(self, query: _Query) -> list[tuple[float, str]]:
        resident = self._resident_vectors(query.index, query.namespace)
        if resident is not None:
            ranked = self._ranked(query, resident)
            self._trim()
            return ranked
        best: list[tuple[float, str]] = []
        for block in self._blocks(query.index, query.namespace):
            merged = heapq.merge(best, self._ranked(query, block), key=lambda scored: (-scored[0], scored[1]))
            best = list(islice(merged, query.top_k))
        return best

    def _best_of_both(self, query: _Query, hybrid: Hybrid) -> list[tuple[float, str]]:
        most = candidates_for(query.top_k)
        by_vector = self._nearest(replace(query, top_k=most)) if hybrid.alpha else []
        by_words = self._by_words(query, hybrid.text, most) if hybrid.alpha < 1 else []
        return fused(by_vector, by_words, alpha=hybrid.alpha, top_k=query.top_k)

    def _by_words(self, query: _Query, text: str, most: int) -> list[tuple[float, str]]:
        place = (query.index.id, query.namespace)
        words_id = self._file.find_words(*place)
        if words_id is None:
            return []
        if query.tree is None:
            return list(self._file.words.matches(words_id, text, most=most))
        passes = self._passes(query, query.tree)
        found = self._file.words.matches(words_id, text, most=None)
        return list(islice(((score, key) for score, key in found if passes(key)), most))

    def _passes(self, query: _Query, tree: FilterTree) -> Callable[[str], bool]:
        """Which records of the namespace pass the filter."""
        resident = self._resident_vectors(query.index, query.namespace)
        if resident is None:
            place = (query.index.id, query.namespace)
            return lambda key: matches(tree, orjson.loads(self._file.metadata_of(*place, key)))
        self._load_columns(query, tree, resident)
        passing = resident.passing(tree)
        self._trim()
        return passing.__contains__

    def _keep_words(self, index_name: str, namespace: str) -> None:
        """Have the words of a namespace kept, from the first search for some of them on."""
        with self._file.reading():
            index = self._file.find_index(index_name)
            if index is None or self._file.find_words(index.id, namespace) is not None:
                return
        if not self._file.words.available:
            raise no_words()
        with self._file.writing():
            known = self._file.find_words(index.id, namespace)
            if known is None and self._file.count_namespace(index.id, namespace):
                self._file.begin_words(index.id, namespace)

    def _ranked(self, query: _Query, vectors: ResidentVectors) -> list[tuple[float, str]]:
        if query.tree is not None:
            self._load_columns(query, query.tree, vectors)
        return vectors.nearest(query.unit, query.top_k, query.tree)

    def _load_columns(self, query: _Query, tree: FilterTree, vectors: ResidentVectors) -> None:
        if missing := vectors.missing_fields(tree):
            place = (query.index.id, query.namespace)
            if len(vectors) <= BLOCK_ROWS:
                rows = self._file.records(*place, vectors.ids)
                vectors.load_columns(missing, _parsed((row.id, row.metadata) for row in rows))
            else:
                vectors.load_columns(missing, _parsed(self._file.metadata(*place)))

    def _passing(self, index: IndexRow, namespace: str, tree: FilterTree) -> list[str]:
        stored = _parsed(self._file.metadata(index.id, namespace))
        return [key for key, metadata in stored if matches(tree, metadata)]

    def _resident_vectors(self, index: IndexRow, namespace: str) -> ResidentVectors | None:
        """The namespace in memory; None when it is larger than the cache may be."""
        resident = self._resident.get((index.id, namespace))
        if resident is not None:
            self._resident.move_to_end((index.id, namespace))
            return resident
        count = self._file.count_namespace(index.id, namespace)
        needed = count * row_bytes(index.dimensions)
        if needed > self._cache_bytes:
            return None
        self._trim(room_for=needed)
        resident = ResidentVectors(index.dimensions)
        for ids, rows in self._stored(index, namespace):
            resident.put(ids, rows)
        if count:
            self._resident[index.id, namespace] = resident
        return resident

    def _blocks(self, index: IndexRow, namespace: str) -> Iterator[ResidentVectors]:
        for ids, rows in self._stored(index, namespace):
            block = ResidentVectors(index.dimensions)
            block.put(ids, rows)
            yield block

    def _stored(self, index: IndexRow, namespace: str) -> Iterator[tuple[list[str], Rows]]:
        for batch in self._file.vectors(index.id, namespace, batch=BLOCK_ROWS):
            ids, vectors = zip(*batch, strict=True)
            yield list(ids), from_bytes(vectors, index.dimensions)

    def _keep(self, index: IndexRow, namespace: str, resident: ResidentVectors) -> None:
        self._resident[index.id, namespace] = resident
        self._trim()

    def _trim(self, *, room_for: int = 0) -> None:
        """Forget namespaces, least recently used first, until the cache is within its bytes."""
        while self._resident and self.resident_bytes + room_for > self._cache_bytes:
            self._resident.popitem(last=False)

    def _notice_other_writers(self) -> None:
        version = self._file.version()
        if version != self._version:
            self._resident.clear()
            self._version = version


def _parsed(stored: Iterator[tuple[str, str]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((key, orjson.loads(metadata)) for key, metadata in stored)
