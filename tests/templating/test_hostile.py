"""Templates written to hang, to exhaust memory, to escape or to change data: none does.

Each one is refused, fails or renders to harmless text within its limits, and a good template renders
right after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from app.ports.errors import TemplateFailed
from app.templating.compiler import TemplateProblems, compile_condition, compile_value
from app.templating.limits import RenderLimits
from app.templating.renderer import Renderer

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIMEOUT = 0.4
LONGEST_BLOCK = 1.0
"""Seconds that the event loop may compute at a stretch: some 30 ms on an idle machine."""
SLACK = 15.0
"""Far above what any of them takes, far below a hang: the machine may be busy."""
DATA: dict[str, Any] = {
    "inputs": {
        "a": "aaaaaaaa" * 5_000,
        "n": 50_000,
        "list": list(range(20_000)),
        "nested": [[[1] * 50] * 50] * 50,
        "objects": [{"id": i, "text": "word " * 10} for i in range(5_000)],
        "spaces": " " * 50_000,
        "digits": "9" * 4_000,
        "percent": "%999999999d",
        "template": "{{ 7 * 7 }}{% for x in range(10) %}x{% endfor %}",
        "braces": "{0.__class__.__mro__} {inputs.__class__}",
        "class": "__class__",
        "o": {"__class__": "data", "items": 1},
    },
    "steps": {"s": {"text": "plain"}},
    "run": {"id": "r"},
}

CPU = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in inputs.list %}{% for b in inputs.list %}{% for c in inputs.list %}"
    "{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in inputs.list %}{% for b in inputs.list %}{{ a }}{{ b }}{% endfor %}{% endfor %}",
    "{% for a in inputs.list %}{% if inputs.list == inputs.list %}{% endif %}{% endfor %}",
    "{% for a in inputs.list %}{% if a in inputs.list %}{% endif %}{% endfor %}",
    "{% for a in inputs.list %}{{ inputs.a | upper | lower | title | length }}{% endfor %}",
    "{% for a in inputs.list %}{{ inputs.objects | tojson | length }}{% endfor %}",
    "{% for a in inputs.list %}{{ inputs.objects | sort(attribute='text') | length }}{% endfor %}",
    "{% for a in inputs.list %}{{ inputs.objects | groupby('text') | list | length }}{% endfor %}",
    "{% for a in inputs.list %}{{ inputs.a | wordwrap(1) | length }}{% endfor %}",
    "{% for a in inputs.list %}{{ inputs.digits | int }}{% endfor %}",
    "{% for a in inputs.list %}{{ (inputs.a ~ 'b') in inputs.a }}{% endfor %}",
    "{% set ns = namespace(x=1) %}{% for a in range(99999) %}{% set ns.x = ns.x * 3 %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[]) %}{% for a in range(99999) %}{% set ns.x = ns.x + [a] %}{% endfor %}",
    "{% for a in [inputs.nested] recursive %}{{ loop(a) }}{{ loop(a) }}{% endfor %}",
    "{% for a in inputs.list recursive %}{{ loop(inputs.list) }}{% endfor %}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ (9 ** 9) ** (9 ** 9) }}",
    "{{ 2.0 ** 99999 }}",
    "{{ inputs.spaces | striptags }}{% for a in inputs.list %}{{ inputs.spaces | striptags }}{% endfor %}",
    "{{ ('<' * 50000) | striptags }}",
    "{{ 'x' | wordwrap(0) }}",
    "{{ inputs.list | map('string') | map('list') | map('sort') | list | unique | list }}",
    "{{ (inputs.a * 999) | urlencode | urlencode | length }}",
    "{% for a in range(99999) %}{{ inputs.a.split('a') | length }}{% endfor %}",
    "{% for a in range(99999) %}{{ inputs.a.replace('a', 'bb').count('b') }}{% endfor %}",
]

MEMORY = [
    "{{ 'a' * 10 ** 9 }}",
    "{{ 'a' * 999999999 * 999999999 }}",
    "{{ [0] * 10 ** 9 }}",
    "{{ [[0] * 10000] * 10000 }}",
    "{{ (1,) * 10 ** 10 }}",
    "{{ range(10 ** 12) | list }}",
    "{{ range(99999) | map('string') | join(inputs.a) }}",
    "{{ inputs.a | replace('a', inputs.a) }}",
    "{{ inputs.a.replace('a', inputs.a) }}",
    "{{ inputs.a | replace('', inputs.a) }}",
    "{{ inputs.a.join(inputs.list | map('string')) }}",
    "{{ 'x' | center(10 ** 10) }}",
    "{{ 'x\ny' | indent(10 ** 10) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ inputs.percent | format(1) }}",
    "{{ inputs.percent % 1 }}",
    "{{ '%*d' | format(999999999, 1) }}",
    "{{ [1] | batch(10 ** 10, 0) | list }}",
    "{{ [1] | slice(10 ** 10) | list }}",
    "{{ 5 | filesizeformat }}{{ 1.5 | round(10 ** 10) }}",
    "{% set a = inputs.a %}" + "{% set a = a ~ a %}" * 40 + "{{ a | length }}",
    "{% set a = inputs.a %}" + "{% set a = a + a %}" * 40 + "{{ a | length }}",
    "{% set a = [inputs.a] %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}",
    "{% set a = [inputs.a] %}" + "{% set a = [a, a] %}" * 40 + "{{ a == a }}",
    "{% set a = [inputs.a] %}" + "{% set a = {'x': a, 'y': a} %}" * 40 + "{{ a | tojson | length }}",
    "{{ [" + "inputs.objects," * 900 + "] }}",
    "x {{ [" + "inputs.nested," * 900 + "] }}",
    "{% for a in inputs.list %}" + "x" * 100_000 + "{% endfor %}",
    "{% set x %}{% for a in inputs.list %}" + "x" * 100_000 + "{% endfor %}{% endset %}{{ x | length }}",
    "{{ inputs.list | map(attribute='x', default=inputs.objects) | join }}",
    "{{ inputs.objects | map(attribute='nope', default=inputs.nested) | tojson }}",
]

ESCAPES = [
    "{{ inputs.__class__ }}",
    "{{ inputs.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''.__class__.__base__.__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ inputs.a['__class__']['__mro__'] }}",
    "{{ inputs.a[inputs.class] }}",
    "{{ (inputs.a | first)[inputs.class] }}",
    "{{ inputs.o.__class__ }}",
    "{{ inputs | attr('__class__') }}",
    "{{ [inputs] | map(attribute='__class__') | list }}",
    "{{ [inputs] | map(attribute='__class__.__mro__') | join }}",
    "{{ [inputs.a] | map('attr', '__class__') | list }}",
    "{{ [inputs.a] | selectattr('__class__') | list }}",
    "{{ [inputs.a] | groupby('__class__') }}",
    "{{ [inputs.a] | sort(attribute='__class__') }}",
    "{{ '{0.__class__}'.format(inputs) }}",
    "{{ '{0.__class__}'.format_map(inputs) }}",
    "{{ inputs.braces.format(inputs) }}",
    "{{ inputs.braces | format(inputs) }}",
    "{{ '%(x)s' | format(x=inputs.a.__class__) }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ range.__globals__ }}{{ namespace.__init__ }}",
    "{{ namespace(a=1).__class__ }}",
    "{{ namespace(a=1)._Namespace__attrs }}",
    "{% set ns = namespace() %}{{ ns['_Namespace__attrs'] }}",
    "{% set ns = namespace() %}{% set ns._Namespace__attrs = 1 %}{{ ns.x }}",
    "{% for x in inputs.list %}{{ loop.__class__ }}{% endfor %}",
    "{% for x in inputs.list %}{{ loop._iterator }}{{ loop._undefined }}{% endfor %}",
    "{% for x in inputs.list %}{{ loop['__init__'] }}{% endfor %}",
    "{% for x in [1] recursive %}{{ loop.__call__.__globals__ }}{% endfor %}",
    "{{ inputs.gone.__class__ }}",
    "{{ inputs.gone._undefined_exception }}",
    "{{ (inputs.gone | default(inputs))._undefined_obj }}",
    "{{ dict.update(inputs, n=1) }}",
    "{{ inputs.update(n=1) }}",
    "{{ inputs.list.append(1) }}",
    "{{ inputs.list.__setitem__(0, 1) }}",
    "{% do inputs.update(n=1) %}",
    "{% set inputs.n = 1 %}",
    "{% set inputs = {} %}",
    "{% set ns = namespace(inputs) %}{% set ns.n = 1 %}{{ ns.n }}",
    "{{ config }}{{ request }}{{ g }}{{ environment }}{{ context }}",
    "{{ environment.getattr(inputs, '__class__') }}",
    "{{ joiner.__init__ }}",
    "{{ inputs.a.encode().decode }}",
    "{{ inputs.a.translate({97: 'b' * 999999}) }}",
    "{{ inputs.list | map('$method', '__class__') | list }}",
    "{{ inputs | pprint }}{{ inputs | random }}",
    "{{ inputs | xmlattr }}{{ inputs.a | urlize }}{{ inputs | safe }}",
    "{{ secrets.key }}",
    "{{ inputs.a.upper(*inputs.list) }}",
    "{{ inputs.a.upper(**inputs) }}",
    "{{ range(1, _loop_vars=1) }}{{ range(_block_vars=2) }}",
    "{{ inputs.template }}",
    "{{ inputs.a | map('map', 'map', 'map') | list }}",
    "{{ caller() }}{{ super() }}{{ varargs }}{{ kwargs }}",
    "{% include inputs.a %}",
    "{% import 'os' as os %}{{ os }}",
    "{% extends '/etc/passwd' %}",
    "{% from 'a' import b %}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{% call inputs() %}{% endcall %}",
]

NESTING = [
    "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "{{ " + "[" * 5_000 + "]" * 5_000 + " }}",
    "{{ " + "{'a':" * 2_000 + "1" + "}" * 2_000 + " }}",
    "{{ " + "not " * 3_900 + "1 }}",
    "{{ " + "-" * 3_900 + "1 }}",
    "{{ 1" + " + 1" * 1_900 + " }}",
    "{{ 1" + " ~ 1" * 1_900 + " }}",
    "{{ inputs" + ".a" * 1_900 + " }}",
    "{{ inputs" + "['a']" * 1_200 + " }}",
    "{{ inputs.a" + " | upper" * 1_900 + " }}",
    "{{ 1" + " if 1 else 1" * 900 + " }}",
    "{% if 1 %}" * 900 + "{% endif %}" * 900,
    "{% for a in inputs.list %}" * 30 + "{% endfor %}" * 30,
    "{% set a %}" * 1_200,
    "{% filter upper %}" * 900,
    "{{" * 100_000,
    "{%" * 100_000,
    "{#" * 100_000,
    "{% raw %}" * 20_000,
    "{{ '" + "\\" * 200_000,
    "{{ " + "9" * 200_000 + " }}",
    "{{ 0x" + "f" * 200_000 + " }}",
    "{{ " + "1_" * 100_000 + "1 }}",
    "{{ 1e" + "9" * 100_000 + " }}",
    "{{ " + "a" * 200_000 + " }}",
    "{{ 1 }}" * 30_000,
    "{{#each " * 30_000,
    "{{" + " " * 250_000 + "#",
    "{{ " + "(1 < " * 18 + "1" + " < 2)" * 18 + " }}",
]

MARKS = (
    "<class",
    "<function",
    "<module",
    "<built-in",
    " object at 0x",
    "builtins",
    "/etc",
    "uid=",
    "49xxxxxxxxxx",
)
HOSTILE = [*CPU, *MEMORY, *ESCAPES, *NESTING]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def renderer() -> AsyncIterator[Renderer]:
    renderer = Renderer(RenderLimits(timeout_seconds=TIMEOUT, memory_bytes=96 * 1024 * 1024))
    yield renderer
    await renderer.close()


async def outcome(renderer: Renderer, source: str) -> Any:
    """The value, or None where the template was refused or failed."""
    try:
        return await renderer.render(compile_value(source), DATA)
    except (TemplateProblems, TemplateFailed):
        return None


async def render_well(renderer: Renderer) -> None:
    """Both tiers still work. A busy machine may cost a good render its time, but not twice in a row."""
    assert await renderer.render(compile_value("{{ steps.s.text }}!"), DATA) == "plain!"
    compiled = compile_value("{{ steps.s.text.upper() }}")
    for _ in range(2):
        with contextlib.suppress(TemplateFailed):
            assert await renderer.render(compiled, DATA) == "PLAIN"
            return
    assert await renderer.render(compiled, DATA) == "PLAIN"


@pytest.mark.parametrize("number", range(len(HOSTILE)))
async def test_a_hostile_template_ends_in_time_escapes_nothing_and_harms_no_other(
    renderer: Renderer, number: int
) -> None:
    before = copy.deepcopy(DATA)
    rendering = asyncio.create_task(outcome(renderer, HOSTILE[number]))
    longest, started = 0.0, time.monotonic()
    while not rendering.done():
        computed = time.thread_time()
        await asyncio.wait([rendering], timeout=0.005)
        longest = max(longest, time.thread_time() - computed)
        assert time.monotonic() - started < SLACK
    assert longest < LONGEST_BLOCK
    shown = str(await rendering)[:100_000]
    assert not any(mark in shown for mark in MARKS)
    assert before == DATA
    await render_well(renderer)


async def test_bombs_that_are_linear_are_stopped_in_process(renderer: Renderer) -> None:
    stopped = 0
    for source in [*CPU, *MEMORY]:
        with contextlib.suppress(TemplateProblems):
            compiled = compile_value(source)
            if compiled.inline:
                started = time.process_time()
                with pytest.raises(TemplateFailed):
                    renderer.render_inline(compiled, DATA)
                assert time.process_time() - started < LONGEST_BLOCK
                stopped += 1
    assert stopped >= 8


async def test_most_bombs_are_stopped_not_rendered(renderer: Renderer) -> None:
    refused = 0
    for source in [*MEMORY[:8], *CPU[:4]]:
        refused += await outcome(renderer, source) is None
    assert refused >= 11
    await render_well(renderer)


@pytest.mark.parametrize("source", ESCAPES)
async def test_hostile_conditions_escape_nothing_either(renderer: Renderer, source: str) -> None:
    try:
        compiled = compile_condition(source)
        assert await renderer.render(compiled, DATA) in {True, False}
    except (TemplateProblems, TemplateFailed):
        pass
    await render_well(renderer)
