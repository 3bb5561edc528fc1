"""How indexes, namespaces and metadata become collections, tenants and properties of Weaviate. Pure.

Names. A collection is called `Index_…`, a tenant `ns_…` (`default` for the default namespace), and the
property that makes a metadata field searchable `n_…` (numbers), `t_…` (strings and lists of them) or
`b_…` (booleans). The rest is the name itself, of which every byte but `a-z` and `0-9` is written `_xx` in
hexadecimal: so no two names meet, not even where Weaviate looks past upper and lower case, and whatever a
name holds, it is a GraphQL name. One field may hold numbers here and strings there: they are two
properties, each declared when a record first brings such a value.

Every collection has besides: `record` (the id as it was given), `metadata` (all of it, as JSON text),
`words` (its strings, for searching by words) and `present` (which fields have a value). Strings that are
compared are written with a `=` before them, because Weaviate drops white space around them and empty ones
altogether. What a collection's dimensions are stands in its description; one without that was not made
here, and is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.ports.vector_checks import invalid
from app.ports.vectors import Metric, VectorRecord
from app.providers.json_format import Malformed, objects, text

DISTANCES: Final[Mapping[Metric, str]] = {"cosine": "cosine", "dot": "dot", "euclidean": "l2-squared"}
METRICS: Final[Mapping[str, Metric]] = {distance: metric for metric, distance in DISTANCES.items()}
DEFAULT_TENANT: Final = "default"
ANY_RECORD: Final = "*"
"""What `present` holds in every record."""

_CLASS: Final = "Index_"
_TENANT: Final = "ns_"
_MAX_CLASS: Final = 255
_MAX_TENANT: Final = 64
_MAX_PROPERTY: Final = 231
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789")
_DESCRIPTION: Final = re.compile(r"vectors of (\d{1,6}) dimensions, kept by llm-orchestrator")
_EXACTLY: Final = {"dataType": ["text[]"], "tokenization": "field", "indexSearchable": False}
_UNINDEXED: Final = {"dataType": ["text"], "indexFilterable": False, "indexSearchable": False}
_OWN: Final[tuple[Mapping[str, Any], ...]] = (
    {"name": "record", **_UNINDEXED},
    {"name": "metadata", **_UNINDEXED},
    {"name": "words", "dataType": ["text"], "tokenization": "word", "indexFilterable": False},
    {"name": "present", **_EXACTLY, "indexFilterable": True},
)
_BY_KIND: Final[Mapping[str, Mapping[str, Any]]] = {
    "n": {"dataType": ["number"], "indexFilterable": True, "indexRangeFilters": True},
    "t": {**_EXACTLY, "indexFilterable": True},
    "b": {"dataType": ["boolean"], "indexFilterable": True},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What has to be known of a collection to use it."""

    name: str
    dimensions: int
    metric: Metric
    properties: frozenset[str]


def class_name(index: str) -> str:
    """The collection of an index. Raises `PermanentError` for names that do not fit."""
    name = _CLASS + _encoded(index)
    if len(name) > _MAX_CLASS:
        raise invalid(f"the index name {index!r} is too long for Weaviate; shorten it")
    return name


def index_name(name: str) -> str | None:
    """The index of a collection; None for collections that are none."""
    return _decoded(name.removeprefix(_CLASS)) if name.startswith(_CLASS) else None


def tenant_name(namespace: str) -> str:
    """The tenant of a namespace. Raises `PermanentError` for names that do not fit."""
    if not namespace:
        return DEFAULT_TENANT
    name = _TENANT + _encoded(namespace)
    if len(name) > _MAX_TENANT:
        raise invalid(
            f"the namespace {namespace!r} is too long for Weaviate, where it takes {len(name)} of "
            f"{_MAX_TENANT} characters (3 for each that is not a-z or 0-9); shorten it"
        )
    return name


def property_name(kind: str, field: str) -> str:
    """The property of a metadata field's values of one kind. Raises `PermanentError` if it does not fit."""
    name = f"{kind}_{_encoded(field)}"
    if len(name) > _MAX_PROPERTY:
        raise invalid(f"the metadata name {field!r} is too long for Weaviate; shorten it")
    return name


def comparable(value: str) -> str:
    """A string as it is stored to be compared."""
    return f"={value}"


def properties_of(records: Iterable[VectorRecord]) -> set[str]:
    """Every property that the records' metadata needs."""
    return {name for record in records for name in searchable(record.metadata)}


def searchable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that metadata is found by, with their values."""
    found: dict[str, Any] = {}
    for field, value in metadata.items():
        if isinstance(value, bool):
            found[property_name("b", field)] = value
        elif isinstance(value, int | float):
            found[property_name("n", field)] = value
        elif isinstance(value, str):
            found[property_name("t", field)] = [comparable(value)]
        elif value:
            found[property_name("t", field)] = [comparable(item) for item in value]
    return found


def property_body(name: str) -> dict[str, Any]:
    """How a metadata property is declared."""
    return {"name": name, **_BY_KIND[name[0]]}


def class_body(collection: Collection) -> dict[str, Any]:
    """The body of `POST /v1/schema`."""
    return {
        "class": collection.name,
        "description": f"vectors of {collection.dimensions} dimensions, kept by llm-orchestrator",
        "vectorizer": "none",
        "vectorIndexType": "hnsw",
        "vectorIndexConfig": {"distance": DISTANCES[collection.metric]},
        "multiTenancyConfig": {"enabled": True, "autoTenantCreation": True, "autoTenantActivation": True},
        "properties": [*map(dict, _OWN), *map(property_body, sorted(collection.properties))],
    }


def read_collection(answer: Mapping[str, Any]) -> Collection:
    """A collection from its schema. Raises `PermanentError` for one that was not made here."""
    name = text(answer, "class")
    described = _DESCRIPTION.fullmatch(text(answer, "description"))
    if described is None:
        raise invalid(
            f"the collection {name!r} was not made by this service; upsert its records into a new index"
        )
    config = answer.get("vectorIndexConfig")
    distance = text(config, "distance")
    if distance not in METRICS:
        raise Malformed(f"the collection {name!r} has the unknown distance {distance!r}")
    properties = frozenset(text(it, "name") for it in objects(answer.get("properties")))
    return Collection(
        name=name, dimensions=int(described[1]), metric=METRICS[distance], properties=properties
    )


def _encoded(name: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"_{byte:02x}" for byte in name.encode())


def _decoded(name: str) -> str | None:
    try:
        return re.sub(rb"_([0-9a-f]{2})", lambda it: bytes([int(it[1], 16)]), name.encode()).decode()
    except UnicodeDecodeError:
        return None
