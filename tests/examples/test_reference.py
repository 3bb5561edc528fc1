"""The tables of the language reference are what the models say, and none is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from app.dsl.reference import Examples, renewed, tables
from app.steps.registry import CONTROL_KINDS, STEP_KINDS
from tests.examples.snippets import DOCUMENTS, ROOT, snippets_of

DOCUMENT = ROOT / "docs" / "workflows.md"
KINDS = {**STEP_KINDS, **CONTROL_KINDS}


@pytest.fixture(scope="module")
def examples() -> Examples:
    return Examples(ROOT / "examples", link="../examples")


def test_a_table_of_nothing_is_a_mistake(examples: Examples) -> None:
    with pytest.raises(KeyError, match="nothing"):
        renewed("<!-- generated: nothing -->\n<!-- end -->\n", examples)


def test_the_tables_are_up_to_date(examples: Examples) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == renewed(text, examples), (
        "the models or the examples changed; write the tables anew: python -m app.dsl.reference"
    )


def test_every_table_is_there_once() -> None:
    found = re.findall(r"^<!-- generated: ([a-z_ ]+) -->$", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(found) == sorted(tables())


def test_every_key_has_a_meaning() -> None:
    for name, table in tables().items():
        for model in table.models:
            for key, field in model.model_fields.items():
                assert field.description, f"{name}: {key} has no description"


def test_every_key_is_linked_to_an_example() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `")]
    unlinked = [row for row in rows if row.count(" | ") == 4 and "(../examples/" not in row]
    assert unlinked == []


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_a_section_and_is_shown_in_a_snippet(name: str) -> None:
    assert f"\n### `{name}`\n" in DOCUMENT.read_text()
    shown = [yaml.safe_load(it.text) for it in snippets_of(DOCUMENT) if it.language == "yaml"]
    assert f"'type': '{name}'" in str(shown)


def test_links_to_headings_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", document.read_text()):
            other = document if not target else document.parent / target
            assert anchor in anchors(other), f"{document.name} links to {target}#{anchor}"


def anchors(document: Path) -> set[str]:
    """Of the headings of a document, as its readers make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
