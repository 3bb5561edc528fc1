"""Functions on objects, groups and numbers: what they refuse, what they return, what holds for any data."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.steps.fakes import apply, refusal

PEOPLE = [
    {"name": "Ann", "team": "red", "age": 31, "at": "2024-03-01"},
    {"name": "Bob", "team": "blue", "age": 40, "at": "2023-12-24"},
    {"name": "Cem", "team": "red", "age": None, "at": None},
]

# omit, rename, get, default, limit


@pytest.mark.parametrize(("function", "keys"), [("omit", ["a"]), ("rename", {"a": "b"})])
def test_what_has_no_keys_is_refused(function: str, keys: object) -> None:
    assert "was given a number" in str(refusal(function, [1], keys=keys))


def test_omit_keeps_the_rest_and_the_shape() -> None:
    assert apply("omit", {"a": 1, "b": 2}, keys=["a", "c"]) == {"b": 2}
    assert apply("omit", [{"a": 1}, {"b": 2}], keys=["a"]) == [{}, {"b": 2}]


@pytest.mark.parametrize(
    ("item", "keys", "renamed"),
    [
        ({"a": 1, "b": 2}, {"a": "x"}, {"x": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": "b", "b": "a"}, {"b": 1, "a": 2}),
        ({"a": 1, "b": 2}, {"a": "b"}, {"b": 1}),
        ({"b": 2}, {"a": "b"}, {"b": 2}),
    ],
)
def test_rename_changes_names_and_no_values(item: Any, keys: dict[str, str], renamed: Any) -> None:
    assert apply("rename", item, keys=keys) == renamed
    assert apply("rename", [item], keys=keys) == [renamed]


def test_get_follows_a_path_and_falls_back() -> None:
    answer = {"hits": [{"metadata": {"text": "x"}}], "none": None}

    assert apply("get", answer, path="hits.0.metadata.text") == "x"
    assert apply("get", answer, path="hits.1.metadata", default="-") == "-"
    assert apply("get", answer, path="none", default="-") is None
    assert apply("get", None, path="a") is None


@pytest.mark.parametrize(
    ("inputs", "value", "chosen"),
    [
        ([None, 0, 1], "x", 0),
        ([None, ""], "x", ""),
        ([None, [1]], "x", [1]),
        ([None], "x", "x"),
        ([], None, None),
    ],
)
def test_default_takes_the_first_that_is_there(inputs: list[Any], value: Any, chosen: Any) -> None:
    assert apply("default", *inputs, value=value) == chosen


@given(st.lists(st.integers()), st.integers(0, 20))
def test_limit_takes_from_the_front(items: list[int], count: int) -> None:
    assert apply("limit", items, count=count) == items[:count]


# group_by, batch, entries


def test_group_by_keeps_the_order_of_groups_and_of_items() -> None:
    assert apply("group_by", PEOPLE, key="team") == [
        {"key": "red", "items": [PEOPLE[0], PEOPLE[2]], "count": 2},
        {"key": "blue", "items": [PEOPLE[1]], "count": 1},
    ]
    assert [group["key"] for group in apply("group_by", [{"k": 1}, {"k": True}, {"k": 1.0}, 5], key="k")] == [
        1,
        True,
        None,
    ]


@given(st.lists(st.integers()), st.integers(1, 20))
def test_batches_are_full_but_the_last_and_hold_every_item_once(items: list[int], size: int) -> None:
    batches = apply("batch", items, size=size)

    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(0 < len(batch) <= size for batch in batches)


def test_entries_list_what_an_object_holds() -> None:
    assert apply("entries", {"b": 1, "a": None}) == [{"key": "b", "value": 1}, {"key": "a", "value": None}]
    assert "one object and was given a list" in str(refusal("entries", [{"a": 1}]))


# aggregate, sum, average, min, max


@pytest.mark.parametrize(
    ("function", "items", "complaint"),
    [
        ("sum", [1, "2"], "'sum' takes numbers and found text"),
        ("average", [True], "found a truth value"),
        ("max", [1, "a"], "'max' takes numbers and found text"),
        ("min", ["a", 1], "texts only"),
        ("sum", [1e308, 1e308], "larger than"),
        ("sum", [2**62, 2**62], "larger than"),
        ("average", [1e308, 1e308, 1e308], "larger than"),
    ],
)
def test_what_does_not_add_up_is_refused(function: str, items: list[Any], complaint: str) -> None:
    assert complaint in str(refusal(function, items))


def test_a_median_beyond_all_numbers_is_refused_and_the_place_is_named() -> None:
    assert "larger than" in str(refusal("aggregate", [1.5e308, 1.6e308], operation="median"))
    assert "at 'team'" in str(refusal("sum", PEOPLE, key="team"))


@pytest.mark.parametrize(
    ("operation", "key", "result"),
    [
        ("sum", "age", 71),
        ("average", "age", 35.5),
        ("median", "age", 35.5),
        ("min", "age", 31),
        ("max", "age", 40),
        ("max", "at", "2024-03-01"),
        ("count", "age", 2),
        ("count", "name", 3),
        ("sum", "height", 0),
        ("average", "height", None),
        ("min", "height", None),
    ],
)
def test_aggregate_works_out_one_value_and_leaves_out_what_is_not_there(
    operation: str, key: str, result: Any
) -> None:
    assert apply("aggregate", PEOPLE, operation=operation, key=key) == result
    if operation in ("sum", "average", "min", "max"):
        assert apply(operation, PEOPLE, key=key) == result


def test_aggregate_by_group() -> None:
    assert apply("aggregate", PEOPLE, operation="max", key="age", by="team") == [
        {"key": "red", "value": 31},
        {"key": "blue", "value": 40},
    ]


@given(st.lists(st.integers(-(2**40), 2**40)))
def test_sums_of_whole_numbers_are_exact(numbers: list[int]) -> None:
    assert apply("sum", numbers) == sum(numbers)
    assert isinstance(apply("sum", numbers), int)


def test_sums_of_fractions_lose_nothing_on_the_way() -> None:
    assert apply("sum", [0.1] * 10) == 1.0


# vote


def test_no_votes_elect_nobody() -> None:
    assert apply("vote", [None, None]) == {
        "winner": None,
        "count": 0,
        "total": 0,
        "share": 0.0,
        "tie": False,
        "tally": [],
    }


def test_below_the_quorum_the_default_wins() -> None:
    result = apply("vote", ["a", "b", "a"], quorum=0.7, default="ask somebody")

    assert (result["winner"], result["count"], result["total"]) == ("ask somebody", 2, 3)
    assert apply("vote", ["a", "b", "a"], quorum=0.5)["winner"] == "a"


def test_answers_that_mean_the_same_are_one_value_unless_compared_exactly() -> None:
    answers = ["Spam.", " no ", "**spam**", "SPAM", None]

    assert apply("vote", answers)["tally"] == [{"value": "Spam.", "count": 3}, {"value": " no ", "count": 1}]
    assert apply("vote", answers, exact=True)["tie"] is True


def test_of_several_in_front_the_first_wins() -> None:
    result = apply("vote", "b", "a", "a", "b")

    assert (result["winner"], result["tie"], result["share"]) == ("b", True, 0.5)


def test_votes_stand_at_a_key_and_may_be_of_any_type() -> None:
    items = [{"label": {"a": 1, "b": 2}}, {"label": {"b": 2, "a": 1}}, {"label": 1}, {"label": True}, {}]
    result = apply("vote", items, key="label")

    assert (result["winner"], result["count"], result["total"]) == ({"a": 1, "b": 2}, 2, 4)


@given(st.lists(st.sampled_from(["a", "b", "c", 1, None])))
def test_every_vote_is_counted_once(votes: list[Any]) -> None:
    result = apply("vote", votes)
    counts = [entry["count"] for entry in result["tally"]]

    assert sum(counts) == result["total"] == sum(vote is not None for vote in votes)
    assert counts == sorted(counts, reverse=True)
    assert result["count"] == max(counts, default=0)
