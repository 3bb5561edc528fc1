"""Keys of `llm` steps that go to the provider although their author meant another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.dsl.catalog import Catalog
from app.steps.registry import STEP_KINDS


def warnings(**keys: Any) -> list[tuple[str, str]]:
    """Pointer and hint of each warning for a step with these keys."""
    step = {"id": "a", "type": "llm", "provider": "echo", "model": "m", "prompt": "hi", **keys}
    each = {"id": "each", "type": "map", "items": [1], "steps": [step]}
    workflow = Catalog(STEP_KINDS).compile(json.loads(json.dumps({"name": "w", "steps": [each]})))
    return [(it.pointer, it.hint or "") for it in workflow.warnings]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("fallback", "fallbacks"),
        ("max_token", "max_tokens"),
        ("temprature", "temperature"),
        ("respose_schema", "response_schema"),
        ("on_invald", "on_invalid"),
    ],
)
def test_a_key_that_is_nearly_one_of_the_step_is_told(key: str, meant: str) -> None:
    ((place, hint),) = warnings(**{key: 1})
    assert place == f"/steps/0/steps/0/{key}"
    assert repr(meant) in hint


@pytest.mark.parametrize("key", ["api_key", "base_url", "headers"])
def test_what_only_the_operator_can_say_is_told(key: str) -> None:
    ((_, hint),) = warnings(**{key: "x"})
    assert "operator" in hint


def test_an_option_of_the_provider_passes_in_silence() -> None:
    assert warnings(presence_penalty=0.1, logit_bias={}, top_k=40, user="ann", reasoning_effort="low") == []
