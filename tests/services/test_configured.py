"""Names that are written out and not configured are told; everything else is left alone."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.services.configured import MOST_WARNINGS, Configured

CONFIGURED = Configured(providers=frozenset({"openai", "echo", "local"}), databases=frozenset({"embedded"}))
LLM = {"id": "a", "type": "llm", "provider": "openai", "model": "m", "prompt": "x"}
SEARCH = {"id": "s", "type": "vector_search", "database": "embedded", "index": "i", "query": [1]}


def missing(*steps: Any) -> list[tuple[str, str, str | None]]:
    document = {"name": "x", "steps": list(steps)}
    found = CONFIGURED.missing(document, orjson.dumps(document), format="json")
    assert all(problem.line == 1 and problem.column for problem in found)
    return [(problem.pointer, problem.detail, problem.hint) for problem in found]


@pytest.mark.parametrize(
    ("step", "pointer", "detail", "hint"),
    [
        (
            {**LLM, "provider": "opnai"},
            "/steps/0/provider",
            "provider 'opnai' is not configured",
            "did you mean 'openai'?",
        ),
        (
            {**LLM, "type": "embed", "provider": "acme"},
            "/steps/0/provider",
            "provider 'acme' is not configured",
            "use one of 'echo', 'local', 'openai'",
        ),
        (
            {**SEARCH, "database": "qdrant"},
            "/steps/0/database",
            "vector database 'qdrant' is not configured",
            "use one of 'embedded'",
        ),
        (
            {**LLM, "fallbacks": [{"provider": "echo"}, {"provider": "eco"}]},
            "/steps/0/fallbacks/1/provider",
            "provider 'eco' is not configured",
            "did you mean 'echo'?",
        ),
        (
            {"id": "m", "type": "map", "steps": [{"id": "b", "branches": {"x": [{**LLM, "provider": "l"}]}}]},
            "/steps/0/steps/0/branches/x/0/provider",
            "provider 'l' is not configured",
            "use one of 'echo', 'local', 'openai'",
        ),
    ],
)
def test_a_name_that_is_not_configured_is_told_with_its_place(
    step: dict[str, Any], pointer: str, detail: str, hint: str
) -> None:
    assert missing(step) == [(pointer, detail, hint)]


@pytest.mark.parametrize(
    "step",
    [
        LLM,
        SEARCH,
        {**LLM, "provider": "{{ inputs.provider }}"},
        {**SEARCH, "database": "{{ inputs.database }}"},
        {"id": "t", "type": "transform", "function": "pick", "provider": "opnai"},
        {**LLM, "extra": {"provider": "acme"}, "response_schema": {"properties": {"provider": {}}}},
    ],
)
def test_what_is_configured_unknown_until_the_run_or_no_name_at_all_is_left_alone(
    step: dict[str, Any],
) -> None:
    assert missing(step) == []


@pytest.mark.parametrize("block", ["on_failure", "finally"])
def test_the_steps_that_run_after_the_others_are_looked_at_too(block: str) -> None:
    document = {"name": "x", "steps": [LLM], block: [{**LLM, "id": "b", "provider": "acme"}]}
    (problem,) = CONFIGURED.unknown_names(document)
    assert problem.pointer == f"/{block}/0/provider"


def test_warnings_are_bounded() -> None:
    assert len(missing(*({**LLM, "id": f"s{n}", "provider": "acme"} for n in range(300)))) == MOST_WARNINGS
