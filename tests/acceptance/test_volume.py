"""Large runs: thousands of items, outputs of some megabytes. What they bring is the same in every way."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import pytest

from tests.acceptance.client import Caller
from tests.acceptance.documents import ask, call, completed, flow, transform

pytestmark = pytest.mark.timeout(300)

ITEMS = 5000
LINE = "{:07d} a line of a long text\n"
LINES = 95_000
SIZE = len(LINE.format(0)) * LINES
"""More than Temporal takes in one payload (2 MB), less than a request may have (4 MiB)."""


def long_text() -> str:
    """Of which no part is like another."""
    return "".join(LINE.format(number) for number in range(LINES))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def echo(name: str, prompt: str, **more: Any) -> dict[str, Any]:
    """A step that brings what it is asked."""
    return ask(name, provider="echo", prompt=prompt, **more)


def outputs_of(caller: Caller, run: dict[str, Any], **where: str) -> dict[str, dict[str, Any]]:
    """The outputs of its steps, by path."""
    steps = caller.get(run["id"], include="outputs", **where)["steps"]
    return {step["path"]: step["outputs"] for step in steps}


def until_completed(caller: Caller, run_id: str) -> dict[str, Any]:
    run = caller.until_ended(run_id)
    completed(run)
    return run


def test_a_map_of_five_thousand_items_brings_each_in_its_place(caller: Caller) -> None:
    each: dict[str, Any] = {
        "id": "each",
        "type": "map",
        "items": "inputs.numbers",
        "as": "n",
        "max_concurrency": 500,
        "on_item_error": "continue",
        "steps": [
            transform("double", "n * 2 if n % 1000 else n / (n - n)"),
            echo("say", "{{ n }}: {{ steps.double.result }}"),
        ],
    }
    run_id = caller.begin(
        flow(each, transform("count", "steps.each.results | select | list | length")),
        {"numbers": [*range(ITEMS)]},
    )
    run = until_completed(caller, run_id)
    failed = [*range(0, ITEMS, 1000)]
    assert run["outputs"] == {"count": ITEMS - len(failed)}
    found = outputs_of(caller, run, depth="1")["each"]
    assert found["results"] == [f"{n}: {2 * n}" if n % 1000 else None for n in range(ITEMS)]
    assert [error["index"] for error in found["errors"]] == failed
    last = f"each[{ITEMS - 1}]"
    assert outputs_of(caller, run, under=last)[f"{last}.double"] == {"result": 2 * (ITEMS - 1)}
    seqs = [event["seq"] for event in caller.events(run_id)]
    assert seqs == sorted({*seqs})
    assert len(seqs) > 4 * ITEMS


def test_three_megabytes_go_from_step_to_step(caller: Caller) -> None:
    steps = [
        echo("one", "{{ inputs.text }}"),
        transform("two", "steps.one.text | upper"),
        echo("three", "{{ steps.two.result }}"),
        transform("size", "steps.three.text | length"),
    ]
    text = long_text()
    document = flow(*steps, outputs={"size": "{{ steps.size.result }}", "text": "{{ steps.three.text }}"})
    run = until_completed(caller, caller.begin(document, {"text": text}))
    assert run["outputs"]["size"] == SIZE > 2_500_000
    assert digest(run["outputs"]["text"]) == digest(text.upper())
    found = outputs_of(caller, run)
    assert digest(found["one"]["text"]) == digest(text)
    assert digest(found["two"]["result"]) == digest(text.upper())
    told = [event for event in caller.events(run["id"]) if event["type"] == "run.completed"]
    assert told[0]["data"]["outputs"] == run["outputs"]


def test_a_map_of_large_outputs_is_collected(caller: Caller) -> None:
    each: dict[str, Any] = {"id": "each", "type": "map", "items": "[1, 2, 3, 4]", "as": "n"}
    each["steps"] = [echo("say", "{{ n }} {{ inputs.text }}")]
    text = long_text()
    run = until_completed(
        caller, caller.begin(flow(each, outputs={"n": "{{ steps.each.results | length }}"}), {"text": text})
    )
    assert run["outputs"] == {"n": 4}
    results = outputs_of(caller, run, depth="1")["each"]["results"]
    assert [digest(result) for result in results] == [digest(f"{n} {text}") for n in range(1, 5)]


def test_three_megabytes_go_to_a_called_run_and_back(caller: Caller) -> None:
    child = f"child {uuid.uuid4()}"
    document = flow(
        echo("say", "{{ inputs.text }}"), name=child, outputs={"text": "{{ steps.say.text | upper }}"}
    )
    caller.post("/v1/workflows", document, expect=201)
    text = long_text()
    caller_document = flow(
        echo("first", "{{ inputs.text }}"),
        call(child, inputs={"text": "{{ steps.first.text }}"}),
        outputs={"text": "{{ steps.call.text }}"},
    )
    run = until_completed(caller, caller.begin(caller_document, {"text": text}))
    assert digest(run["outputs"]["text"]) == digest(text.upper())
