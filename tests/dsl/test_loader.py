"""Texts to values: hostile ones are refused with their places, all others come out as written."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.dsl.limits import LoadLimits
from app.dsl.loader import Format, load_document
from app.ports.errors import DefinitionInvalid
from app.ports.problems import Problem, pointer

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


class _QuotingDumper(yaml.SafeDumper):
    """Writes every text in quotes: PyYAML itself only quotes what YAML 1.1 would misread."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


_QuotingDumper.add_representer(str, _represent_text)
_QuotingDumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]  # shared values are copies


def problems(
    source: bytes | str, format: Format = "auto", limits: LoadLimits | None = None
) -> tuple[Problem, ...]:
    """What is refused of a text."""
    with pytest.raises(DefinitionInvalid) as refused:
        load_document(source, format=format, limits=limits)
    return refused.value.problems


@pytest.mark.parametrize(
    ("source", "pointer", "place", "detail", "hint"),
    [
        ("", "", (None, None), "the document is empty", "start with"),
        ("# only a comment\n", "", (None, None), "the document is empty", "start with"),
        ("a: &x 1", "/a", (1, 4), "the anchor '&x'", "write the value out"),
        ("a: *x", "/a", (1, 4), "the alias '*x'", "write the value out"),
        ("*x : 1", "", (1, 1), "the alias '*x'", "write the value out"),
        ("a: !!python/object:os.system x", "/a", (1, 4), "the tag", "write the value out"),
        ("a: !!int 3", "/a", (1, 4), "the tag", "write the value out"),
        ("a: ! 3", "/a", (1, 4), "the tag '!'", "write the value out"),
        ("!x {a: 1}", "", (1, 1), "the tag '!x'", "write the value out"),
        ("b: {a: 1}\nc:\n  <<: {a: 2}\n", "/c/<<", (3, 3), "merge keys", "write the value out"),
        ("a: 1\nb: 2\na: 3\n", "/a", (3, 1), "'a' is given twice", "keep one"),
        ("s:\n- x: 1\n  'x': 2\n", "/s/0/x", (3, 3), "'x' is given twice", "keep one"),
        ("1: x", "/1", (1, 1), "the key '1' is not text", "in quotes"),
        ("a: {true: x}", "/a/true", (1, 5), "the key 'true' is not text", "in quotes"),
        ("{null: x}", "/null", (1, 2), "the key 'null' is not text", "in quotes"),
        ("? [a, b]\n: 1", "", (1, 3), "cannot be a key", "in quotes"),
        ("? {a: b}\n: 1", "", (1, 3), "cannot be a key", "in quotes"),
        ("a: 1\n---\nb: 2", "", (2, 1), "a second document", "one document"),
        ("a: 18446744073709551616", "/a", (1, 4), "more than 64 bits", "in quotes"),
        ("a: -9223372036854775809", "/a", (1, 4), "more than 64 bits", "in quotes"),
        ("a: " + "9" * 100_000, "/a", (1, 4), "more than 64 bits", "in quotes"),
        ("a: 0xFFFFFFFFFFFFFFFFF", "/a", (1, 4), "more than 64 bits", "in quotes"),
        ("a: 1e999", "/a", (1, 4), "no number that a double can hold", "in quotes"),
        ("a: [.inf]", "/a/0", (1, 5), "no number that JSON can carry", "in quotes"),
        ("a: -.INF", "/a", (1, 4), "no number that JSON can carry", "in quotes"),
        ("a: .nan", "/a", (1, 4), "no number that JSON can carry", "in quotes"),
        ('a: "x\\0y"', "/a", (1, 4), "NUL", "remove it"),
        ('"x\\x00": 1', "", (1, 1), "NUL", "remove it"),
        ("a: b\0c", "", (1, 5), "character that YAML does not allow", "remove it"),
        ("a: 1\nb: \x07", "", (2, 4), "character that YAML does not allow", "remove it"),
        (b"a: 1\nb: \xff", "", (2, 4), "not UTF-8", "UTF-8"),
        ("a: \ud800", "", (1, 4), "not UTF-8", "UTF-8"),
        ('a: "\\ud800"', "", (1, 7), "not YAML", "mend the YAML"),
        ("a: [1, 2", "", (2, 1), "not YAML", "mend the YAML"),
        ("a:\n\t- b", "", (2, 1), "not YAML", "mend the YAML"),
        ("a: b: c", "", (1, 5), "not YAML", "mend the YAML"),
        ("steps:\n- a\nb", "", (4, 1), "not YAML", "mend the YAML"),
        ('{"a": 1, "a": 2}', "/a", (1, 10), "'a' is given twice", "keep one"),
        ('{"a":\n [18446744073709551616]}', "/a/0", (2, 3), "more than 64 bits", "in quotes"),
    ],
)
def test_refuses_with_the_place(
    source: bytes | str, pointer: str, place: tuple[int | None, int | None], detail: str, hint: str
) -> None:
    first = problems(source)[0]
    assert (first.pointer, (first.line, first.column)) == (pointer, place)
    assert detail in first.detail
    assert hint in (first.hint or "")


