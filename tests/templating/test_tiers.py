"""Which templates may render on the event loop, and that these stay cheap whatever their data."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.ports.errors import TemplateFailed
from app.templating.compiler import TemplateProblems, compile_condition, compile_value
from app.templating.limits import RenderLimits
from app.templating.renderer import Renderer


@pytest.fixture
async def renderer() -> AsyncIterator[Renderer]:
    renderer = Renderer(RenderLimits(inline_work=2_000, timeout_seconds=20.0))
    yield renderer
    await renderer.close()


@pytest.mark.parametrize(
    "template",
    [
        "{{ inputs.a + inputs.b }}",
        "{{ inputs.a * 2 }}",
        "{{ 'a' * 1000 }}",
        "{{ [0] * 1000 }}",
        "{{ 2 ** 3 }}",
        "{{ '%s' % inputs.a }}",
        "{{ inputs.a.upper() }}",
        "{{ 'x'.join(inputs.a) }}",
        "{{ range(10) | list }}",
        "{% set x = 1 %}{{ x }}",
        "{% set x %}text{% endset %}{{ x }}",
        "{% with x = 1 %}{{ x }}{% endwith %}",
        "{% filter upper %}x{% endfilter %}",
        "{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}",
        "{% for a in inputs.x %}{% for b in a %}{% for c in b %}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
        "{% for a in inputs.x recursive %}{{ loop(a) }}{% endfor %}",
        "{% for a in inputs.x %}{{ loop.cycle('a', 'b') }}{% endfor %}",
        "{{ inputs.x | sort }}",
        "{{ inputs.x | unique | list }}",
        "{{ inputs.x | groupby('a') }}",
        "{{ inputs.x | batch(3) | list }}",
        "{{ inputs.x | wordwrap(10) }}",
        "{{ inputs.x | center(100) }}",
        "{{ inputs.x | map('sort') | list }}",
        "{{ '%d' | format(inputs.x) }}",
    ],
)
def test_what_is_not_provably_linear_needs_a_worker(template: str) -> None:
    assert not compile_value(template).inline


@pytest.mark.parametrize(
    "template",
    [
        "text",
        "{{ inputs.a.b['c'][0][-1] }}",
        "{{ inputs.a[inputs.b] }}",
        "{{ inputs.a == 1 and not inputs.b or 'x' }}",
        "{{ inputs.a if inputs.b else inputs.c }}",
        "{{ 1 + 2 * 3 }}",
        "{{ inputs.a | int + 1 }}",
        "{{ (inputs.a | length) / 2 - 0.5 }}",
        "{% for a in inputs.x %}{{ loop.index + 1 }}{% endfor %}",
        "{% for a in inputs.x %}{% for b in a.y %}{{ b }}{% endfor %}{% endfor %}",
        "{% for a in inputs.x if a.ok %}{{ a }}{% else %}-{% endfor %}",
        "{% if inputs.a is defined %}x{% endif %}",
        "{{ inputs.a ~ '-' ~ inputs.b }}",
        "{{ inputs.a | default('x') | upper | trim | truncate(10) | replace('a', 'b') | tojson }}",
        "{{ inputs.a | map(attribute='b.c') | select('string') | join(', ') }}",
        "{{ [inputs.a, {'b': inputs.c}] }}",
    ],
)
def test_what_is_provably_linear_renders_in_process(template: str) -> None:
    assert compile_value(template).inline


def test_one_template_that_needs_a_worker_makes_the_whole_value_need_one() -> None:
    assert not compile_value({"a": "{{ inputs.a }}", "b": ["{{ inputs.a * 2 }}"]}).inline


def test_a_value_that_needs_a_worker_is_refused_in_process() -> None:
    with pytest.raises(ValueError, match="inline"):
        Renderer(RenderLimits()).render_inline(compile_value("{{ range(3) }}"), {})


HEAVY = {
    "numbers": list(range(5_000)),
    "texts": ["some words of text"] * 2_000,
    "objects": [{"id": i, "deep": {"a": [i, i]}} for i in range(2_000)],
    "long": "lorem ipsum " * 60_000,
}


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in inputs.numbers %}{{ a }},{% endfor %}",
        "{% for a in inputs.numbers %}{% for b in inputs.numbers %}{% endfor %}{% endfor %}",
        "{% for a in inputs.numbers[:50] %}{% if a in inputs.numbers %}{% endif %}{% endfor %}",
        "{% for a in inputs.numbers[:50] %}{{ inputs.long | upper | length }}{% endfor %}",
        "{% for a in inputs.numbers[:50] %}{% if 'zz' in inputs.long %}{% endif %}{% endfor %}",
        "{{ inputs.objects == inputs.objects }}",
        "<{{ inputs.objects }}>",
        "{{ [inputs.objects, inputs.objects] | tojson | length }}",
        "{{ inputs.objects | map(attribute='deep.a') | list | length }}",
        "{{ inputs.objects | selectattr('id', 'gt', 5) | list | length }}",
        "{{ inputs.texts | map('title') | join | length }}",
        "{{ inputs.texts | max }}",
        "{{ inputs.long | title | length }}",
        "{{ inputs.long | wordcount }}",
        "{{ inputs.long | list | length }}",
        "{{ [inputs.objects] }}",
    ],
)
async def test_too_much_work_moves_to_a_worker_and_gives_the_same_answer(
    renderer: Renderer, template: str
) -> None:
    compiled = compile_value(template)
    context = {"inputs": HEAVY}
    with pytest.raises(TemplateFailed, match="too much work"):
        renderer.render_inline(compiled, context)
    if template.count("{% for") < 2:
        unhurried = Renderer(RenderLimits(inline_work=10**12))
        assert await renderer.render(compiled, context) == unhurried.render_inline(compiled, context)


@pytest.mark.parametrize(
    ("source", "detail"),
    [
        ("{{ inputs.a }}" + "x" * 262_144, "longer than 262144 characters"),
        ("{{ [" + "1," * 4_000 + "] }}", "more than 4000 words and signs"),
        ("{{ " + "(" * 21 + "1" + ")" * 21 + " }}", "more than 20 brackets"),
        ("{{ " + "not " * 21 + "1 }}", "more than 20 'else', 'not' or signs"),
        ("{{ " + "- " * 21 + "1 }}", "more than 20 'else', 'not' or signs"),
        ("{{ " + "1 if inputs.a else " * 21 + "1 }}", "more than 20 'else', 'not' or signs"),
        ("{% if 1 %}" * 13 + "{% endif %}" * 13, "more than 12 blocks"),
        ("{{ inputs" + ".a" * 60 + " }}", "more than 50 levels"),
        ("{{ 1" + " or 1" * 60 + " }}", "more than 50 levels"),
        ("{% set x %}" * 900, "deeply nested"),
    ],
)
def test_sources_out_of_bounds_are_problems(source: str, detail: str) -> None:
    with pytest.raises(TemplateProblems) as caught:
        compile_value(source)
    assert detail in caught.value.problems[0].detail


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 20 + "1" + ")" * 20 + " }}",
        "{% if 1 %}" * 12 + "{% endif %}" * 12,
        "{% for a in inputs.x %}" * 12 + "{{ a }}" + "{% endfor %}" * 12,
        "{{ 1" + " or 1" * 45 + " }}",
        "{{ (" + "1 < (" * 17 + "1" + ") < 2" * 17 + ") }}",
    ],
)
def test_sources_within_bounds_compile(source: str) -> None:
    assert compile_value(source) is not None


def test_a_value_with_too_many_templates_is_one_problem() -> None:
    with pytest.raises(TemplateProblems) as caught:
        compile_value(["{{ inputs.a }}"] * 5_000)
    assert len(caught.value.problems) == 1


def test_a_value_nested_too_deeply_is_a_problem() -> None:
    value: Any = "{{ inputs.a }}"
    for _ in range(200):
        value = [value]
    with pytest.raises(TemplateProblems, match="1 problem"):
        compile_value(value)


def test_a_long_condition_stays_linear() -> None:
    assert compile_condition(" and ".join(f"inputs.a{i} == {i}" for i in range(40))).inline


def test_the_recursion_limit_is_not_what_protects() -> None:
    """The same source is accepted or refused whatever the depth of the caller's stack."""

    def at_depth(depth: int, source: str) -> bool:
        if depth:
            return at_depth(depth - 1, source)
        try:
            compile_value(source)
        except TemplateProblems:
            return False
        return True

    deepest = "{{ " + "(" * 20 + "inputs.a" + ")" * 20 + " }}"
    for depth in (0, 100, sys.getrecursionlimit() // 3):
        assert at_depth(depth, deepest)
        assert not at_depth(depth, deepest.replace("inputs.a", "(inputs.a)"))
