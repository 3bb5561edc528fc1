"""JSON as the API takes it: what is refused, where it is said to stand, and that nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dsl.strict_json import MalformedJson, parse_strict_json

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("body", "pointer", "place", "detail"),
    [
        (b"", "", (1, 1), "not JSON"),
        (b'{"a": 1,}', "", (1, 8), "not JSON"),
        (b'{"a":\n  tru}', "", (2, 3), "not JSON"),
        (b'{"a": NaN}', "", (1, 7), "not JSON"),
        (b'{"a": Infinity}', "", (1, 7), "not JSON"),
        (b'{"a": 1e999}', "", (1, 7), "not JSON"),
        (b'{"a": "\\ud800"}', "", (1, 8), "not JSON"),
        (b'{"a": "\xff"}', "", (1, 8), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "", (1, 1), "not JSON"),
        (b'{"a": 1} {"b": 2}', "", (1, 10), "not JSON"),
        (b'{"a": 1, "a": 2}', "/a", (1, 10), "'a' is given twice"),
        (b'{"x": [{"b:c": 1,\n "b:c": ":"}]}', "/x/0/b:c", (2, 2), "'b:c' is given twice"),
        (b'{"a": 1, "\\u0061": 2}', "/a", (1, 10), "'a' is given twice"),
        (b'{"a": "\\u003a", "a": 2}', "/a", (1, 17), "'a' is given twice"),
        (b'{"a": {"k": [1, {"z": 1}]}, "a": 2}', "/a", (1, 29), "'a' is given twice"),
        (b'{"a": "b\\u0000"}', "/a", (1, 2), "NUL"),
        (b'{"a\\u0000": 1}', "/a\0", (1, 2), "NUL"),
        (b'{"n": 18446744073709551616}', "/n", (1, 2), "more than 64 bits"),
        (b"[-9223372036854775809]", "/0", (1, 2), "more than 64 bits"),
        (b"1" * 300, "", (1, 1), "more than 64 bits"),
        (b"1" * 5000, "", (1, 1), "not JSON"),
        (b'{"a": {"b": [[1]]}}', "/a/b/0", (1, 14), "deeper than 3 levels"),
    ],
)
def test_refuses_with_the_place(body: bytes, pointer: str, place: tuple[int, int], detail: str) -> None:
    with pytest.raises(MalformedJson) as refused:
        parse_strict_json(body, max_depth=3 if b"[[" in body else 64)
    problem = refused.value.problem
    assert (problem.pointer, (problem.line, problem.column)) == (pointer, place)
    assert detail in problem.detail
    assert problem.hint


@pytest.mark.parametrize("depth", [65, 255, 1000, 100_000])
def test_refuses_nesting_however_deep(depth: int) -> None:
    with pytest.raises(MalformedJson):
        parse_strict_json(b"[" * depth + b"]" * depth)
    with pytest.raises(MalformedJson):
        parse_strict_json(b'{"a":' * depth + b"1" + b"}" * depth)


def test_takes_nesting_up_to_the_bound_whatever_the_number_of_brackets() -> None:
    assert parse_strict_json(b"[" * 64 + b"]" * 64)
    wide = b"[" + b",".join(b"[{}]" for _ in range(500)) + b"]"
    assert parse_strict_json(wide, max_depth=3) == [[{}]] * 500


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": "\\\\u0000", "b": "\\\\u003a"}',
        b'{"a": "18446744073709551616, 18446744073709551616"}',
        b'{"a": 18446744073709551615, "b": -9223372036854775808, "c": 0.0012345678901234567}',
        b'{"a": "x: y", "b": {"a": ":"}, "c": [":", {"a": "{[{["}]}',
        b" [ 1 , 2.50 , 1e3 ] ",
        b'"\\ud83d\\ude00 \\u003a"',
        '{"é": "\u2028"}'.encode(),
    ],
)
def test_takes_what_only_looks_suspicious(body: bytes) -> None:
    assert parse_strict_json(body) == json.loads(body)


@given(value=JSON_VALUES, indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_any_value_survives(value: Any, indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert parse_strict_json(body) == value


@given(
    pairs=st.lists(st.tuples(TEXT, JSON_VALUES), min_size=1, max_size=5),
    repeated=st.integers(0, 4),
    ascii_only=st.booleans(),
    spaced=st.booleans(),
)
def test_a_repeated_name_never_passes(
    pairs: list[tuple[str, Any]], repeated: int, ascii_only: bool, spaced: bool
) -> None:
    pairs.append((pairs[repeated % len(pairs)][0], 1))
    separators = (", ", ": ") if spaced else (",", ":")
    members = separators[0].join(
        json.dumps(name, ensure_ascii=ascii_only)
        + separators[1]
        + json.dumps(value, ensure_ascii=ascii_only, separators=separators)
        for name, value in pairs
    )
    with pytest.raises(MalformedJson, match="given twice"):
        parse_strict_json(f"{{{members}}}".encode())
