"""Tables of the documentation hold exactly what the code has."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import get_args

import pytest

from app.api.openapi import openapi_document
from app.bootstrap import build
from app.core import events as e
from app.observability.metrics import Metrics
from app.ports.errors import ErrorClass
from app.services import errors
from app.services.reasons import REASONS
from app.services.run_events import EVENT_TYPES
from app.settings import Settings
from app.settings_table import settings_rows
from app.steps.control import ControlKind
from app.steps.kind import StepKind
from app.steps.registry import CONTROL_KINDS, STEP_KINDS
from app.steps.transforms.registry import TRANSFORMS
from app.templating.filters import FILTERS
from app.templating.sandbox import WORKER_FILTERS
from tests.examples.snippets import DOCUMENTS, ROOT

NONE = "\N{EN DASH}"
"""How tables write that there is no default."""
KINDS: Mapping[str, StepKind | ControlKind] = {**STEP_KINDS, **CONTROL_KINDS}
NOT_MET_YET = {"permission_denied"}
"""Nobody is refused for want of a role while nobody is authenticated."""


def section(document: str, heading: str) -> str:
    """The text under a heading, up to the next one of any level."""
    content = (ROOT / document).read_text(encoding="utf-8")
    _, found, rest = content.partition(f"\n{heading}\n")
    assert found, f"{document} has no heading {heading!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a section's tables, head and rule left out."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) <= set("|- ")]
    heads = {number - 1 for number in rules}
    return [row for number, row in enumerate(cells) if number not in heads and number not in rules]


def names(text: str) -> list[str]:
    """What stands in backticks in the first cells."""
    return [name for row in rows(text) for name in re.findall(r"`([^`]+)`", row[0])]


def same(found: Collection[str], expected: Collection[str]) -> None:
    assert sorted(found) == sorted(expected)


def test_architecture_lists_every_event_with_its_meaning() -> None:
    listed = {
        row[0].strip("`"): row[1]
        for row in rows(section("docs/architecture.md", "## The events of the journal"))
    }
    same(listed, [kind.__name__ for kind in get_args(e.Event)])
    for kind in get_args(e.Event):
        meaning = listed[kind.__name__].removesuffix(".")
        first = (kind.__doc__ or "").partition("\n")[0]
        assert first.startswith(meaning) or "`" in first, kind.__name__


def test_the_api_guide_lists_every_event_that_is_sent() -> None:
    same(names(section("docs/api.md", "## Events")), EVENT_TYPES)


def test_the_api_guide_lists_every_reason() -> None:
    same(names(section("docs/api.md", "## Reading a run")), REASONS)


def test_the_api_guide_lists_every_operation() -> None:
    paths = openapi_document(build(Settings(data_dir="unused")).app)["paths"]
    operations = [
        f"{method.upper()} {path}"
        for path, item in paths.items()
        for method in item
        if method in {"get", "post", "delete", "put", "patch"}
    ]
    content = (ROOT / "docs/api.md").read_text()
    same(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)` \|", content, re.MULTILINE), operations)


def test_the_api_guide_lists_every_code_that_a_use_case_refuses_with() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {
        kind.code
        for kind in kinds
        if issubclass(kind, errors.ServiceError) and hasattr(kind, "code") and not kind.__subclasses__()
    }
    text = section("docs/api.md", "## Errors")
    assert codes - NOT_MET_YET <= set(re.findall(r"`([a-z_]+)`", text))


def test_the_language_reference_lists_every_error_class() -> None:
    same(names(section("docs/workflows.md", "## When a step fails")), get_args(ErrorClass))


def test_operations_lists_every_metric() -> None:
    families = Metrics().registry.collect()
    exposed = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in families
        if family.name.startswith("orchestrator_")
    }
    same(names(section("docs/operations.md", "## Metrics")), exposed)


def test_operations_lists_every_setting_with_its_default_and_meaning() -> None:
    documented = [tuple(row) for row in rows(section("docs/operations.md", "## Settings"))]
    expected = [
        (f"`{name}`", f"`{default}`" if default else NONE, meaning)
        for name, default, meaning in settings_rows()
    ]
    assert documented == expected


def test_the_readme_names_settings_and_defaults_that_exist() -> None:
    defaults = {name: default for name, default, _ in settings_rows()}
    for variable, default, _ in rows(section("README.md", "## Configuration")):
        assert defaults[variable.strip("`")] == ("" if default == NONE else default.strip("`"))


@pytest.mark.parametrize("name", KINDS)
def test_the_readme_lists_the_outputs_of_every_kind(name: str) -> None:
    listed = {
        row[0].strip("`"): re.findall(r"`([^`]+)`", row[2])
        for row in rows(section("README.md", "### Step kinds"))
    }
    same(listed, KINDS)
    assert tuple(listed[name]) == KINDS[name].outputs


def test_the_readme_counts_the_transforms() -> None:
    assert f"{len(TRANSFORMS)} functions" in section("README.md", "### Step kinds")


def test_the_language_reference_lists_every_transform() -> None:
    same(names(section("docs/workflows.md", "#### The functions")), TRANSFORMS)


def test_the_language_reference_lists_every_filter() -> None:
    text = section("docs/workflows.md", "## Templates")
    listed = text[text.index("Filters:") : text.index("Methods cannot")]
    same(re.findall(r"`(\w+)`", listed), [*FILTERS, *WORKER_FILTERS])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target!r}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_files_that_are_named_exist(document: Path) -> None:
    for name in re.findall(
        r"`((?:app|tests|docs|deploy|examples|requirements)/[\w./-]+)`", document.read_text()
    ):
        assert (ROOT / name).exists(), f"{document.name} names {name!r}"
