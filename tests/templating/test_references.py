"""What a value refers to is known when it is compiled."""

from __future__ import annotations

import pytest

from app.templating.compiler import (
    Reference,
    TemplateProblems,
    compile_condition,
    compile_expression,
    compile_value,
)


def refs(*paths: str) -> frozenset[Reference]:
    return frozenset(Reference(path.split(".")[0], tuple(path.split(".")[1:])) for path in paths)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain text", refs()),
        ("{% raw %}{{ steps.a.b }}{% endraw %}", refs()),
        ("{# {{ steps.a.b }} #}x", refs()),
        ("{{ steps.embed.vector }}", refs("steps.embed.vector")),
        ("{{ inputs['question'] }}", refs("inputs.question")),
        ("{{ input.question }}", refs("inputs.question")),
        ("{{ outputs.x }}", refs("outputs.x")),
        ("{{ steps.a.hits[0].id }}", refs("steps.a.hits")),
        ("{{ steps.a.hits[-1] }}", refs("steps.a.hits")),
        ("{{ steps.a.hits[1:3] }}", refs("steps.a.hits")),
        ("{{ steps.a[inputs.key].id }}", refs("steps.a", "inputs.key")),
        ("{{ steps[inputs.id] }}", refs("steps", "inputs.id")),
        ("{{ steps }}", refs("steps")),
        ("{{ steps.a.b | default(outputs.c) }}", refs("steps.a.b", "outputs.c")),
        ("{{ 'x' if inputs.a else steps.b.c }}", refs("inputs.a", "steps.b.c")),
        ("{{ {'a': inputs.a, 'b': [inputs.b]} }}", refs("inputs.a", "inputs.b")),
        ("{% for hit in steps.s.hits %}{{ hit.x }}{{ loop.index }}{% endfor %}", refs("steps.s.hits")),
        ("{% for item in inputs.list %}{{ item.x }}{% endfor %}", refs("inputs.list")),
        ("{% for item in inputs.list %}{% endfor %}{{ item.x }}", refs("inputs.list", "item.x")),
        ("{% for k, v in inputs.o | items %}{{ k }}{{ v }}{% endfor %}", refs("inputs.o")),
        ("{% for x in inputs.a if x.ok == inputs.b %}{{ x }}{% endfor %}", refs("inputs.a", "inputs.b")),
        ("{% for x in inputs.a %}{% else %}{{ steps.e.text }}{% endfor %}", refs("inputs.a", "steps.e.text")),
        ("{% set v = steps.a.b %}{{ v.c }}{{ inputs.d }}", refs("steps.a.b", "inputs.d")),
        ("{% if inputs.a %}{% set v = 1 %}{% endif %}{{ v }}", refs("inputs.a")),
        ("{% with v = inputs.a %}{{ v }}{% endwith %}", refs("inputs.a")),
        ("{{ inputs.text.upper() }}", refs("inputs.text")),
        ("{{ inputs.n is divisibleby inputs.m }}", refs("inputs.n", "inputs.m")),
        ("{{ run.id }}-{{ index }}-{{ loop.iteration }}", refs("run.id", "index", "loop.iteration")),
    ],
)
def test_references_of_a_template(template: str, expected: frozenset[Reference]) -> None:
    assert compile_value(template).references == expected


def test_references_of_a_whole_value_are_joined_and_keys_are_text() -> None:
    compiled = compile_value({"{{ inputs.key }}": "{{ inputs.a }}", "list": [1, {"x": "- {{ steps.b.c }}"}]})
    assert compiled.references == refs("inputs.a", "steps.b.c")


def test_references_of_expressions_and_conditions() -> None:
    assert compile_expression("steps.a.items").references == refs("steps.a.items")
    assert compile_condition("{{ outputs.a }} == 'x' and inputs.b").references == refs(
        "outputs.a", "inputs.b"
    )


def test_an_extra_name_is_a_root_of_its_own() -> None:
    compiled = compile_value("{{ hit.id }} {{ input.x }}", extra_names=frozenset({"hit", "input"}))
    assert compiled.references == refs("hit.id", "input.x")


