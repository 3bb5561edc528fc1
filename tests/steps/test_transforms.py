"""The transform functions: what they refuse, what they return, and what holds for any data."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.steps.transforms.function import MAX_SIZE
from app.steps.transforms.ordering import RUN
from tests.steps.fakes import apply, refusal

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


# merge, concat, join, zip


@pytest.mark.parametrize(
    ("inputs", "merged"),
    [
        ([], []),
        ([None], []),
        ([{"a": 1, "b": 1}, None, {"b": 2}], {"a": 1, "b": 2}),
        ([[1], None, [2, 3]], [1, 2, 3]),
        (["a", [1], {"b": 2}], ["a", 1, {"b": 2}]),
    ],
)
def test_merge_joins_objects_with_the_later_winning_and_all_else_as_a_list(inputs: Any, merged: Any) -> None:
    assert apply("merge", *inputs) == merged


def test_merge_leaves_its_inputs_as_they_were() -> None:
    first = {"a": 1}
    apply("merge", first, {"a": 2})

    assert first == {"a": 1}


def test_concat_refuses_to_mix_or_to_guess() -> None:
    assert "not both" in str(refusal("concat", "a", ["b"]))
    assert "to_json" in str(refusal("concat", "a", {"b": 1}))


@pytest.mark.parametrize(
    ("inputs", "parameters", "text"),
    [
        ([], {}, ""),
        (["a", None, "b"], {}, "a\nb"),
        (["a", 1, True], {"separator": ", "}, "a, 1, true"),
        ([[1], [2]], {}, [1, 2]),
    ],
)
def test_concat_joins_texts_and_lists(inputs: Any, parameters: dict[str, Any], text: Any) -> None:
    assert apply("concat", *inputs, **parameters) == text


def test_join_makes_text_of_a_list() -> None:
    assert apply("join", ["a", "b"], "c", separator="-") == "a-b-c"


@pytest.mark.parametrize(
    ("function", "inputs", "parameters"),
    [
        ("concat", ["x" * (MAX_SIZE // 2)] * 3, {}),
        ("join", [["x"] * 20_000], {"separator": "y" * 1_000}),
        ("zip", [{"n": list(range(2_000)), "text": "x" * 20_000}], {}),
        ("regex", ["a" * 9_000], {"pattern": "a", "operation": "replace", "replacement": "b" * 5_000}),
        ("flatten", [[[0] * 60_000] * 2], {}),
        ("split", ["," * 200_000], {"separator": ","}),
        ("chunk", ["x" * 200_000], {"size": 1}),
        ("chunk", [[{"t": "x " * 10_000, "more": "y" * 10_000}]], {"size": 2, "key": "t"}),
        ("replace", ["a" * 9_000], {"search": "a", "replacement": "b" * 5_000}),
        ("replace", [["a" * 900] * 20], {"search": "a", "replacement": "b" * 1_000}),
        ("regex", ["a" * 20_000], {"pattern": "a"}),
    ],
)
def test_results_without_measure_are_refused(
    function: str, inputs: list[Any], parameters: dict[str, Any]
) -> None:
    assert refusal(function, *inputs, **parameters).error_class == "too_large"


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ([[1, 2]], "object of lists"),
        ([{}], "at least one list"),
        ([{"a": 1}], "at least one list"),
        ([{"a": [1], "b": {"c": [1, 2]}}], "'a' has 1, 'b.c' has 2"),
    ],
)
def test_zip_refuses_what_does_not_pair(inputs: Any, complaint: str) -> None:
    assert complaint in str(refusal("zip", *inputs))


def test_zip_builds_the_records_of_an_ingestion() -> None:
    chunks = ["one", "two"]
    records = apply(
        "zip", {"id": ["a", "b"], "vector": [[1.0], [2.0]], "metadata": {"text": chunks, "source": "s"}}
    )

    assert records == [
        {"id": "a", "vector": [1.0], "metadata": {"text": "one", "source": "s"}},
        {"id": "b", "vector": [2.0], "metadata": {"text": "two", "source": "s"}},
    ]
    assert apply("zip", {"id": []}) == []


# filter, pick, map, slice

ITEMS: list[Any] = [
    {"id": 1, "score": 0.9, "meta": {"tags": ["a", "b"]}, "name": "Anna"},
    {"id": 2, "score": "0.9", "meta": {"tags": []}, "name": None},
    {"id": 3, "score": True},
    "text",
    None,
]


@pytest.mark.parametrize(
    ("parameters", "ids"),
    [
        ({"key": "score", "value": 0.9}, [1]),
        ({"key": "score", "value": 1}, []),
        ({"key": "id", "value": 2.0}, [2]),
        ({"key": "id", "value": 2, "operator": "ne"}, [1, 3, "text", None]),
        ({"key": "score", "value": 0.5, "operator": "gt"}, [1]),
        ({"key": "score", "value": "0.5", "operator": "gte"}, [2]),
        ({"key": "id", "value": 2, "operator": "lt"}, [1]),
        ({"key": "id", "value": 2, "operator": "lte"}, [1, 2]),
        ({"key": "id", "value": [1, 3], "operator": "in"}, [1, 3]),
        ({"key": "id", "value": [1, 3], "operator": "not_in"}, [2, "text", None]),
        ({"key": "meta.tags", "value": "a", "operator": "contains"}, [1]),
        ({"key": "meta.tags.1", "value": "b"}, [1]),
        ({"key": "meta", "value": "tags", "operator": "contains"}, [1, 2]),
        ({"key": "name", "value": "nn", "operator": "contains"}, [1]),
        ({"key": "name", "value": "An", "operator": "starts_with"}, [1]),
        ({"key": "name", "value": "na", "operator": "ends_with"}, [1]),
        ({"key": "name"}, [1]),
        ({"key": "name", "operator": "exists", "value": False}, [2, 3, "text", None]),
        ({"key": "name", "value": None}, [2]),
        ({"value": "text"}, ["text"]),
    ],
)
def test_filter_keeps_what_meets_the_criterion(parameters: dict[str, Any], ids: list[Any]) -> None:
    kept = apply("filter", [*ITEMS], **parameters)

    assert [item["id"] if isinstance(item, dict) else item for item in kept] == ids


def test_filter_in_compares_with_a_list_only() -> None:
    assert "not with text" in str(refusal("filter", ITEMS, key="id", operator="in", value="abc"))


def test_a_key_that_holds_a_dot_is_found_before_a_path() -> None:
    assert apply("map", [{"a.b": 1, "a": {"b": 2}}, {"a": {"b": 2}}], key="a.b") == [1, 2]


def test_pick_keeps_the_shape_and_refuses_what_has_no_keys() -> None:
    assert apply("pick", {"a": 1, "b": 2}, keys=["a", "c"]) == {"a": 1}
    assert apply("pick", [{"a": 1, "b": 2}, {"b": 3}], keys=["a"]) == [{"a": 1}, {}]
    assert "was given text" in str(refusal("pick", ["x"], keys=["a"]))


def test_map_keeps_every_position() -> None:
    items = [{"m": {"t": "x"}}, {}, 5]

    assert apply("map", items, key="m.t") == ["x", None, None]
    assert apply("map", items, key="m.t", default="-") == ["x", "-", "-"]
    assert apply("map", items[:1], fields={"text": "m.t", "no": "n"}) == [{"text": "x", "no": None}]


def test_slice_takes_positions() -> None:
    assert apply("slice", [1, 2, 3, 4], end=2) == [1, 2]
    assert apply("slice", [1, 2, 3, 4], start=-1) == [4]


# sort, unique, flatten, count


def test_sort_orders_mixed_items_without_failing_and_missing_ones_last() -> None:
    items = [{"k": "b"}, {}, {"k": 2}, {"k": None}, {"k": 1.5}, {"k": "a"}, {"k": [1]}, {"k": True}]
    ordered = [{"k": 1.5}, {"k": 2}, {"k": "a"}, {"k": "b"}, {"k": True}, {"k": [1]}]

    assert apply("sort", items, key="k") == [*ordered, {}, {"k": None}]
    assert apply("sort", items, key="k", order="desc") == [*reversed(ordered), {}, {"k": None}]


@pytest.mark.parametrize("parameters", [{}, {"indent": True, "sort_keys": True}])
def test_much_data_is_written_as_little_is(parameters: dict[str, bool]) -> None:
    row = {"b": ["ü", 1.5, None], "a": {"c": True}}
    one = apply("to_json", [row], **parameters)
    many = apply("to_json", [row] * 2_000, **parameters)

    assert many[: len(one) - 2] == one[:-2]
    assert apply("parse_json", many) == [row] * 2_000
    assert "cannot hold" in str(refusal("to_json", [[float("nan")] * 10_000]))


@given(st.lists(VALUES), st.sampled_from(["asc", "desc"]))
def test_sorting_loses_nothing_and_sorting_twice_changes_nothing(items: list[Any], order: str) -> None:
    ordered = apply("sort", items, order=order)

    assert sorted(map(repr, ordered)) == sorted(map(repr, items))
    assert apply("sort", ordered, order=order) == ordered


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_long_lists_are_sorted_as_short_ones_are(order: str) -> None:
    items = [{"k": number * 7_919 % 1_000, "n": number} for number in range(3 * RUN + 1)]

    wanted = sorted(items, key=lambda item: item["k"], reverse=order == "desc")
    assert apply("sort", items, key="k", order=order) == wanted
    assert apply("sort", [], order=order) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers())))
def test_sorting_is_stable_both_ways(pairs: list[tuple[int, int]]) -> None:
    items = [{"k": key, "n": number} for number, (key, _) in enumerate(pairs)]
    for order in ("asc", "desc"):
        ordered = apply("sort", items, key="k", order=order)
        for one, next_one in itertools.pairwise(ordered):
            assert one["k"] != next_one["k"] or one["n"] < next_one["n"]


def test_unique_tells_true_from_one_and_not_one_from_one_point_zero() -> None:
    assert apply("unique", [1, True, 1.0, "1", None, None, {"a": 1, "b": 2}, {"b": 2, "a": 1}]) == [
        1,
        True,
        "1",
        None,
        {"a": 1, "b": 2},
    ]
    assert apply("unique", [{"k": 1, "n": 1}, {"k": 1, "n": 2}, {}], key="k") == [{"k": 1, "n": 1}, {}]


@given(st.lists(VALUES))
def test_unique_keeps_each_value_once_in_order(items: list[Any]) -> None:
    kept = apply("unique", items)
    rest = iter(items)

    assert all(any(item is other for other in rest) for item in kept)
    assert apply("unique", kept) == kept
    assert all(item in kept for item in items)


@given(st.lists(st.lists(st.lists(st.integers()))))
def test_flatten_dissolves_as_many_levels_as_asked(nested: list[list[list[int]]]) -> None:
    once = apply("flatten", nested)

    assert once == [inner for outer in nested for inner in outer]
    assert apply("flatten", nested, depth=2) == [number for inner in once for number in inner]
    assert apply("flatten", nested, depth=32) == apply("flatten", nested, depth=2)


@pytest.mark.parametrize(
    ("inputs", "number"), [([], 0), ([None], 0), ([[1, 2], [3]], 3), (["text"], 1), ([{"a": 1}], 1)]
)
def test_count_counts_items(inputs: list[Any], number: int) -> None:
    assert apply("count", *inputs) == number


# split


def test_split_drops_white_space_and_empty_parts_unless_told_otherwise() -> None:
    assert apply("split", " a \n\n b") == ["a", "b"]
    assert apply("split", "a,,b", separator=",", keep_empty=True) == ["a", "", "b"]
    assert apply("split", ["a, b", "c"], separator=",", strip=False) == ["a", " b", "c"]
    assert apply("split", "a,b,c", separator=",", limit=2) == ["a", "b,c"]


# to_json, digest


@given(VALUES)
def test_json_written_is_json_read(value: Any) -> None:
    source = {"value": value}

    assert apply("parse_json", apply("to_json", source)) == source


def test_a_number_that_json_cannot_hold_is_refused() -> None:
    assert "cannot hold" in str(refusal("to_json", {"a": [float("inf")]}))


def test_to_json_writes_several_inputs_as_one_list() -> None:
    assert apply("to_json", {"b": "ü", "a": 1}) == '{"b": "ü", "a": 1}'
    assert apply("to_json", 1, [2]) == "[1, 2]"
    assert apply("to_json", {"b": 1, "a": 2}, indent=True, sort_keys=True) == '{\n  "a": 2,\n  "b": 1\n}'


@given(st.lists(VALUES, min_size=1))
def test_digests_are_stable_and_belong_to_their_items(items: list[Any]) -> None:
    digests = apply("digest", items, prefix="doc-")

    assert digests == [apply("digest", [item], prefix="doc-")[0] for item in items]
    assert all(len(digest) == 36 and digest.startswith("doc-") for digest in digests)
    assert apply("digest", "a") != apply("digest", "b")


# regex


@pytest.mark.timeout(30)
def test_a_pattern_that_would_backtrack_for_years_answers() -> None:
    assert apply("regex", "a" * 50_000 + "!", pattern="^(a+)+$", operation="test") is False


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("text", "pattern"),
    [("a" * 100_000, "((a?){30}){30}b"), ("a" * 500_000, "(?s)a(.*b)?"), ("a" * 20_000, "a*?")],
)
def test_matching_that_costs_too_much_is_stopped(text: str, pattern: str) -> None:
    assert refusal("regex", text, pattern=pattern).error_class == "too_large"


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a{2000}", "[z-a]"])
def test_a_pattern_that_cannot_be_used_fails_for_good(pattern: str) -> None:
    assert "the pattern cannot be used" in str(refusal("regex", "a", pattern=pattern))


def test_text_that_is_not_unicode_and_groups_that_are_not_there_are_refused() -> None:
    assert "not valid Unicode" in str(refusal("regex", "\ud800", pattern="a"))
    assert "no group 2" in str(refusal("regex", "a", pattern="(a)", group=2))


@pytest.mark.parametrize(
    ("parameters", "result"),
    [
        ({"pattern": r"\d+"}, ["1", "22"]),
        ({"pattern": r"(\w)=(\d+)"}, ["a", "b"]),
        ({"pattern": r"(\w)=(\d+)", "group": 2}, ["1", "22"]),
        ({"pattern": r"(\w)=(\d+)", "group": 0}, ["a=1", "b=22"]),
        ({"pattern": r"\d+", "operation": "first"}, "1"),
        ({"pattern": "x", "operation": "first"}, None),
        ({"pattern": "B", "operation": "test"}, False),
        ({"pattern": "B", "operation": "test", "ignore_case": True}, True),
        ({"pattern": r",\s*", "operation": "split"}, ["a=1", "b=22 ü"]),
        ({"pattern": r"\d+", "operation": "replace", "replacement": r"\0"}, r"a=\0, b=\0 ü"),
        ({"pattern": "[^\\x00-\\x7f]"}, ["ü"]),
    ],
)
def test_regex_finds_tests_splits_and_replaces(parameters: dict[str, Any], result: Any) -> None:
    assert apply("regex", "a=1, b=22 ü", **parameters) == result
    assert apply("regex", ["a=1, b=22 ü"], **parameters) == [result]
