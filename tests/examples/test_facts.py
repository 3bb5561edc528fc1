"""Tables of the documentation hold exactly what the code has."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import get_args

import orjson
import pytest

from app.api.openapi import openapi_document
from app.bootstrap import build
from app.core import events as e
from app.observability.metrics import Metrics
from app.ports.errors import ErrorClass, TemplateFailed
from app.services import errors
from app.services.reasons import REASONS
from app.services.run_events import EVENT_TYPES
from app.settings import Settings
from app.settings_table import settings_rows
from app.steps.control import ControlKind
from app.steps.kind import StepKind
from app.steps.registry import CONTROL_KINDS, STEP_KINDS
from app.steps.transforms.filtering import Criterion, Operator, filter_items
from app.steps.transforms.registry import TRANSFORMS
from app.templating.compiler import compile_condition
from app.templating.filters import FILTERS
from app.templating.limits import RenderLimits
from app.templating.operators import COMPARISONS
from app.templating.predicates import TESTS
from app.templating.renderer import Renderer
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


def held(condition: str, **inputs: object) -> object:
    """What a condition comes to."""
    compiled = compile_condition(condition)
    return Renderer(RenderLimits()).render_inline(compiled, {"inputs": inputs})


def test_the_language_reference_says_what_counts_as_true() -> None:
    told = rows(section("docs/workflows.md", "#### What is true"))
    assert len(told) > 6
    for values, counts_as in told:
        for value in re.findall(r"`([^`]+)`", values):
            assert held("inputs.x", x=orjson.loads(value)) is (counts_as == "true"), value
    assert held("inputs.x") is False
    assert held("inputs.x == 1 or inputs.x in [1]") is False
    for failing in ("inputs.x < 1", "(inputs.x | lower) == 'a'"):
        with pytest.raises(TemplateFailed):
            held(failing)


def test_the_language_reference_lists_every_operator_of_conditions() -> None:
    told = rows(section("docs/workflows.md", "#### Operators"))
    signs = {"eq": "==", "ne": "!=", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">=", "notin": "not in"}
    comparisons = [signs.get(name, name) for name in COMPARISONS]
    same([row[0].strip("`") for row in told], [*comparisons, "and", "or", "not", "is", "is not"])
    for row in told:
        assert held(row[2].strip("`")) is True, row[2]
    (tests,) = (row[1] for row in told if row[0] == "`is`")
    assert set(re.findall(r"`([^`]+)`", tests)) <= TESTS.keys()


def test_the_language_reference_lists_every_operator_of_the_filter_function() -> None:
    told = rows(section("docs/workflows.md", "#### Operators of `filter`"))
    same([row[0].strip("`") for row in told], get_args(Operator))
    for name, _, value, kept in told:
        criterion = {"operator": name.strip("`"), "value": orjson.loads(value.strip("`"))}
        found = filter_items([[1, 2, "ab", None]], Criterion.model_validate(criterion))
        assert found == orjson.loads(kept.strip("`")), name


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