@pytest.mark.parametrize(
    ("template", "detail", "hint"),
    [
        ("{{ stepz.a }}", "unknown name 'stepz'", "did you mean 'steps'?"),
        ("{{ question }}", "unknown name 'question'", "{{ inputs.name }}"),
        ("{{ this.x }}", "unknown name 'this'", "{{ item }}"),
        ("{{ x }}{% set x = 1 %}", "unknown name 'x'", "begins with inputs"),
        ("{{ secrets.key }}", "'secrets' cannot be used here", "credentials"),
        ("{{ _private }}", "unknown name '_private'", "begins with inputs"),
        ("{{ self }}", "unknown name 'self'", "begins with"),
        ("{{ inputs.a | uper }}", "unknown filter 'uper'", "did you mean 'upper'?"),
        ("{{ inputs.a | attr('x') }}", "unknown filter 'attr'", "value['name']"),
        ("{{ inputs.a is defned }}", "unknown test 'defned'", "did you mean 'defined'?"),
        ("{{ inputs.items() }}", "the method 'items' cannot be called", "data | items"),
        ("{{ inputs.a.get('b') }}", "the method 'get' cannot be called", "default"),
        ("{{ inputs.a.format(1) }}", "the method 'format' cannot be called", "~"),
        ("{{ len(inputs.a) }}", "'len' cannot be called", None),
        ("{{ upper(inputs.a) }}", "'upper' cannot be called", "value | upper"),
        ("{{ inputs.a | join(*inputs.b) }}", "unpacked", "write each argument"),
        ("{{ inputs.a | map('nope') | list }}", "map does not know this filter", "in quotes"),
        ("{{ inputs.a | map(inputs.b) | list }}", "map does not know this filter", "in quotes"),
        ("{{ inputs.a | map('$method', 'x') }}", "map does not know this filter", "in quotes"),
        ("{{ inputs.a | select('nope') }}", "select does not know this test", "in quotes"),
        ("{% set steps = 1 %}", "'steps' is a name of the workflow", "another name"),
        ("{% for inputs in inputs.a %}{% endfor %}", "'inputs' is a name of the workflow", "another name"),
        ("{% set x.y = 1 %}", "'x' is no namespace", "namespace()"),
        ("{% include 'a' %}", "'include' is not part of templates", "filters"),
        ("{% import 'a' as b %}", "'import' is not part of templates", "filters"),
        ("{% from 'a' import b %}", "'from' is not part of templates", "filters"),
        ("{% extends 'a' %}", "'extends' is not part of templates", "filters"),
        ("{% block a %}{% endblock %}", "'block' is not part of templates", "filters"),
        ("{% macro a() %}{% endmacro %}", "'macro' is not part of templates", "filters"),
        ("{% call inputs.a() %}{% endcall %}", "'call' is not part of templates", "filters"),
        ("{% autoescape true %}{% endautoescape %}", "'autoescape' is not part of templates", "filters"),
        ("{% do inputs.a %}", "unknown tag 'do'", "the tags are"),
        ("{% for x in inputs.a %}", "Unexpected end of template", "{% endfor %}"),
        ("{{ inputs.a", "unexpected end of template", "}}"),
        ("{{ inputs a }}", "got 'a'", "one expression"),
        ("{{ }}", "Expected an expression", None),
        ("{{ 1e999 }}", "too large", None),
        ("{{ 9223372036854775808 }}", "64 bits", None),
        ("{{ '\\ud800' }}", "JSON cannot carry", None),
        ("{{ inputs['\\x00'] }}", "JSON cannot carry", None),
    ],
)
def test_what_a_template_cannot_do_is_a_problem(template: str, detail: str, hint: str | None) -> None:
    with pytest.raises(TemplateProblems) as caught:
        compile_value(template)
    (problem,) = caught.value.problems
    assert detail in problem.detail
    if hint is not None:
        assert problem.hint is not None
        assert hint in problem.hint


def test_every_problem_of_a_value_is_reported_with_its_pointer() -> None:
    value = {
        "prompt": "{{ foo }} and {{ inputs.x | nope }}",
        "messages": [{"a/b": "{{ secrets.k }}"}, "fine {{ inputs.y }}"],
        "x": "line one\n{{ bar }}",
    }
    with pytest.raises(TemplateProblems) as caught:
        compile_value(value)
    assert [problem.pointer for problem in caught.value.problems] == [
        "/prompt",
        "/prompt",
        "/messages/0/a~1b",
        "/x",
    ]
    assert caught.value.problems[3].detail.startswith("line 2 of the template")


def test_secrets_are_allowed_where_the_caller_says_so() -> None:
    compiled = compile_value({"h": "Bearer {{ secrets.token }}"}, secret_names_allowed=True)
    assert compiled.references == refs("secrets.token")
