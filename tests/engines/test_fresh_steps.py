"""Which steps run again when a run is repeated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from app.core.plan import Plan
from app.dsl.catalog import Catalog
from app.engines.fresh_steps import AmbiguousStep, downstream, handlers, steps_named
from app.steps.registry import STEP_KINDS
from tests.engines.harness import llm, workflow


def plan_of(*steps: Mapping[str, Any], **more: Any) -> Plan:
    return Catalog(STEP_KINDS).compile(workflow(*steps, **more)).plan


NESTED = plan_of(
    llm("before"),
    {
        "id": "each",
        "type": "map",
        "items": "inputs.words",
        "steps": [
            llm("draft"),
            {
                "id": "route",
                "type": "branch",
                "condition": "steps.draft.text",
                "branches": {"yes": [llm("polish"), llm("sign", depends_on="polish")], "no": [llm("sign")]},
            },
            llm("check", depends_on="route"),
        ],
    },
    llm("after", depends_on="each"),
    llm("last", depends_on="after"),
    llm("beside"),
    on_failure=[llm("tell"), llm("check")],
)


@pytest.mark.parametrize(
    ("start", "fresh"),
    [
        ("beside", {"beside"}),
        ("after", {"after", "last"}),
        (
            "each",
            {
                "each",
                "each.draft",
                "each.route",
                "each.route[yes].polish",
                "each.route[yes].sign",
                "each.route[no].sign",
                "each.check",
                "after",
                "last",
            },
        ),
        ("each.check", {"each.check", "after", "last"}),
        (
            "each.route[yes].polish",
            {"each.route[yes].polish", "each.route[yes].sign", "each.check", "after", "last"},
        ),
        ("each.route[no].sign", {"each.route[no].sign", "each.check", "after", "last"}),
    ],
)
def test_a_step_runs_again_with_all_that_comes_after_it(start: str, fresh: set[str]) -> None:
    assert downstream(NESTED, start) == fresh


def test_handlers_run_again_for_they_are_about_their_own_run() -> None:
    plan = plan_of(
        llm("work"),
        llm("alarm", depends_on="work", run_on="failure"),
        {"id": "tidy", "type": "parallel", "run_on": "always", "depends_on": "work", "tasks": [llm("sweep")]},
        on_failure=[llm("tell")],
        **{"finally": [{"id": "close", "type": "parallel", "tasks": [llm("door")]}]},
    )
    assert handlers(plan) == {
        "alarm",
        "tidy",
        "tidy.sweep",
        "on_failure.tell",
        "finally.close",
        "finally.close.door",
    }


def test_an_id_of_several_places_means_none_of_them() -> None:
    with pytest.raises(AmbiguousStep) as refused:
        steps_named(NESTED, "check")
    assert refused.value.places == ("each.check", "on_failure.check")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("nothing", set()),
        ("after", {"after"}),
        ("polish", {"each.route[yes].polish"}),
        ("each.route[yes].polish", {"each.route[yes].polish"}),
        ("each[3].route.polish", {"each.route[yes].polish"}),
        ("each.route.sign", {"each.route[yes].sign", "each.route[no].sign"}),
        ("sign", {"each.route[yes].sign", "each.route[no].sign"}),
        ("on_failure.check", {"on_failure.check"}),
    ],
)
def test_a_step_goes_by_its_path_or_by_an_id_of_one_place(name: str, keys: set[str]) -> None:
    assert set(steps_named(NESTED, name)) == keys
