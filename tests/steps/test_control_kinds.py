"""Keys of control kinds once their templates are values: what is refused, and what the runner gets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from app.steps.kind import RENDERED
from app.steps.map import MAX_ITEMS
from app.steps.registry import CONTROL_KINDS, STEP_KINDS


def rendered(kind: str, **keys: Any) -> Any:
    return CONTROL_KINDS[kind].config_model.model_validate(keys, context=RENDERED)


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        ("branch", {"condition": ["a"]}, "is a list; name the part that decides"),
        ("branch", {"condition": {}}, "is an object"),
        ("map", {"items": {"a": 1}}, "is an object; write `| items | list`"),
        ("map", {"items": "a, b"}, "is text; take it apart with a transform"),
        ("map", {"items": "{{ not a template any more }}"}, "is text"),
        ("map", {"items": None}, "is null; write `| default([], true)`"),
        ("map", {"items": [0] * (MAX_ITEMS + 1)}, "has 100001 items and may have 100000 at most"),
        ("workflow", {"workflow": "x", "inputs": []}, "valid dictionary"),
        ("workflow", {"workflow": "", "inputs": {}}, "at least 1 character"),
        ("wait", {"seconds": None, "until": None}, "exactly one of 'seconds' and 'until'"),
        ("wait", {"seconds": "5"}, "valid number"),
        ("wait", {"seconds": float("inf")}, "finite"),
        ("wait", {"seconds": True}, "valid number"),
        ("wait", {"until": "2030-01-01"}, "a time such as"),
        ("wait", {"until": "2030-01-01 09:00:00"}, "time zone"),
        ("wait", {"until": "2030-13-01T09:00:00Z"}, "that exist"),
        ("wait", {"until": "2030-01-01T09:00:00+99:00"}, "that exist"),
        ("wait", {"until": 1e300}, "less than or equal"),
        ("wait", {"until": True}, "valid number"),
        ("approval", {"message": None}, "is null"),
        ("approval", {"message": ""}, "at least 1 character"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(kind: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        rendered(kind, **keys)
    assert message in str(refused.value)


def test_a_list_of_as_many_items_as_may_be_is_taken_as_it_is() -> None:
    assert rendered("map", items=[0] * MAX_ITEMS).items == [0] * MAX_ITEMS


@pytest.mark.parametrize(
    "until",
    [
        "2030-01-31T09:00:00Z",
        "2030-01-31t10:00:00+01:00",
        "2030-01-31 04:00:00.000-05:00",
        " 2030-01-31T09:00:00z\n",
        1_896_080_400,
        1_896_080_400.0,
    ],
)
def test_a_time_is_in_epoch_seconds(until: object) -> None:
    assert rendered("wait", until=until).until == datetime(2030, 1, 31, 9, tzinfo=UTC).timestamp()


def test_what_an_approval_says_becomes_text() -> None:
    assert rendered("approval", message=3).message == "3"


def test_no_name_is_of_two_kinds() -> None:
    assert not STEP_KINDS.keys() & CONTROL_KINDS.keys()
    assert all(kind.name == name for name, kind in CONTROL_KINDS.items())


@pytest.mark.parametrize("kind", CONTROL_KINDS.values(), ids=CONTROL_KINDS)
def test_a_key_is_a_value_or_holds_steps(kind: Any) -> None:
    assert not kind.config_model.model_fields.keys() & kind.blocks_model.model_fields.keys()
