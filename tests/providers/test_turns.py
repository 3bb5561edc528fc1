"""Turns of documents, read for vendors with a form of their own."""

from __future__ import annotations

from typing import Any

import pytest

from app.ports.models import Message
from app.providers.json_format import json_text
from app.providers.turns import (
    AskedCall,
    InlineData,
    Unwritable,
    asked_calls,
    call_names,
    image_url,
    inline_data,
    model_call,
    part_text,
    parts,
)


def asking(*calls: Any) -> Message:
    return Message(role="assistant", content="", extra={"tool_calls": list(calls)})


@pytest.mark.parametrize(
    "url", ["data:", "data:,x", "data:image/png,x", "data:;base64,AA==", "data:image/png;base64,%%"]
)
def test_a_data_url_that_cannot_be_read_is_refused(url: str) -> None:
    with pytest.raises(Unwritable, match="data URL"):
        inline_data(url)


@pytest.mark.parametrize("part", [{}, {"image_url": ""}, {"image_url": {"detail": "low"}}, {"image_url": 7}])
def test_an_image_without_a_url_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(Unwritable, match="image_url"):
        image_url(part)


def test_a_text_part_without_text_is_refused() -> None:
    with pytest.raises(Unwritable, match="'text'"):
        part_text({"type": "text"})


@pytest.mark.parametrize("call", ["f", {}, {"function": "f"}, {"function": {"arguments": "{}"}}])
def test_a_tool_call_of_another_form_is_refused(call: Any) -> None:
    with pytest.raises(Unwritable, match="write every tool call as"):
        asked_calls(asking(call))


@pytest.mark.parametrize("arguments", ["{", "[1]", '"x"', 7, [1]])
def test_arguments_that_are_no_object_are_refused(arguments: Any) -> None:
    with pytest.raises(Unwritable, match="'f' must be a JSON object"):
        asked_calls(asking({"function": {"name": "f", "arguments": arguments}}))


def test_tool_calls_that_are_no_list_are_refused() -> None:
    with pytest.raises(Unwritable, match="must be a list"):
        asked_calls(Message(role="assistant", content="", extra={"tool_calls": "f"}))


def test_a_data_url_is_taken_apart_and_others_are_left_alone() -> None:
    assert inline_data("data:image/png;base64,AAEC") == InlineData(mime_type="image/png", data="AAEC")
    assert inline_data("DATA:text/plain;charset=utf-8;base64,AAEC") == InlineData(
        mime_type="text/plain", data="AAEC"
    )
    assert inline_data("https://example.com/a.png") is None


def test_text_is_one_part_and_no_text_is_none() -> None:
    assert parts("Why?") == [{"type": "text", "text": "Why?"}]
    assert parts("") == []
    assert parts([{"type": "x"}]) == [{"type": "x"}]


@pytest.mark.parametrize("arguments", ['{"a": [1]}', {"a": [1]}])
def test_arguments_are_read_as_text_and_as_an_object(arguments: Any) -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "f", "arguments": arguments},
        "extra_content": {"signed": True},
    }
    assert asked_calls(asking(call)) == [
        AskedCall(id="c1", name="f", arguments={"a": [1]}, extra={"extra_content": {"signed": True}})
    ]


@pytest.mark.parametrize("arguments", ["", None, {}])
def test_no_arguments_are_none(arguments: Any) -> None:
    assert asked_calls(asking({"function": {"name": "f", "arguments": arguments}}))[0].arguments == {}


def test_functions_are_found_by_the_id_of_their_call() -> None:
    conversation = [
        Message(role="user", content="Why?"),
        asking(model_call("c1", "f", "{}"), model_call("c2", "g", "{}")),
        asking(model_call("c3", "f", "{}")),
    ]
    assert call_names(conversation) == {"c1": "f", "c2": "g", "c3": "f"}


def test_a_call_that_a_model_made_can_be_sent_back() -> None:
    made = model_call("c1", "f", json_text({"a": "ü", "b": None}))
    assert made["function"] == {"name": "f", "arguments": '{"a":"ü","b":null}'}
    assert asked_calls(asking(made)) == [AskedCall(id="c1", name="f", arguments={"a": "ü", "b": None})]
