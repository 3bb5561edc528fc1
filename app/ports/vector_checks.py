"""What callers of any vector database can get wrong, told before a call is made. Pure, no I/O.

Everything here raises `PermanentError` of class `invalid_request` (`unknown_index` makes one of class
`not_found`) with the name of what is wrong. What one database alone does not take is its adapter's to say.
"""

from __future__ import annotations

import difflib
import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

from app.ports.errors import PermanentError
from app.ports.vector_filters import FilterTree, parse_filter
from app.ports.vectors import Filter, Hybrid, VectorQuery, VectorRecord

MAX_NAME_BYTES: Final = 512
MAX_DIMENSIONS: Final = 65_536
MAX_TOP_K: Final = 10_000
_LARGEST_INTEGER: Final = 2**63 - 1


def invalid(message: str) -> PermanentError:
    """The caller has to change the request."""
    return PermanentError("invalid_request", message)


def unknown_index(name: str, names: Iterable[str]) -> PermanentError:
    """There is no such index; `names` are those there are, as far as they are known."""
    near = difflib.get_close_matches(name, sorted(names), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "an index comes into being at its first upsert"
    return PermanentError("not_found", f"there is no vector index {name!r}; {hint}")


def check_index(name: str) -> None:
    """An index name: not empty."""
    check_text(name, what="an index name")
    if not name:
        raise invalid("an index name must not be empty")


def check_namespace(namespace: str | None) -> str:
    """The namespace as it may be stored; None and `""` are the default one, `""`."""
    return check_text(namespace or "", what="a namespace")


def check_query(query: VectorQuery) -> FilterTree | None:
    """A search; the parsed filter, None for none."""
    check_top_k(query.top_k)
    _check_vector(query.vector, what="the query vector")
    if query.hybrid is not None:
        check_hybrid(query.hybrid)
    return parse_filter(query.filter) if query.filter else None


def check_top_k(top_k: int) -> None:
    """How many hits may be asked for."""
    if not 1 <= top_k <= MAX_TOP_K:
        raise invalid(f"top_k is {top_k}; ask for 1 to {MAX_TOP_K} hits")


def check_hybrid(hybrid: Hybrid) -> None:
    """What words weigh beside the vector."""
    if not 0.0 <= hybrid.alpha <= 1.0:
        raise invalid(f"the alpha of a hybrid search is {hybrid.alpha}; write 0 (words) to 1 (vectors)")


def check_selection(
    *, ids: Sequence[str] | None, filter: Filter | None, delete_all: bool
) -> FilterTree | None:
    """What a delete selects: exactly one of the three; the parsed filter, None for the others."""
    if (ids is not None) + (filter is not None) + delete_all != 1:
        raise invalid("give exactly one of ids, filter and delete_all to say what to delete")
    if filter is not None and not filter:
        raise invalid("an empty filter would delete everything; say delete_all if that is meant")
    for record_id in ids or ():
        check_text(record_id, what="a record id")
    return None if filter is None else parse_filter(filter)


def check_records(records: Sequence[VectorRecord]) -> int:
    """One or more records of one upsert; the dimensions that all of them have."""
    first = records[0]
    seen: set[str] = set()
    for record in records:
        if not check_text(record.id, what="a record id"):
            raise invalid("a record has an empty id; give every record an id of its own")
        if record.id in seen:
            raise invalid(f"two records of one upsert have the id {record.id!r}; ids must differ")
        seen.add(record.id)
        _check_vector(record.vector, what=f"the vector of record {record.id!r}")
        if len(record.vector) != len(first.vector):
            raise invalid(
                f"the vector of record {record.id!r} has {len(record.vector)} dimensions, "
                f"that of {first.id!r} has {len(first.vector)}; they must be equal"
            )
        check_metadata(record)
    return len(first.vector)


def check_dimensions(index: str, *, has: int, given: int) -> None:
    """Whether vectors of `given` numbers fit an index of `has` dimensions."""
    if given != has:
        raise invalid(
            f"the vector has {given} dimensions, the index {index!r} has {has}; "
            "use the model that the index was filled with, or another index"
        )


def check_text(value: Any, *, what: str) -> str:
    """A name of an index, a namespace or a record, as it may be stored."""
    if not isinstance(value, str):
        raise invalid(f"{what} must be a string, not {value!r}")
    if not _is_unicode(value):
        raise invalid(f"{what} {value!r} holds half a surrogate pair; write valid Unicode")
    size = len(value) if value.isascii() else len(value.encode())
    if size > MAX_NAME_BYTES:
        raise invalid(f"{what} takes {size} bytes; at most {MAX_NAME_BYTES} are allowed")
    return value


def check_metadata(record: VectorRecord) -> None:
    """What is stored beside a vector."""
    for name, value in record.metadata.items():
        if not isinstance(name, str):
            raise invalid(f"record {record.id!r} has the metadata name {name!r}; names are strings")
        if not _is_unicode(name):
            raise invalid(f"record {record.id!r} has the metadata name {name!r}; write valid Unicode")
        if not _is_storable(value):
            raise invalid(
                f"metadata {name!r} of record {record.id!r} must be a string, a finite number of at most 64 "
                "bits, a boolean, null or a list of strings; flatten objects into fields of their own"
            )


def _check_vector(vector: Sequence[float], *, what: str) -> None:
    if not 1 <= len(vector) <= MAX_DIMENSIONS:
        raise invalid(f"{what} has {len(vector)} numbers; 1 to {MAX_DIMENSIONS} are allowed")
    try:
        # In float32, as databases hold it: what does not fit becomes infinite, and makes the sum so.
        finite = math.isfinite(sum(array("f", vector)))
    except (TypeError, OverflowError):
        raise invalid(f"{what} must be a flat list of numbers") from None
    if not finite:
        raise invalid(f"{what} holds a number that is not finite in 32 bits")


def _is_storable(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(isinstance(item, str) and _is_unicode(item) for item in value)
    if isinstance(value, str):
        return _is_unicode(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, int) and abs(value) <= _LARGEST_INTEGER)


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
