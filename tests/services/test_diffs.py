"""Differences: each with its place, none invented, and no more work than is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.models import CallContext, ChatRequest
from app.services.diffs import RunDiff, diff_runs
from app.services.excerpts import excerpt
from app.services.json_diffs import MOST_OF_ONE, Differ
from app.services.text_diffs import MOST_LINES, TextDiffer
from tests.engines.harness import Bench, bench, llm, workflow
from tests.services.reading import stored, transform

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "a/b~c"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab/~"), inner, max_size=3),
    max_leaves=12,
)


def changes(a: Any, b: Any) -> list[tuple[str, str, Any, Any]]:
    difference = Differ().compare(a, b)
    assert difference.complete
    return [(one.pointer, one.change, one.a, one.b) for one in difference.changes]


# --- values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1, 1, []),
        (True, 1, [("", "changed", True, 1)]),
        ([True], [1], [("/0", "changed", True, 1)]),
        (None, {"x": 1}, [("", "changed", None, {"x": 1})]),
        ({"x": None}, {}, [("/x", "removed", None, None)]),
        ({"a/b": [1, 2]}, {"a/b": [1, 3, 4]}, [("/a~1b/1", "changed", 2, 3), ("/a~1b/2", "added", None, 4)]),
        ([1, 2, 3], [1], [("/1", "removed", 2, None), ("/2", "removed", 3, None)]),
        ({"x": 1, "y": 2}, {"y": 2, "x": 1}, []),
    ],
)
def test_changes_are_told_by_pointer(a: Any, b: Any, expected: list[Any]) -> None:
    assert changes(a, b) == expected


@given(JSON, JSON)
def test_a_change_is_told_exactly_if_there_is_one(a: Any, b: Any) -> None:
    difference = Differ().compare(a, b)
    assert difference.same == (not difference.changes)
    assert Differ().compare(a, a).same
    assert len({one.pointer for one in difference.changes}) == len(difference.changes)


def test_more_changes_than_are_told_are_not_hidden() -> None:
    difference = Differ().compare(list(range(1000)), [-1] * 1000)
    assert (difference.same, difference.complete, len(difference.changes)) == (False, False, MOST_OF_ONE)


def test_what_is_not_looked_at_is_not_called_the_same() -> None:
    many = [0] * 400_000
    difference = Differ().compare(many, [*many[:-1], 1])
    assert (difference.same, difference.complete, list(difference.changes)) == (False, False, [])


def test_large_values_are_cut() -> None:
    (change,) = Differ().compare({"x": None}, {"x": {"list": list(range(10_000))}}).changes
    assert change.cut
    assert len(str(change.b)) < 1000
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    assert excerpt(deep, size=100).cut
    assert not excerpt({"a": [1, "b"]}, size=100).cut


# --- texts --------------------------------------------------------------------------------------------


def test_long_texts_are_told_as_a_diff_with_their_line_numbers() -> None:
    before = "\n".join(f"line {number}" for number in range(1, 400))
    (change,) = Differ().compare(before, before.replace("line 300\n", "another\n")).changes
    assert (change.a, change.b, change.cut) == (None, None, False)
    assert change.diff == (
        "@@ -298,5 +298,5 @@\n line 298\n line 299\n-line 300\n+another\n line 301\n line 302"
    )


def test_a_long_paragraph_is_told_sentence_by_sentence() -> None:
    before = "The sun shines. " * 20 + "It is warm."
    (change,) = Differ().compare(before, before.replace("warm", "cold")).changes
    assert change.diff is not None
    assert change.diff.endswith("-It is warm.\n+It is cold.")


def test_texts_that_differ_in_line_ends_alone_still_differ() -> None:
    text = "a line of words\n" * 10
    (change,) = Differ().compare(text, text[:-1]).changes
    assert (change.diff, change.a, change.b) == (None, text, text[:-1])


def test_diffs_of_long_texts_are_bounded_each_and_together() -> None:
    differ = TextDiffer()
    before = "\n".join(f"a{number % 7}" for number in range(5000))
    after = "\n".join(f"b{number % 7}" for number in range(5000))
    diff, whole = differ.diff(before, after)
    assert diff is not None
    assert (whole, diff.count("\n") <= 2 * MOST_LINES) == (False, True)
    outcomes = [differ.diff(before, after)[0] is None for _ in range(100)]
    assert outcomes[-1]
    (change,) = Differ().compare(before, after).changes
    assert change.cut


# --- runs ---------------------------------------------------------------------------------------------


async def ended(it: Bench, document: dict[str, Any], inputs: dict[str, Any] | None = None) -> str:
    run_id = await it.submit(document, inputs)
    await it.finish(run_id)
    return run_id


async def diffed(it: Bench, a: str, b: str) -> RunDiff:
    return diff_runs(await stored(it, a), await stored(it, b))


async def echo(request: ChatRequest, context: CallContext) -> str:
    return f"{request.messages[-1].content}!"


async def test_a_changed_prompt_is_told_as_written_and_as_sent_and_so_is_what_came_of_it() -> None:
    first = workflow(llm("a", "Greet {{ inputs.who }}"), llm("b", "again: {{ steps.a.text }}"), version="1")
    second = workflow(
        llm("a", "Welcome {{ inputs.who }}"), llm("b", "again: {{ steps.a.text }}"), version="2"
    )
    async with bench(script=echo) as it:
        one = await ended(it, first, {"who": "Ada"})
        other = await ended(it, second, {"who": "Ada"})
        diff = await diffed(it, one, other)
    assert not diff.same
    (version,) = diff.definition.workflow.changes
    assert (version.pointer, version.a, version.b) == ("/version", "1", "2")
    (written,) = diff.definition.steps
    assert (written.step, written.change) == ("a", "changed")
    assert [change.pointer for change in written.keys.changes] == ["/prompt"]
    assert diff.inputs.same
    assert [(step.path, step.rendered) for step in diff.steps] == [("a", "different"), ("b", "different")]
    (text,) = [one for one in diff.steps[0].outputs.changes if one.pointer == "/text"]
    assert (text.a, text.b) == ("Greet Ada!", "Welcome Ada!")
    assert diff.a.input_tokens == 6
    assert diff.steps[0].a is not None
    assert diff.steps[0].a.seconds is not None


async def test_other_inputs_change_what_is_sent_but_not_what_is_written() -> None:
    document = workflow(llm("a", "Greet {{ inputs.who }}"), llm("calm", "hello"))
    async with bench(script=echo) as it:
        one, other = await ended(it, document, {"who": "Ada"}), await ended(it, document, {"who": "Bob"})
        diff = await diffed(it, one, other)
    assert (diff.definition.same, diff.inputs.same, diff.outputs.same) == (True, False, False)
    assert {step.path: step.rendered for step in diff.steps} == {"a": "different", "calm": "same"}


async def test_steps_that_were_added_removed_or_skipped_are_told() -> None:
    first = workflow(transform("a", "1"), transform("gone", "1"))
    second = workflow(transform("a", "1", condition="false"), transform("new", "1"))
    async with bench() as it:
        diff = await diffed(it, await ended(it, first), await ended(it, second))
    assert {(one.step, one.change) for one in diff.definition.steps} == {
        ("a", "changed"),
        ("gone", "removed"),
        ("new", "added"),
    }
    told = {
        step.path: (step.a and step.a.status, step.b and step.b.status, step.rendered) for step in diff.steps
    }
    assert told == {
        "a": ("completed", "skipped", "unknown"),
        "gone": ("completed", None, "unknown"),
        "new": (None, "completed", "unknown"),
    }


async def test_of_the_steps_within_others_only_those_that_differ_are_told() -> None:
    each = {"id": "each", "type": "map", "items": "inputs.numbers", "as": "n", "steps": [transform("x", "n")]}
    numbers = list(range(700))
    async with bench() as it:
        one = await ended(it, workflow(each), {"numbers": numbers})
        other = await ended(it, workflow(each), {"numbers": [*numbers[:3], -1, *numbers[4:]]})
        diff = await diffed(it, one, other)
        far = await ended(it, workflow(each), {"numbers": [-number for number in numbers]})
        many = await diffed(it, one, far)
    assert [step.path for step in diff.steps] == ["each", "each[3].x"]
    assert (diff.steps_same, diff.steps_omitted) == (699, 0)
    assert (len(many.steps), many.steps_same, many.steps_omitted) == (500, 1, 200)


async def test_a_run_differs_in_nothing_from_itself() -> None:
    async with bench() as it:
        run_id = await ended(it, workflow(llm("a")))
        diff = await diffed(it, run_id, run_id)
    assert diff.same
    assert all(step.outputs.same for step in diff.steps)
