"""The most that calls can use: refusals first, then that the bounds hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.errors import PermanentError
from app.steps.bounds import (
    CALL_TOKENS,
    MESSAGE_TOKENS,
    TEXT_TOKENS,
    TOOLS_TOKENS,
    CallBound,
    likely_tokens,
    most_tokens,
)
from app.steps.embed import EmbedKind
from app.steps.http import HttpKind
from app.steps.kind import RENDERED, StepKind
from app.steps.llm import LlmKind
from app.steps.rerank import RerankKind
from tests.steps.fakes import FakeChat, FakeServices, run

ASK = {"provider": "own", "model": "m", "prompt": "12345678"}
OVERHEAD = CALL_TOKENS + MESSAGE_TOKENS


def bounds(kind: StepKind, document: dict[str, Any], max_tokens: int | None = None) -> list[CallBound]:
    config = kind.config_model.model_validate(document, context=RENDERED)
    return list(kind.bound(config, max_tokens=max_tokens))


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "tool_result", None])
def test_a_message_whose_parts_are_no_text_has_no_bound(kind: str | None) -> None:
    parts = [{"type": kind or "x", "text": "…"}]
    document = {"provider": "own", "model": "m", "messages": [{"role": "user", "content": parts}]}
    with pytest.raises(PermanentError, match="sends text only"):
        bounds(LlmKind(), document)


def test_a_tool_that_the_vendor_runs_has_no_bound() -> None:
    with pytest.raises(PermanentError, match="'web_search'"):
        bounds(LlmKind(), {**ASK, "tools": [{"type": "web_search"}]})


@pytest.mark.parametrize("value", ["5", 0, True, 2.5])
def test_a_limit_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(PermanentError, match="'max_completion_tokens'"):
        bounds(LlmKind(), {**ASK, "max_completion_tokens": value})


def test_an_answer_without_a_limit_has_no_bound() -> None:
    (bound,) = bounds(LlmKind(), ASK)
    assert bound.output_tokens is None
    assert bound.input_tokens == OVERHEAD + 8
    assert bound.input_estimate == 2


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 50),
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9}, 9),
        ({"max_tokens": 7, "extra": {"max_completion_tokens": 9}}, 9),
        ({"n": 3}, 150),
        ({"max_tokens": 7, "extra": {"best_of": 2}}, 14),
    ],
)
def test_the_limit_that_is_sent_bounds_the_answer(more: dict[str, Any], expected: int) -> None:
    (bound,) = bounds(LlmKind(), {**ASK, **more}, max_tokens=50)
    assert bound.output_tokens == expected


def test_tools_and_schemas_count_as_input() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    (bound,) = bounds(LlmKind(), {**ASK, "response_schema": schema})
    assert (bound.input_tokens or 0) > OVERHEAD + 8 + TOOLS_TOKENS + 40


async def test_the_default_limit_is_sent_only_where_the_author_set_none() -> None:
    chat = FakeChat()
    await run(LlmKind(), ASK, FakeServices(chat_model=chat))
    assert chat.requests[0].max_tokens is None


def test_texts_to_embed_are_summed() -> None:
    (bound,) = bounds(EmbedKind(), {"provider": "own", "model": "e", "input": ["abc", "de"]})
    assert bound.input_tokens == CALL_TOKENS + 5 + 2 * TEXT_TOKENS
    assert (bound.output_tokens, bound.calls) == (0, 2)


def test_a_query_is_read_with_every_document() -> None:
    document = {"provider": "own", "model": "r", "query": "1234", "documents": ["a", {"text": "bcd"}]}
    (bound,) = bounds(RerankKind(), document)
    assert bound.input_tokens == CALL_TOKENS + 2 * (4 + TEXT_TOKENS) + 4
    assert bounds(RerankKind(), {**document, "documents": []}) == []


def test_a_kind_that_calls_no_model_uses_nothing() -> None:
    assert bounds(HttpKind(), {"method": "GET", "url": "https://example.com"}) == []


@given(st.text())
def test_a_bound_covers_the_bytes_of_a_text_and_of_its_longer_form(text: str) -> None:
    assert most_tokens(text) >= len(text.encode("utf-8", "surrogatepass"))
    assert likely_tokens(text) <= most_tokens(text)


def test_characters_that_grow_when_normalised_count_as_grown() -> None:
    assert most_tokens("\ufdfa") == 33
