"""Reading what models wrote, and replacing text: what is refused, what is found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.steps.fakes import apply, refusal

PROSE = """Sure [1]! Here it is:

```json
{"a": 1}
```

and as code

~~~~python
print("```")
~~~~

```
plain
```
"""

# parse_json


@pytest.mark.parametrize("text", ["", "{", "nope", "NaN", '{"a": 1} trailing', "```json\n{\n```", "a [1] b"])
def test_text_that_is_no_json_is_refused_for_good(text: str) -> None:
    assert refusal("parse_json", text).error_class == "invalid_output"


def test_parse_json_with_a_default_refuses_no_text() -> None:
    assert apply("parse_json", "nope", default=None) is None
    assert apply("parse_json", ["1", "nope", None], default="-") == [1, "-", "-"]
    assert "was given an object" in str(refusal("parse_json", {"a": 1}, default=1))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ("  ```\n[1]\n```  ", [1]),
        (PROSE, {"a": 1}),
        ('Before:\r\n```json\r\n{"a": 1}\r\n```\r\nafter', {"a": 1}),
        ("```python\nx = 1\n```\nthen\n```\n2\n```", 2),
        ('```json\n{"a": "```"}', {"a": "```"}),
        ("- item\n  ```json\n  [1]\n  ```", [1]),
        ('{"a": "```json\\n1\\n```"}', {"a": "```json\n1\n```"}),
    ],
)
def test_parse_json_copes_with_fences(text: str, value: Any) -> None:
    assert apply("parse_json", text) == value


def test_parse_json_keeps_lists_lists() -> None:
    assert apply("parse_json", ["1", '"x"']) == [1, "x"]
    assert "was given null" in str(refusal("parse_json", [None]))


# extract


@pytest.mark.parametrize("what", ["json", "code"])
def test_where_nothing_stands_the_default_does(what: str) -> None:
    assert apply("extract", "No value { here.", what=what) is None
    assert apply("extract", "No value [ here.", what=what, default=0) == 0
    assert apply("extract", "No value here.", what=what, all=True) == []


def test_extract_takes_text_only() -> None:
    assert "was given an object" in str(refusal("extract", {"a": 1}))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, 2]", [1, 2]),
        (PROSE, {"a": 1}),
        ('As [1] says: {"a": {"b": [1]}} - fine.', {"a": {"b": [1]}}),
        ('[see {"a": 1}]', {"a": 1}),
        ('{"cut": [1, {"b": 2}', {"b": 2}),
        ("[NaN] {broken} [3]", [3]),
        ("[" * 500_000, None),
        ("[" * 100_000 + "]" * 100_000, None),
    ],
)
def test_extract_finds_the_value_between_words(text: str, value: Any) -> None:
    assert apply("extract", text) == value


def test_extract_finds_all_of_them() -> None:
    assert apply("extract", 'a {"x": [1]} b [2] c', all=True) == [{"x": [1]}, [2]]
    assert apply("extract", ["[1]", "none"], all=True) == [[[1]], []]


def test_extract_finds_code_by_its_language() -> None:
    assert apply("extract", PROSE, what="code") == '{"a": 1}'
    assert apply("extract", PROSE, what="code", language="Python") == 'print("```")'
    assert apply("extract", PROSE, what="code", language="rust") is None
    assert apply("extract", PROSE, what="code", all=True) == ['{"a": 1}', 'print("```")', "plain"]
    assert apply("extract", "```sql\nselect 1\n", what="code") == "select 1"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("text", ["`", "```\n", " ", "~~~ a\n", "```json\n{\n```\n", "[", '{"a":', "[1,"])
@pytest.mark.parametrize("what", ["json", "code"])
def test_two_million_characters_take_no_minutes_whatever_they_are(text: str, what: str) -> None:
    for size in (200_000, 2_000_000):
        apply("extract", text * (size // len(text)), what=what, all=True)


# replace


def test_replace_takes_text_literally() -> None:
    assert apply("replace", "a.b.c", search=".", replacement="\\1") == "a\\1b\\1c"
    assert apply("replace", ["aaa", 1], search="a", limit=2) == ["a", "1"]
    assert "was given a list" in str(refusal("replace", [["a"]], search="a"))


@given(st.text(alphabet="abc"), st.text(alphabet="abc", min_size=1, max_size=2), st.text(alphabet="xy"))
def test_nothing_that_was_replaced_is_left(text: str, search: str, replacement: str) -> None:
    replaced = apply("replace", text, search=search, replacement=replacement)

    assert replaced == replacement.join(text.split(search))