def test_json_is_held_to_its_own_grammar_where_it_is_asked_for() -> None:
    (problem,) = problems('{"a": NaN}', format="json")
    assert (problem.line, problem.column) == (1, 7)
    (problem,) = problems("a: 1", format="json")
    assert "not JSON" in problem.detail


def test_refuses_an_alias_bomb_without_building_it() -> None:
    levels = "\n".join(
        f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]" for level in range(1, 10)
    )
    found = problems(f"l0: &l0 [lol]\n{levels}\n")
    assert {problem.hint for problem in found} == {"write the value out; documents are plain data"}
    assert len(found) == 100


@pytest.mark.parametrize(
    "source",
    ["[" * 100_000, "- " * 100_000 + "x", "{a: " * 100_000, '{"a":' * 100_000, "[" * 100 + "]" * 100],
)
def test_refuses_nesting_however_deep(source: str) -> None:
    assert "nested deeper than 64 levels" in problems(source)[-1].detail


def test_says_where_nesting_goes_too_far() -> None:
    limits = LoadLimits(max_depth=2)
    (problem,) = problems("a:\n  b:\n    c: 1\n", limits=limits)
    assert (problem.pointer, problem.line, problem.column) == ("/a/b", 3, 5)
    (problem,) = problems('{"a":\n {"b":\n  {"c": 1}}}', limits=limits)
    assert (problem.pointer, problem.line, problem.column) == ("/a/b", 2, 3)


@pytest.mark.parametrize(
    "source", ["[" + "1, " * 100_000 + "1]", "- 1\n" * 100_001, "{" + "a, " * 60_000 + "}"]
)
def test_refuses_more_values_than_the_limit(source: str) -> None:
    found = problems(source)[-1]
    assert "more than 100000 keys and values" in found.detail or "given twice" in found.detail


def test_counts_values_of_json_exactly() -> None:
    limits = LoadLimits(max_values=5)
    assert load_document('{"a": "{,:[,,,:", "b": 2}', limits=limits).value == {"a": "{,:[,,,:", "b": 2}
    (problem,) = problems('{"a": 1, "b": [2]}', limits=limits)
    assert "more than 5 keys and values" in problem.detail


def test_refuses_a_longer_text_before_reading_it() -> None:
    (problem,) = problems("a: " + "x" * 1024 * 1024)
    assert "longer than 1048576 bytes" in problem.detail


@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_takes_one_scalar_up_to_the_limit(quote: str) -> None:
    text = "x" * (1024 * 1024 - 10)
    assert load_document(f"a: {quote}{text}{quote}").value == {"a": text}


