"""The tables of vendors and vector databases hold what the code and the conformance suites have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from app.bootstrap import Service, build
from app.configuration import DATABASES, INSTANCES
from app.providers.instances import Instance
from app.providers.prices import OFFICIAL_HOSTS
from app.settings import EMBEDDED_DATABASE, Settings
from app.settings_defaults import DEFAULT_INSTANCES, VENDOR_VARIABLES
from tests.conformance.vector_vendors import chroma, embedded, pgvector, pinecone, qdrant, weaviate
from tests.conformance.vector_vendors.entry import Entry, Missing
from tests.examples.test_facts import NONE, names, rows, section

PROVIDERS: Final = "docs/providers.md"
DATABASE_GUIDE: Final = "docs/vector-databases.md"
ENTRIES: Final[Mapping[str, Entry]] = {
    "embedded": embedded.CACHED,
    "pgvector": pgvector.EXACT,
    "qdrant": qdrant.QDRANT,
    "weaviate": weaviate.WEAVIATE,
    "pinecone": pinecone.PINECONE,
    "chroma": chroma.CHROMA,
}
NEEDED: Final[Mapping[str, Missing]] = {
    "the same of texts": "order of strings",
    "`$exists`": "$exists",
    "`$not`": "$not",
}
"""Rows of the table of filters, and what a database lacks that does not do all of that."""
ADDRESSES: Final = {"azure": "https://acme.openai.azure.com"}


def vendor_of(settings: Any) -> str:
    return str(settings.model_fields["vendor"].default)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """One instance and one database of each vendor."""
    vendors = {vendor_of(settings) for settings in INSTANCES}
    addresses = {name: {"base_url": url} for name, url in ADDRESSES.items()}
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path_factory.mktemp("tables"),
            "providers": {f"own_{name}": {"vendor": name, **addresses.get(name, {})} for name in vendors},
            "databases": {f"own_{vendor_of(it)}": {"vendor": vendor_of(it)} for it in DATABASES},
        }
    )
    return build(settings)


def test_every_default_instance_is_listed_with_its_variables() -> None:
    listed = rows(section(PROVIDERS, "### Instances that are there anyway"))
    assert [row[0].strip("`") for row in listed] == list(DEFAULT_INSTANCES)
    for name, vendor, variables in listed:
        known = VENDOR_VARIABLES.get(name.strip("`"))
        assert vendor.strip("`") == vendor_of(DEFAULT_INSTANCES[name.strip("`")])
        expected = [*known.key, *known.base_url] if known else []
        assert [it for it in variables.split("`") if it.isupper()] == expected


def test_every_vendor_is_listed_with_what_it_offers(service: Service) -> None:
    by_vendor: dict[str, Instance] = {it.vendor: it for it in service.providers.instances}
    listed = rows(section(PROVIDERS, "## What each vendor does"))
    assert {row[0].split("`")[1] for row in listed} == by_vendor.keys() == {vendor_of(it) for it in INSTANCES}
    for row in listed:
        instance = by_vendor[row[0].split("`")[1]]
        embedder, reranker = instance.embedder, instance.reranker
        assert (row[1] == NONE) is (instance.chat is None), row
        assert row[6] == (f"{embedder.max_batch:,}" if embedder else NONE), row
        assert row[7].removesuffix(", by setting") == (f"{reranker.max_documents:,}" if reranker else NONE), (
            row
        )


def test_every_vector_database_is_listed(service: Service) -> None:
    vendors = {EMBEDDED_DATABASE, *(vendor_of(it) for it in DATABASES)}
    listed = names(section(DATABASE_GUIDE, "## Configuring a database"))
    assert set(listed) == vendors == ENTRIES.keys()
    assert set(names(section("README.md", "### Providers"))) >= vendors


def test_the_databases_that_search_by_words_are_named(service: Service) -> None:
    searching = {it.vendor for it in service.databases if it.hybrid} | {EMBEDDED_DATABASE}
    table = section(DATABASE_GUIDE, "## What holds for all of them")
    heads = next(line for line in table.splitlines() if line.startswith("| |")).split("`")[1::2]
    (hybrid,) = [row[1:] for row in rows(table) if row[0] == "`hybrid`"]
    assert {vendor for vendor, cell in zip(heads, hybrid, strict=True) if cell != "no"} == searching
    assert searching == {vendor for vendor, entry in ENTRIES.items() if "hybrid" not in entry.missing}


def test_the_table_of_filters_says_what_the_suite_found_missing() -> None:
    text = section(DATABASE_GUIDE, "## Filters")
    heads = next(line for line in text.splitlines() if line.startswith("| operator")).split("`")[1::2]
    table = {row[0]: dict(zip(heads, row[2:], strict=True)) for row in rows(text)}
    for operator, part in NEEDED.items():
        for vendor, entry in ENTRIES.items():
            lacks = part in entry.missing or (part == "$not" and "negated order" in entry.missing)
            cell = table[operator][vendor]
            assert (cell in {"yes", "from 1.33", "rewritten"}) is not lacks, (operator, vendor, cell)


def test_the_price_list_names_no_vendor_that_the_guide_leaves_out() -> None:
    text = section(PROVIDERS, "## Costs").lower()
    assert all(vendor in text for vendor in OFFICIAL_HOSTS.values())


def test_files_of_settings_are_found_beside_every_section() -> None:
    content = (Path(__file__).parents[2] / PROVIDERS).read_text(encoding="utf-8")
    sections = content.split("## What each vendor does")[1].split("\n## ")[0].split("\n### ")[1:]
    assert len(sections) >= len(INSTANCES)
    assert [it.partition("\n")[0] for it in sections if "```yaml" not in it] == []
