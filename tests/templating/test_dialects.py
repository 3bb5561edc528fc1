"""Conditions and expressions of both dialects, and Handlebars that is refused with its Jinja2 form."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.errors import TemplateFailed
from app.templating.compiler import TemplateProblems, compile_condition, compile_expression, compile_value
from app.templating.limits import RenderLimits
from app.templating.renderer import Renderer

CONTEXT: dict[str, Any] = {
    "inputs": {"enable": True, "n": 3, "name": "it's", "none": None, "empty": [], "list": [1, 2]},
    "steps": {"classify": {"text": "safe"}},
    "outputs": {"classify": "safe", "evil": "x' == 'x' or 'a", "braces": "{{ inputs.enable }} }} {{"},
}


@pytest.fixture
def renderer() -> Renderer:
    return Renderer(RenderLimits())


@pytest.mark.parametrize(
    ("source", "detail", "hint"),
    [
        ("", "empty", "inputs.enable == true"),
        ("{{ }}", "empty", "{{ outputs.classify }}"),
        ("inputs.a && inputs.b", "'&&'", "use and/or/not"),
        ("inputs.a || inputs.b", "'||'", "use and/or/not"),
        ("!inputs.a", "'!'", "use not"),
        ("inputs.a === 1", "'==='", "use =="),
        ("{% if inputs.a %}x{% endif %}", "'{%'", "if b else c"),
        ("{{ outputs.a == 'x'", "never closed", "}}"),
        ("{{ outputs.a) or (true }}", "no partner", "opened"),
        ("inputs.a }} {{ inputs.b", "never closed", "}}"),
        ("inputs.a = 1", "got '='", "use =="),
        ("{{ inputs.a }} = 'x'", "got '='", "use =="),
        ("inputs.b and (inputs.a = 1)", "got '='", "use =="),
        ("inputs.a => 1", "'=>'", "use >="),
        ("inputs.a =< 1", "'=<'", "use <="),
        ("enable == true", "unknown name 'enable'", "inputs"),
        ("inputs.a ==", "template syntax", None),
        ("{{#if inputs.a}}", "Handlebars", "{% if inputs.a %}"),
        (["inputs.a"], "a condition is text", "inputs.enable"),
    ],
)
def test_a_condition_that_cannot_be_read_is_a_problem(source: Any, detail: str, hint: str | None) -> None:
    with pytest.raises(TemplateProblems) as caught:
        compile_condition(source)
    problem = caught.value.problems[0]
    assert detail in problem.detail
    if hint:
        assert hint in (problem.hint or "")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (True, True),
        (False, False),
        (0, False),
        (None, False),
        ("true", True),
        ("False", False),
        ("null", False),
        ("inputs.enable == true", True),
        ("inputs.enable == True", True),
        ("inputs.enable", True),
        ("{{ inputs.enable }}", True),
        ("{{ not inputs.enable }}", False),
        ("{{ outputs.classify }} == 'safe'", True),
        ("{{ outputs.classify }} != 'safe'", False),
        ("'safe' == {{outputs.classify}}", True),
        ("{{- outputs.classify -}} == 'safe'", True),
        ("'{{ outputs.classify }}' == 'safe'", True),
        ('"pre-{{ outputs.classify }}-post" == "pre-safe-post"', True),
        ("{{ outputs.classify }} in ['safe', 'spam'] and {{ inputs.n }} > 2", True),
        ("({{ inputs.n }} | int - 1 if false else {{ inputs.n }}) == 3", True),
        ("{{ inputs.n if inputs.enable else 0 }} == 3", True),
        ("input.n >= 3 and not input.none", True),
        ("inputs.missing", False),
        ("inputs.missing or inputs.n", True),
        ("inputs.missing == null", True),
        ("inputs.none == null", True),
        ("inputs.missing is defined", False),
        ("steps.skipped.text == 'x'", False),
        ("inputs.empty", False),
        ("1 < inputs.n <= 3", True),
        ("inputs.n is odd", True),
        ("'it' in inputs.name", True),
        ("inputs.name == 'it\\'s'", True),
        ("'{{' == '{{'", True),
        ("outputs.braces == '{{ inputs.enable }} }} {{'", False),
        ("inputs.list | length == 2", True),
        ("inputs.list[0] == 1", True),
    ],
)
def test_conditions_of_both_dialects(renderer: Renderer, source: Any, expected: bool) -> None:
    assert renderer.render_inline(compile_condition(source), CONTEXT) is expected


@pytest.mark.parametrize(
    "answer", ["x' == 'x' or 'a", "{{ inputs.enable }}", "true", "}} == {{", "') or (true"]
)
def test_an_answer_cannot_change_the_condition_that_reads_it(renderer: Renderer, answer: str) -> None:
    context = {"outputs": {"s": answer}, "inputs": {"expected": answer}}
    for source in ("{{ outputs.s }} == 'safe'", "'{{ outputs.s }}' == 'safe'", "outputs.s == 'safe'"):
        assert renderer.render_inline(compile_condition(source), context) is False
    assert renderer.render_inline(compile_condition("{{ outputs.s }} == inputs.expected"), context) is True


def test_an_order_with_a_missing_value_fails_and_says_which(renderer: Renderer) -> None:
    with pytest.raises(TemplateFailed, match=r"steps\.rank\.score is not there: the step 'rank' was skipped"):
        renderer.render_inline(compile_condition("steps.rank.score > 0.5"), CONTEXT)


def test_an_order_between_kinds_fails_and_says_how_to_convert(renderer: Renderer) -> None:
    with pytest.raises(TemplateFailed, match="text and a number have no order"):
        renderer.render_inline(compile_condition("outputs.classify > 1"), CONTEXT)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("inputs.list", [1, 2]),
        ("{{ inputs.list }}", [1, 2]),
        ("{{ inputs.n }} == 3", True),
        ("inputs.missing | default([])", []),
        ("{'a': inputs.n}", {"a": 3}),
        ("{'a': {'b': inputs.n}}", {"a": {"b": 3}}),
        ("inputs.n, inputs.enable", [3, True]),
        ("-1", -1),
        (5, 5),
        (False, False),
        (None, None),
        (["{{ inputs.n }}", 2], [3, 2]),
    ],
)
def test_expressions_yield_native_values(renderer: Renderer, source: Any, expected: Any) -> None:
    assert renderer.render_inline(compile_expression(source), CONTEXT) == expected


def test_a_text_around_braces_is_no_expression() -> None:
    with pytest.raises(TemplateProblems):
        compile_expression("items are {{ inputs.list }}")


HANDLEBARS = [
    ("{{#each steps.search.hits}}x{{/each}}", "{% for item in steps.search.hits %}…{% endfor %}"),
    ("{{#each inputs.docs as |doc|}}x{{/each}}", "{% for doc in inputs.docs %}…{% endfor %}"),
    ("{{~#each steps.a/b}}", "{% for item in steps.a.b %}"),
    ("{{/each}}", "{% endfor %}"),
    ("{{#if inputs.a}}", "{% if inputs.a %}…{% endif %}"),
    ("{{#unless inputs.a}}", "{% if not inputs.a %}…{% endif %}"),
    ("{{/if}}", "{% endif %}"),
    ("{{/unless}}", "{% endif %}"),
    ("{{#with inputs.a}}", "{% with item = inputs.a %}…{% endwith %}"),
    ("{{^inputs.a}}", "{% if inputs.a %}"),
    ("{{@index}}", "{{ loop.index0 }}"),
    ("{{ @last }}", "{{ loop.last }}"),
    ("{{@root.name}}", "{{ inputs.name }}"),
    ("{{> header}}", "the partial 'header'"),
    ("{{{inputs.raw}}}", "{{ inputs.raw }}"),
    ("{{&inputs.raw}}", "{{ inputs.raw }}"),
    ("{{! note }}", "{# note #}"),
    ("{{!-- note --}}", "{# note #}"),
    ("{{../name}}", "{{ inputs.name }}"),
]


@pytest.mark.parametrize(("template", "form"), HANDLEBARS)
def test_handlebars_is_refused_with_its_form_in_jinja2(template: str, form: str) -> None:
    with pytest.raises(TemplateProblems) as caught:
        compile_value(f"first line\n{template}")
    problem = caught.value.problems[0]
    assert "is Handlebars, not Jinja2" in problem.detail
    assert problem.detail.startswith("line 2")
    assert form in (problem.hint or "")


def test_every_piece_of_handlebars_is_reported_in_order_and_with_the_items_name() -> None:
    template = "{{#each inputs.docs as |doc|}}\n{{@index}}: {{this.title}}\n{{else}}\n{{/each}}"
    with pytest.raises(TemplateProblems) as caught:
        compile_value(template)
    assert [problem.hint for problem in caught.value.problems] == [
        "write {% for doc in inputs.docs %}…{% endfor %}",
        "write {{ loop.index0 }}",
        "write {{ doc.title }}",
        "write {% else %}",
        "write {% endfor %}",
    ]


@pytest.mark.parametrize(
    "template",
    [
        "{{ inputs.a }} {{inputs.b}}",
        "{% raw %}{{#each x}}{{/each}}{% endraw %}{{ inputs.a }}",
        "{# {{#if a}} #}{{ inputs.a }}",
        "{{ {'a': {'b': 1}} }}",
        '{"a":{{ inputs.a }},"b":{"c":{{ inputs.b }}}}',
        "{{- inputs.a -}}",
        "{{ -1 }}",
        "{% for this in inputs.a %}{{ this.x }}{% endfor %}",
    ],
)
def test_what_only_looks_like_handlebars_passes(template: str) -> None:
    assert compile_value(template) is not None


ANY_SOURCE = st.text(st.characters(codec="utf-8")) | st.text(
    alphabet="{}%#&!'\"()[]|.,-+*/<>=~ \nabxinputs.for if else end0123", max_size=60
)


@given(ANY_SOURCE)
def test_any_source_compiles_or_has_problems(source: str) -> None:
    for compile_, text in (
        (compile_value, source),
        (compile_value, "{{ " + source + " }}"),
        (compile_value, "{% " + source),
        (compile_condition, source),
    ):
        with contextlib.suppress(TemplateProblems):
            compile_(text)