def test_reports_every_node_that_it_refuses() -> None:
    found = problems("a: &x 1\nb: *x\nc: !t d\n1: 2\na: .nan\n")
    assert [(problem.line, problem.column) for problem in found] == [
        (1, 4),
        (2, 4),
        (3, 4),
        (4, 1),
        (5, 1),
        (5, 4),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("on", "off", "yes", "no", "Yes", "y", "N", "=", "nUll", "tRue")),
        *((word, word) for word in ("1_000", "12:30", "2024-01-01", "0b11", "1.2.3", "+", ".", "0o8", "0xg")),
        *((word, None) for word in ("", "~", "null", "Null", "NULL")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *(("1", 1), ("-0", 0), ("+7", 7), ("012", 12), ("0o17", 15), ("0xFf", 255)),
        *(("1.0", 1.0), (".5", 0.5), ("5.", 5.0), ("-1e3", -1000.0), ("+1.5E-2", 0.015)),
        *((str(2**64 - 1), 2**64 - 1), (str(-(2**63)), -(2**63))),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    loaded = load_document(f"a: {text}\n").value["a"]
    assert loaded == value
    assert type(loaded) is type(value)


def test_words_of_yaml_1_1_are_text_as_keys_too() -> None:
    assert load_document("on: 1\nyes: 2\nno: 3\n'1': 4\n\"true\": 5").value == {
        "on": 1,
        "yes": 2,
        "no": 3,
        "1": 4,
        "true": 5,
    }


def test_quoted_and_block_scalars_are_text() -> None:
    source = "a: '1'\nb: \"true\"\nc: |\n  null\nd: >-\n  1.5\n"
    assert load_document(source).value == {"a": "1", "b": "true", "c": "null\n", "d": "1.5"}


def test_a_text_that_begins_with_a_bracket_may_still_be_yaml() -> None:
    assert load_document("{a: 1, b: [yes, ],}").value == {"a": 1, "b": ["yes"]}


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("body", [b'{"a": "\xc3\xa9"}', "a: é".encode()])
def test_takes_a_byte_order_mark(prefix: bytes, body: bytes) -> None:
    assert load_document(prefix + body).value == {"a": "é"}


YAML = """\
name: x
version: 1.10
steps:
  - id: a
    "prompt": |
      hi
    list: [1, {k: é}, z]
  -
    id: b
"""


@pytest.mark.parametrize(
    ("pointer", "place"),
    [
        ("", (1, 1)),
        ("/name", (1, 1)),
        ("/steps", (3, 1)),
        ("/steps/0", (4, 5)),
        ("/steps/0/prompt", (5, 5)),
        ("/steps/0/list/1/k", (7, 16)),
        ("/steps/0/list/2", (7, 23)),
        ("/steps/1/id", (9, 5)),
        ("/steps/1/missing/deeper", (9, 5)),
        ("/steps/7", (3, 1)),
        ("/nowhere", (1, 1)),
    ],
)
def test_locates_keys_and_items_in_yaml(pointer: str, place: tuple[int, int]) -> None:
    assert load_document(YAML).locate(pointer) == place


@pytest.mark.parametrize(
    ("pointer", "place"),
    [
        ("", (1, 1)),
        ("/é", (1, 2)),
        ("/é/0", (2, 3)),
        ("/é/1/a~1b", (3, 4)),
        ("/é/2", (3, 16)),
        ("/é/9", (1, 2)),
    ],
)
def test_locates_keys_and_items_in_json(pointer: str, place: tuple[int, int]) -> None:
    source = '{"é": [\n  "x",\n  {"a\\/b": 1}, 2]\n}'
    assert load_document(source).locate(pointer) == place


def test_knows_how_a_scalar_was_written() -> None:
    assert load_document(YAML).written("/version") == "1.10"
    assert load_document('{"version": 1.10, "name": "a\\nb"}').written("/version") == "1.10"
    assert load_document('{"version": 1.10, "name": "a\\nb"}').written("/name") == "a\nb"
    assert load_document(YAML).written("/steps") is None


@given(JSON_VALUES)
def test_any_value_survives_yaml(value: Any) -> None:
    source = yaml.dump(value, Dumper=_QuotingDumper, allow_unicode=False)
    assert load_document(source, format="yaml").value == value


@given(JSON_VALUES, st.sampled_from([None, 1]))
def test_any_value_survives_json(value: Any, indent: int | None) -> None:
    loaded = load_document(json.dumps(value, indent=indent), format="json")
    assert loaded.value == value


KEYS = st.text(alphabet="ab/~ é", min_size=1, max_size=4)


@given(
    st.dictionaries(KEYS, st.lists(st.dictionaries(KEYS, st.booleans(), max_size=3), max_size=3), max_size=3)
)
def test_a_text_in_both_languages_has_the_same_places(value: dict[str, list[dict[str, bool]]]) -> None:
    source = json.dumps(value, indent=1, ensure_ascii=False)
    as_json, as_yaml = load_document(source, format="json"), load_document(source, format="yaml")
    for name, items in value.items():
        at = pointer(name)
        for number, item in enumerate(items):
            for key in item:
                inside = at + pointer(number, key)
                assert as_json.locate(inside) == as_yaml.locate(inside)
                assert as_json.locate(inside) != as_json.locate(at)
            assert as_json.locate(at + pointer(number)) == as_yaml.locate(at + pointer(number))
        assert as_json.locate(at) == as_yaml.locate(at)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_loaded_but_never_breaks_the_loader(body: bytes) -> None:
    with suppress(DefinitionInvalid):
        load_document(body)


@given(st.text(alphabet="{}[],:?-&*!|>'\"#%@` \n\tab01.~<=\\", max_size=60))
def test_yaml_shaped_noise_is_refused_or_loaded(text: str) -> None:
    with suppress(DefinitionInvalid):
        json.dumps(load_document(text).value, allow_nan=False)
