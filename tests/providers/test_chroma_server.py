"""The Chroma adapter before a real server, where one is installed: metrics, filters, hostile names."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ports.errors import PermanentError
from app.ports.models import CallContext
from app.ports.vector_filters import matches, parse_filter
from app.ports.vectors import Metric, VectorQuery, VectorRecord
from app.providers.chroma.adapter import Chroma, ChromaConfig
from app.providers.chroma.filter import translate
from app.providers.transport import Transport
from tests.conformance.vector_vendors.chroma_process import chroma_process
from tests.providers.filter_samples import RECORDS, filters

pytestmark = pytest.mark.servers

COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with chroma_process() as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, trust_env=False) as client:
        yield client


@pytest.fixture
async def wire() -> AsyncIterator[Transport]:
    transport = Transport.over_sockets()
    yield transport
    await transport.aclose()


def passing(client: httpx.Client, where: dict[str, Any], records: list[dict[str, Any]]) -> list[int]:
    """Places of the records that the server lets through."""
    made = client.post(COLLECTIONS, json={"name": f"filters-{uuid.uuid4()}"}).raise_for_status()
    path = f"{COLLECTIONS}/{made.json()['id']}"
    stored: dict[str, Any] = {
        "ids": [str(place) for place in range(len(records))],
        "embeddings": [[1.0]] * len(records),
        "metadatas": records,
    }
    client.post(f"{path}/upsert", json=stored).raise_for_status()
    found = client.post(f"{path}/get", json={"where": where, "include": []}).raise_for_status()
    return sorted(map(int, found.json()["ids"]))


@settings(max_examples=40)
@given(
    filter=filters(exists=False, ordered=st.sampled_from([0, 1, 2.5])),
    records=st.lists(RECORDS, min_size=1, max_size=4),
)
def test_a_clause_lets_through_what_the_language_says(
    client: httpx.Client, filter: dict[str, Any], records: list[dict[str, Any]]
) -> None:
    tree = parse_filter(filter)
    try:
        where = translate(tree)
    except PermanentError:
        return
    expected = [place for place, it in enumerate(records) if matches(tree, it)]
    assert passing(client, where, records) == expected


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("cosine", [("near", 1.0), ("long", 0.6)]),
        ("dot", [("long", 12.0), ("near", 2.0)]),
        ("euclidean", [("near", -1.0), ("long", -((16 + 64) ** 0.5))]),
    ],
)
async def test_a_higher_score_is_nearer(
    address: str, wire: Transport, context: CallContext, metric: Metric, expected: list[tuple[str, float]]
) -> None:
    store = Chroma(ChromaConfig(name="real", base_url=address, metric=metric), wire)
    index = f"metric-{metric}"
    records = [VectorRecord(id="near", vector=[1, 0]), VectorRecord(id="long", vector=[6, 8])]
    await store.upsert(index, records, namespace=None, context=context)
    query = VectorQuery(vector=[2, 0], top_k=5, include_metadata=False, include_vectors=True)
    hits = await store.search(index, query, context=context)
    assert [hit.id for hit in hits] == [name for name, _ in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-5)
    assert (await store.describe(index)).metric == metric


async def test_a_filter_of_many_values_is_taken(address: str, wire: Transport, context: CallContext) -> None:
    store = Chroma(ChromaConfig(name="real", base_url=address), wire)
    records = [VectorRecord(id=f"r{n}", vector=[1, n], metadata={"name": f"n{n}"}) for n in range(20)]
    await store.upsert("many-values", records, namespace="blue", context=context)
    names = [f"n{n}" for n in range(10, 2000)]
    selection: dict[str, Any] = {"ids": None, "delete_all": False, "namespace": "blue", "context": context}
    assert await store.delete("many-values", filter={"name": {"$in": names}}, **selection) == 10
    assert await store.delete("many-values", filter={"name": {"$nin": names}}, **selection) == 10
