"""What templates render to in process: native values, text, and what is missing."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.errors import TemplateFailed
from app.templating.compiler import compile_value
from app.templating.limits import RenderLimits
from app.templating.names import Reference
from app.templating.renderer import Renderer, referenced

CONTEXT: dict[str, Any] = {
    "inputs": {
        "question": "What is {{ 7 * 7 }}? {% raw %}",
        "items": "the input called items",
        "n": 3,
        "f": 1.5,
        "yes": True,
        "null": None,
        "list": [1, "two", {"a": None}],
        "object": {"b": 1, "keys": 2},
        "text": "It's a quite long text",
    },
    "steps": {
        "search": {
            "hits": [
                {"id": "a", "score": 0.5, "metadata": {"text": "A"}},
                {"id": "b", "score": 0.75, "metadata": {"text": "B"}},
                {"id": "c", "score": 0.25, "metadata": {}},
            ]
        }
    },
    "outputs": {"answer": "{{ secrets.key }}"},
}


def render(value: Any, context: dict[str, Any] | None = None, **limits: Any) -> Any:
    compiled = compile_value(value)
    assert compiled.inline
    return Renderer(RenderLimits(**limits)).render_inline(compiled, CONTEXT if context is None else context)


@pytest.mark.parametrize(
    ("template", "path", "cause"),
    [
        ("{{ steps.gone.text }}", "steps.gone.text", "the step 'gone' was skipped or has not run"),
        ("Say {{ steps.gone.text }}", "steps.gone.text", "the step 'gone' was skipped or has not run"),
        (
            "{{ steps.search.hit }}",
            "steps.search.hit",
            "the step 'search' gave no 'hit' (did you mean 'hits'?)",
        ),
        ("{{ steps.search.hits[9].id }}", "steps.search.hits[9].id", "steps.search.hits has no 9"),
        ("{{ inputs.objet.b.c }}", "inputs.objet.b.c", "inputs has no 'objet' (did you mean 'object'?)"),
        ("{{ inputs['a b'] }}", "inputs['a b']", "inputs has no 'a b'"),
        ("{{ item.x }}", "item.x", "nothing is called 'item' at this place"),
        ("{{ [inputs.gone] }}", "inputs.gone", "inputs has no 'gone'"),
        ("{{ {'a': inputs.gone} }}", "inputs.gone", "inputs has no 'gone'"),
        ("{{ inputs.gone | upper }}", "inputs.gone", "inputs has no 'gone'"),
        ("{{ inputs.gone | tojson }}", "inputs.gone", "inputs has no 'gone'"),
        ("{{ inputs.gone ~ 'x' }}", "inputs.gone", "inputs has no 'gone'"),
        ("{{ (inputs.gone | int) + 1 }}", "inputs.gone", "inputs has no 'gone'"),
        ("{{ steps.search.hits | map(attribute='nope') | join }}", "(item 0).nope", "(item 0) has no 'nope'"),
    ],
)
def test_writing_out_what_is_missing_fails_and_names_it(template: str, path: str, cause: str) -> None:
    with pytest.raises(TemplateFailed) as caught:
        render(template)
    assert f"{path} is not there: {cause}" in str(caught.value)
    assert f"{{{{ {path} | default(...) }}}}" in str(caught.value)


def test_a_failure_names_the_place_within_the_value() -> None:
    with pytest.raises(TemplateFailed, match=r"\(in /messages/1/content\)$"):
        render({"messages": ["x", {"content": "{{ steps.gone.x }}"}]})


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 1 / (inputs.n | int - 3) }}", "division by zero"),
        ("{% for x in inputs.n %}{% endfor %}", "a loop needs a list, not a number"),
        ("{% for x in inputs.null %}{% endfor %}", "a loop needs a list, not null"),
        ("{% for a, b in inputs.list %}{% endfor %}", "wrong type"),
        ("{{ inputs.list[inputs.object] }}", "needs a name or an index, not an object"),
        ("{{ inputs.n[1:] }}", "a slice [a:b] needs a list or text, not a number"),
        ("{{ inputs.list[::0] }}", "cannot be 0"),
        ("{{ inputs.list['x':] }}", "whole numbers, not text"),
        ("{{ 1 in inputs.text }}", "'in' looks for text in text"),
        ("{{ inputs.list | sum }}", "sum needs a number, not text"),
        ("{{ inputs.text | round }}", "round needs a number, not text"),
        ("{{ inputs.text | truncate(1) }}", "leaves no room"),
        ("{{ inputs.text | indent(100000) }}", "indent takes 0 to 100 spaces"),
        ("{{ inputs.text | truncate(nope=1) }}", "wrong type"),
        ("{{ {1: 2} }}", "the keys of an object are text, not a number"),
        ("x{% for a in inputs.list %}{{ loop }}{% endfor %}", "cannot be written as JSON"),
        ("{{ (9223372036854775807 * 2) }}", "too large"),
        ("{{ 1e300 * 1e300 }}", "too large"),
    ],
)
def test_a_wrong_value_fails_with_what_to_do(template: str, words: str) -> None:
    with pytest.raises(TemplateFailed) as caught:
        render(template)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ inputs.list }}", CONTEXT["inputs"]["list"]),
        ("{{ inputs.list }}\n", CONTEXT["inputs"]["list"]),
        ("{{ inputs.n }}", 3),
        ("{{ inputs.null }}", None),
        ("{{ inputs.yes }}", True),
        ("{{ inputs.items }}", "the input called items"),
        ("{{ inputs.object.keys }}", 2),
        ("{{ inputs.gone | default('d') }}", "d"),
        ("{{ steps.gone.a.b.c | default([1]) }}", [1]),
        ("{{ inputs.gone or inputs.n }}", 3),
        ("{{ inputs.gone and inputs.n or 'x' }}", "x"),
        ("{{ inputs.gone == null }}", True),
        ("{{ inputs.gone is none }}", True),
        ("{{ not inputs.gone }}", True),
        ("{{ inputs.gone | length }}", 0),
        ("{{ inputs.gone | list }}", []),
        ("{{ 1 in inputs.gone }}", False),
        ("{{ 'a' if inputs.gone }}", None),
        ("{{ inputs.list[-1] }}", {"a": None}),
        ("{{ inputs.list[:2] }}", [1, "two"]),
        ("{{ inputs.text[:4] }}", "It's"),
        ("{{ (1, 2) }}", [1, 2]),
        ("{{ inputs.n | int * 2 + 1 }}", 7),
        ("{{ 7 // 2 }}", 3),
        ("{{ -(1 + 1) }}", -2),
        ("{{ steps.search.hits | map(attribute='id') }}", ["a", "b", "c"]),
        ("{{ steps.search.hits | map(attribute='metadata.text', default='-') | list }}", ["A", "B", "-"]),
        ("{{ steps.search.hits | selectattr('score', 'ge', 0.5) | map(attribute='id') }}", ["a", "b"]),
        ("{{ steps.search.hits | rejectattr('score', '>', 0.5) | map(attribute='id') | list }}", ["a", "c"]),
        ("{{ steps.search.hits | selectattr('metadata.text') | length }}", 2),
        ("{{ steps.search.hits | sum(attribute='score') }}", 1.5),
        ("{{ (steps.search.hits | max(attribute='score')).id }}", "b"),
        ("{{ [3, 1, 2] | min }}", 1),
        ("{{ [1, 2, 3] | select('odd') | list }}", [1, 3]),
        ("{{ [1, 2, 3] | reject('odd') | list }}", [2]),
        ("{{ ['a', 'b'] | map('upper') | list }}", ["A", "B"]),
        ("{{ [1, 2] | reverse }}", [2, 1]),
        ("{{ 'abc' | reverse }}", "cba"),
        ("{{ inputs.object | items }}", [["b", 1], ["keys", 2]]),
        ("{{ inputs.list | first }}", 1),
        ("{{ 'x12' | int(7) }}", 7),
        ("{{ '4.5' | int }}", 4),
        ("{{ '4.5' | float }}", 4.5),
        ("{{ 2.5 | round(0, 'ceil') }}", 3.0),
        ("{{ -3 | abs }}", 3),
        ("{{ 'a-a-a' | replace('a', 'bb', 2) }}", "bb-bb-a"),
        ("{{ inputs.text | truncate(12) }}", "It's a..."),
        ("{{ inputs.text | title }}", "It's A Quite Long Text"),
        ("{{ inputs.text | wordcount }}", 5),
        ("{{ ' x ' | trim }}", "x"),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        ("{{ inputs.object | tojson }}", '{"b":1,"keys":2}'),
        ("{{ inputs.n | string }}", "3"),
    ],
)
def test_a_single_expression_yields_its_native_value(template: str, expected: Any) -> None:
    result = render(template)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("n={{ inputs.n }} f={{ inputs.f }} b={{ inputs.yes }}", "n=3 f=1.5 b=true"),
        ("[{{ inputs.null }}]", "[]"),
        ("l={{ inputs.list }}", 'l=[1,"two",{"a":null}]'),
        ("o={{ inputs.object }}\n", 'o={"b":1,"keys":2}\n'),
        ("{{ 'a' if inputs.gone }}|", "|"),
        ("{{ inputs.n ~ '-' ~ inputs.list }}|", '3-[1,"two",{"a":null}]|'),
        (
            "{% for h in steps.search.hits %}{{ loop.index0 }}{{ ',' if not loop.last }}{% endfor %}",
            "0,1,2",
        ),
        ("{% for h in steps.gone.hits %}x{% else %}none{% endfor %}", "none"),
        ("{% for k, v in inputs.object | items %}{{ k }}={{ v }};{% endfor %}", "b=1;keys=2;"),
        ("{% for k in inputs.object %}{{ k }} {% endfor %}", "b keys "),
        ("{% if inputs.gone %}a{% elif inputs.yes %}b{% else %}c{% endif %}", "b"),
        ("{% for h in steps.search.hits if h.score > 0.3 %}{{ h.id }}{% endfor %}", "ab"),
        ("{% for a in [1,2] %}{% for b in [3,4] %}{{ a }}{{ b }} {% endfor %}{% endfor %}", "13 14 23 24 "),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("a {#- c -#} b", "ab"),
        ("<{{ inputs.text }}> & co", "<It's a quite long text> & co"),
    ],
)
def test_text_is_written_like_json_without_quotes(template: str, expected: str) -> None:
    assert render(template) == expected


def test_data_is_never_rendered_a_second_time() -> None:
    assert render("{{ inputs.question }}") == CONTEXT["inputs"]["question"]
    assert render("Q: {{ inputs.question }} {{ outputs.answer }}") == (
        "Q: What is {{ 7 * 7 }}? {% raw %} {{ secrets.key }}"
    )


def test_a_value_keeps_its_shape_and_its_keys() -> None:
    value = {
        "{{ inputs.n }}": [1, None, "{{ inputs.n }}", {"deep": "n={{ inputs.n }}"}],
        "k": "plain",
        "b": True,
    }
    assert render(value) == {"{{ inputs.n }}": [1, None, 3, {"deep": "n=3"}], "k": "plain", "b": True}


def test_a_constant_renders_to_itself() -> None:
    value = {"a": [1, "x", {"b": None}]}
    compiled = compile_value(value)
    assert compiled.constant
    assert Renderer(RenderLimits()).render_inline(compiled, {}) is value


def test_templates_that_break_the_bound_on_output_fail() -> None:
    with pytest.raises(TemplateFailed, match="writes more than 100 characters"):
        render(
            {"a": "{{ inputs.text }}" + "x" * 50, "b": "{{ inputs.text }}" + "x" * 50}, max_output_chars=100
        )


def test_a_worker_is_sent_only_what_the_templates_refer_to() -> None:
    context = {
        "inputs": {"a": 1, "b": {"c": 2, "d": 3}},
        "steps": {"x": {"y": [1]}, "z": {"w": 1}},
        "run": {},
    }
    references = [
        Reference("inputs", ("b", "c")),
        Reference("steps", ("x", "y", "deeper")),
        Reference("steps", ("gone", "q")),
        Reference("steps", ("z",)),
        Reference("item", ()),
    ]
    assert referenced(context, references) == {
        "inputs": {"b": {"c": 2}},
        "steps": {"x": {"y": [1]}, "z": {"w": 1}},
    }


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), children, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_passes_through_a_template_unchanged(value: Any) -> None:
    context = {"inputs": {"x": value}}
    assert render("{{ inputs.x }}", context) is value
    assert render({"a": ["{{ inputs.x }}"]}, context) == {"a": [value]}
    assert render("{{ [inputs.x] }}", context) == [value]


@given(JSON)
def test_any_json_is_written_into_text_as_it_is(value: Any) -> None:
    written = render("<{{ inputs.x }}>", {"inputs": {"x": value}})[1:-1]
    if isinstance(value, str):
        assert written == value
    elif value is None:
        assert written == ""
    else:
        assert orjson.loads(written) == value
