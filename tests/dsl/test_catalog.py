"""One compilation for one content."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from app.dsl.catalog import Catalog
from app.dsl.loader import load_document
from app.ports.errors import DefinitionInvalid
from app.ports.runs import Definition
from tests.dsl.kinds import KINDS

SOURCE = "name: x\nversion: 1.0\nsteps: [{id: a, type: ask, prompt: hi}]\n"


def test_what_is_refused_is_refused_again() -> None:
    catalog = Catalog(KINDS)
    for _ in range(2):
        with pytest.raises(DefinitionInvalid):
            catalog.compile("name: x\nsteps: []\n")
    with pytest.raises(DefinitionInvalid):
        catalog.by_definition(Definition(hash="h", document=b"{}"))


def test_every_spelling_of_a_definition_is_the_same_workflow() -> None:
    catalog = Catalog(KINDS)
    first = catalog.compile(SOURCE)
    value = {"name": "x", "version": "1.0", "steps": [{"id": "a", "type": "ask", "prompt": "hi"}]}
    assert catalog.compile(SOURCE) is first
    assert catalog.compile(SOURCE.encode()) is first
    assert catalog.compile("# a comment\n" + SOURCE) is first
    assert catalog.compile(load_document(SOURCE)) is first
    assert catalog.compile(value) is first
    assert catalog.compile(value) is first
    assert catalog.compile(orjson.dumps(value), format="json") is first
    assert catalog.by_definition(first.definition) is first


def test_another_order_of_keys_is_another_definition() -> None:
    catalog = Catalog(KINDS)
    other = catalog.compile("version: 1.0\nname: x\nsteps: [{id: a, type: ask, prompt: hi}]\n")
    assert other is not catalog.compile(SOURCE)


def test_a_format_that_was_asked_for_is_held_to_even_after_another_was_taken() -> None:
    catalog = Catalog(KINDS)
    catalog.compile(SOURCE)
    with pytest.raises(DefinitionInvalid):
        catalog.compile(SOURCE, format="json")


def test_only_the_workflows_used_last_are_kept() -> None:
    catalog = Catalog(KINDS, capacity=2)
    first = catalog.compile(SOURCE)
    second = catalog.compile(SOURCE.replace("x", "y", 1))
    assert catalog.compile(SOURCE) is first
    catalog.compile(SOURCE.replace("x", "z", 1))
    assert catalog.by_definition(first.definition) is first
    again = catalog.by_definition(second.definition)
    assert again is not second
    assert again.definition == second.definition


def test_threads_share_one_workflow() -> None:
    catalog = Catalog(KINDS)
    with ThreadPoolExecutor(8) as pool:
        workflows = list(pool.map(lambda _: catalog.compile(SOURCE), range(32)))
    assert len({id(workflow) for workflow in workflows}) == 1
