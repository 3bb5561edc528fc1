"""Everything that can be wrong with a document: where it is said to stand, and how to mend it."""

from __future__ import annotations

import pytest

from app.dsl.compiler import compile_workflow
from app.dsl.loader import load_document
from app.ports.errors import DefinitionInvalid
from app.ports.problems import Problem
from tests.dsl.kinds import KINDS


def problems(source: str) -> tuple[Problem, ...]:
    """What the compiler says of a document."""
    with pytest.raises(DefinitionInvalid) as refused:
        compile_workflow(load_document(source), kinds=KINDS)
    return refused.value.problems


HEAD = "name: x\nsteps:\n- {id: search_docs, type: ask, prompt: hi, output: [found]}\n"
"""Three good lines; what a case adds begins at line 4."""


@pytest.mark.parametrize(
    ("step", "pointer", "column", "detail", "hint"),
    [
        ("- 7", "/steps/1", 3, "a step is a mapping", "write '- id: …' and 'type: …'"),
        ("- {type: tell}", "/steps/1", 3, "'id' is missing", "add 'id'"),
        ("- {id: b}", "/steps/1", 3, "'type' is missing", "add 'type'"),
        (
            "- {id: 5, type: tell}",
            "/steps/1/id",
            4,
            "'id' should be text",
            "write it in quotes to make it text",
        ),
        (
            "- {id: a.b, type: tell}",
            "/steps/1/id",
            4,
            "'id' has characters or a length that are not accepted",
            "use 1 to 64 letters, digits, '_' and '-'; begin with a letter or '_'",
        ),
        (
            "- {id: search_docs, type: tell}",
            "/steps/1/id",
            4,
            "two steps are called 'search_docs'",
            "give one of them another id",
        ),
        ("- {id: b, type: aks}", "/steps/1/type", 11, "unknown kind 'aks'", "did you mean 'ask'?"),
        (
            "- {id: b, type: quantum}",
            "/steps/1/type",
            11,
            "unknown kind 'quantum'",
            "use one of 'ask', 'compute', 'tell', 'branch', 'parallel', 'map', 'loop', 'workflow', 'wait', "
            "'approval'",
        ),
        (
            "- {id: b, type: tell, cache: {}}",
            "/steps/1/cache",
            23,
            "'ttl_seconds' is missing",
            "add 'ttl_seconds'",
        ),
        (
            "- {id: b, type: tell, cache: {ttl_seconds: 2592001}}",
            "/steps/1/cache/ttl_seconds",
            31,
            "'ttl_seconds' should be less than or equal to 2592000",
            None,
        ),
        (
            '- {id: b, type: tell, cache: {ttl_seconds: 1, key: "{{ steps.nope }}"}}',
            "/steps/1/cache/key",
            47,
            "unknown step 'nope'",
            "use one of 'search_docs', 'b'",
        ),
        (
            "- {id: b, type: tell, mesage: hi}",
            "/steps/1/mesage",
            23,
            "unknown key 'mesage'",
            "did you mean 'message'?",
        ),
        (
            "- {id: b, type: tell, depend_on: search_docs}",
            "/steps/1/depend_on",
            23,
            "unknown key 'depend_on'",
            "did you mean 'depends_on'?",
        ),
        ("- {id: b, type: ask}", "/steps/1", 3, "'prompt' is missing", "add 'prompt'"),
        (
            "- {id: b, type: ask, prompt: 5}",
            "/steps/1/prompt",
            22,
            "'prompt' should be text",
            "write it in quotes to make it text",
        ),
        (
            "- {id: b, type: ask, prompt: hi, heat: 9}",
            "/steps/1/heat",
            34,
            "'heat' should be less than or equal to 2",
            None,
        ),
        (
            '- {id: b, type: ask, prompt: hi, heat: "1"}',
            "/steps/1/heat",
            34,
            "'heat' should be a number",
            "write a number, without quotes",
        ),
        (
            "- {id: b, type: ask, prompt: hi, parts: [{weight: 1}, {wieght: 2, weight: 2}]}",
            "/steps/1/parts/1/wieght",
            56,
            "unknown key 'wieght'",
            "did you mean 'weight'?",
        ),
        (
            "- {id: b, type: ask, prompt: hi, parts: [3]}",
            "/steps/1/parts/0",
            42,
            "item 0 should be a mapping",
            "write one 'key: value' a line",
        ),
        ("- {id: b, type: ask, prompt: HI}", "/steps/1/prompt", 22, "do not shout", "write in lower case"),
        (
            "- {id: b, type: tell, depends_on: [serch_docs]}",
            "/steps/1/depends_on/0",
            36,
            "unknown step 'serch_docs'",
            "did you mean 'search_docs'?",
        ),
        (
            "- {id: b, type: tell, depends_on: serch_docs}",
            "/steps/1/depends_on",
            23,
            "unknown step 'serch_docs'",
            "did you mean 'search_docs'?",
        ),
        (
            "- {id: b, type: tell, depends_on: b}",
            "/steps/1/depends_on",
            23,
            "the step 'b' depends on itself",
            "remove this dependency",
        ),
        (
            "- {id: b, type: tell, depends_on: [[a]]}",
            "/steps/1/depends_on/0",
            36,
            "item 0 should be text",
            "write it in quotes to make it text",
        ),
        (
            '- {id: b, type: tell, message: "{{ steps.serch_docs.text }}"}',
            "/steps/1/message",
            23,
            "unknown step 'serch_docs'",
            "did you mean 'search_docs'?",
        ),
        (
            '- {id: b, type: tell, message: "{{ steps.search_docs.txt }}"}',
            "/steps/1/message",
            23,
            "the step 'search_docs' has no output 'txt'",
            "did you mean 'text'?",
        ),
        (
            '- {id: b, type: tell, message: "{{ outputs.foud }}"}',
            "/steps/1/message",
            23,
            "unknown step or output 'foud'",
            "did you mean 'found'?",
        ),
        (
            '- {id: b, type: tell, message: "{{ steps.b.text }}"}',
            "/steps/1/message",
            23,
            "the step 'b' reads its own output",
            "read another step's",
        ),
        (
            '- {id: b, type: tell, message: "{{ steps | tojson }}"}',
            "/steps/1/message",
            23,
            "'steps' as a whole does not tell which steps to wait for",
            "name the step: steps.<id>",
        ),
        (
            '- {id: b, type: tell, message: "{{ outputs[inputs.which] }}"}',
            "/steps/1/message",
            23,
            "'outputs' as a whole does not tell which steps to wait for",
            "name the step: outputs.<id>",
        ),
        (
            '- {id: b, type: tell, message: "{{ item.name }}"}',
            "/steps/1/message",
            23,
            "'item' is not known here",
            "write {% for item in … %} around it, or a path from inputs, steps or outputs",
        ),
        (
            '- {id: b, type: tell, message: "{{ input }"}',
            "/steps/1/message",
            23,
            "template syntax: unexpected '}'",
            None,
        ),
        (
            '- {id: b, type: tell, message: "{{#each inputs.rows}}{{this.name}}{{/each}}"}',
            "/steps/1/message",
            23,
            "{{#each inputs.rows}} is Handlebars, not Jinja2",
            "write {% for item in inputs.rows %}…{% endfor %}",
        ),
        (
            '- {id: b, type: tell, condition: "{{ outputs.nope }} == 1"}',
            "/steps/1/condition",
            23,
            "unknown step or output 'nope'",
            "use one of 'search_docs', 'b', 'found'",
        ),
        (
            "- {id: b, type: tell, condition: [1]}",
            "/steps/1/condition",
            23,
            "'condition' should be text",
            "write it in quotes to make it text",
        ),
        (
            '- {id: b, type: tell, condition: "inputs.a && inputs.b"}',
            "/steps/1/condition",
            23,
            "'&&' is no operator here",
            "use and/or/not",
        ),
        (
            "- {id: b, type: compute, expression: steps.nope.text}",
            "/steps/1/expression",
            26,
            "unknown step 'nope'",
            "use one of 'search_docs', 'b'",
        ),
        (
            "- {id: b, type: compute, inputs: [search_docs, nope]}",
            "/steps/1/inputs/1",
            48,
            "unknown step or output 'nope'",
            "use one of 'search_docs', 'b', 'found'",
        ),
        (
            "- {id: b, type: ask, prompt: hi, output: [one, two, three]}",
            "/steps/1/output/2",
            53,
            "a step of kind 'ask' has no output number 3 to name",
            "its outputs are text, model",
        ),
        (
            "- {id: b, type: tell, output: done}",
            "/steps/1/output",
            23,
            "a step of kind 'tell' has no output number 1 to name",
            "its outputs are none",
        ),
        (
            "- {id: b, type: ask, prompt: hi, output: [a, a]}",
            "/steps/1/output/1",
            46,
            "the output name 'a' is given twice",
            "give each output its own name",
        ),
        (
            "- {id: b, type: ask, prompt: hi, output: [model]}",
            "/steps/1/output/0",
            43,
            "'model' already is the kind's name of another output than this, which is 'text'",
            "choose another name; the kind's own names always work",
        ),
        (
            "- {id: b, type: ask, prompt: hi, output: [a-b]}",
            "/steps/1/output/0",
            43,
            "item 0 has characters or a length that are not accepted",
            "use 1 to 64 letters, digits and '_'; begin with a letter or '_'",
        ),
        (
            "- {id: b, type: tell, run_on: allways}",
            "/steps/1/run_on",
            23,
            "'run_on' should be 'success', 'failure' or 'always'",
            "did you mean 'always'?",
        ),
        (
            "- {id: b, type: tell, on_error: ignore}",
            "/steps/1/on_error",
            23,
            "'on_error' should be 'fail' or 'continue'",
            None,
        ),
        (
            "- {id: b, type: tell, on_error: {action: continue, valeu: 1}}",
            "/steps/1/on_error/valeu",
            52,
            "unknown key 'valeu'",
            "did you mean 'value'?",
        ),
        (
            '- {id: b, type: tell, on_error: {action: continue, value: "{{ steps.nope }}"}}',
            "/steps/1/on_error/value",
            52,
            "unknown step 'nope'",
            "use one of 'search_docs', 'b'",
        ),
        (
            "- {id: b, type: tell, timeout_seconds: 0}",
            "/steps/1/timeout_seconds",
            23,
            "'timeout_seconds' should be greater than 0",
            None,
        ),
        (
            "- {id: b, type: tell, timeout_seconds: 30s}",
            "/steps/1/timeout_seconds",
            23,
            "'timeout_seconds' should be a number",
            "write a number, without quotes",
        ),
        (
            "- {id: b, type: tell, retry: sometimes}",
            "/steps/1/retry",
            23,
            "'retry' should be an object ({max_attempts: 3}), a total number of tries, or 'never'",
            None,
        ),
        (
            "- {id: b, type: tell, retry: {attempts: 3}}",
            "/steps/1/retry/attempts",
            31,
            "unknown key 'attempts'",
            "did you mean 'max_attempts'?",
        ),
        (
            "- {id: b, type: tell, retry: {retry_on: [timeout, time_out]}}",
            "/steps/1/retry/retry_on/1",
            51,
            "item 1 should be 'rate_limit', 'timeout', 'server_error', 'connection' or 'invalid_output'",
            "did you mean 'timeout'?",
        ),
    ],
)
def test_a_step_with_one_problem(step: str, pointer: str, column: int, detail: str, hint: str | None) -> None:
    found = problems(f"{HEAD}{step}\n")
    first = found[0]
    assert (first.pointer, first.line, first.column, first.detail, first.hint) == (
        pointer,
        4,
        column,
        detail,
        hint,
    )
    assert len(found) == (3 if "#each" in step else 1)


@pytest.mark.parametrize(
    ("source", "pointer", "place", "detail", "hint"),
    [
        ("[]", "", (1, 1), "a workflow is a mapping", "begin with 'name: …' and 'steps:'"),
        ("steps:\n- {id: a, type: tell}", "", (1, 1), "'name' is missing", "add 'name'"),
        ("name: x\n", "", (1, 1), "'steps' is missing", "add 'steps'"),
        ("name: x\nsteps: []", "/steps", (2, 1), "'steps' should have at least 1 item", None),
        (
            "name: x\nsteps: {a: 1}",
            "/steps",
            (2, 1),
            "'steps' should be a list",
            "write [a, b], or one item a line with a dash",
        ),
        (
            "name: x\nstep: []\nsteps: [{id: a, type: tell}]",
            "/step",
            (2, 1),
            "unknown key 'step'",
            "did you mean 'steps'?",
        ),
        (
            "name: a/b\nsteps: [{id: a, type: tell}]",
            "/name",
            (1, 1),
            "'name' has characters or a length that are not accepted",
            "use 1 to 128 letters, digits, spaces, '.', '_' and '-'; begin and end with a letter or digit",
        ),
        (
            "name: x\nversion: [1]\nsteps: [{id: a, type: tell}]",
            "/version",
            (2, 1),
            "'version' should be text",
            "write it in quotes to make it text",
        ),
        (
            "name: x\nlabels: {team: 5}\nsteps: [{id: a, type: tell}]",
            "/labels/team",
            (2, 10),
            "'team' should be text",
            "write it in quotes to make it text",
        ),
        *(
            (
                f"name: x\n{key}: {{}}\nsteps: [{{id: a, type: tell}}]",
                f"/{key}",
                (2, 1),
                f"{key!r} should be a list",
                "write [a, b], or one item a line with a dash",
            )
            for key in ("on_failure", "finally")
        ),
        (
            "name: x\ndefaults: {retries: 3}\nsteps: [{id: a, type: tell}]",
            "/defaults/retries",
            (2, 12),
            "unknown key 'retries'",
            "did you mean 'retry'?",
        ),
        (
            "name: x\nmax_concurrency: 0\nsteps: [{id: a, type: tell}]",
            "/max_concurrency",
            (2, 1),
            "'max_concurrency' should be greater than or equal to 1",
            None,
        ),
        (
            'name: x\nsteps: [{id: a, type: tell}]\noutputs: {y: {z: ["{{ steps.b.text }}"]}}',
            "/outputs/y/z/0",
            (3, 19),
            "unknown step 'b'",
            "use one of 'a'",
        ),
        (
            'name: x\nsteps: [{id: a, type: tell}]\noutputs: {y: "{{ 1 + }}"}',
            "/outputs/y",
            (3, 11),
            "template syntax: unexpected 'end of print statement'",
            None,
        ),
        (
            "name: x\nsteps:\n- {id: a, type: tell, depends_on: c}\n- {id: b, type: tell, depends_on: a}\n"
            "- {id: c, type: tell, depends_on: b}",
            "/steps/0",
            (3, 3),
            "steps wait for each other: a -> c -> b -> a",
            "each step waits for the next one; remove one of these dependencies or references",
        ),
        (
            'name: x\nsteps:\n- {id: a, type: ask, prompt: "{{ outputs.b }}"}\n'
            '- {id: b, type: ask, prompt: hi, condition: "steps.a.text == 1"}',
            "/steps/0",
            (3, 3),
            "steps wait for each other: a -> b -> a",
            "each step waits for the next one; remove one of these dependencies or references",
        ),
        (
            "name: x\nsteps:\n- {id: a, type: ask, prompt: hi, output: [n]}\n"
            "- {id: b, type: ask, prompt: hi, output: [n]}\n"
            '- {id: c, type: tell, message: "{{ outputs.n }}"}',
            "/steps/2/message",
            (5, 23),
            "'n' is an output of several steps: 'a', 'b'",
            "write steps.a.n for the one you mean",
        ),
    ],
)
def test_a_document_with_one_problem(
    source: str, pointer: str, place: tuple[int, int], detail: str, hint: str | None
) -> None:
    (problem,) = problems(source)
    assert (problem.pointer, problem.detail, problem.hint) == (pointer, detail, hint)
    assert (problem.line, problem.column) == place


def test_all_problems_come_at_once_in_document_order() -> None:
    found = problems(
        """\
name: x
colour: red
inputs: {type: object, properties: {question: {type: strin}}}
steps:
- id: a
  type: ask
  prompt: "{{ inputs.qestion }} {{ steps.c.text }}"
  heat: hot
  depends_on: [a, z]
  condition: "{{#if x}}"
- {id: b, type: mapp, timeout_seconds: -1}
- {id: c, type: ask, depends_on: d}
- {id: d, type: ask, prompt: hi, depends_on: c, retry: 0}
outputs: {all: "{{ steps.q }}"}
"""
    )
    assert [(problem.line, problem.pointer) for problem in found] == [
        (2, "/colour"),
        (3, "/inputs/properties/question/type"),
        (8, "/steps/0/heat"),
        (9, "/steps/0/depends_on/0"),
        (9, "/steps/0/depends_on/1"),
        (10, "/steps/0/condition"),
        (11, "/steps/1/type"),
        (11, "/steps/1/timeout_seconds"),
        (12, "/steps/2"),
        (12, "/steps/2"),
        (13, "/steps/3/retry"),
        (14, "/outputs/all"),
    ]


def test_references_are_checked_beside_every_other_problem_of_a_step() -> None:
    found = problems(
        f'{HEAD}- {{id: b, type: ask, prompt: "{{{{ outputs.nope }}}}", heat: 9, timeout_seconds: x}}\n'
    )
    assert [problem.pointer for problem in found] == [
        "/steps/1/prompt",
        "/steps/1/heat",
        "/steps/1/timeout_seconds",
    ]


def test_a_step_of_an_unknown_kind_does_not_make_its_readers_wrong() -> None:
    found = problems(
        f'{HEAD}- {{id: b, type: aks}}\n- {{id: c, type: ask, prompt: "{{{{ steps.b.anything }}}}"}}\n'
    )
    assert [problem.pointer for problem in found] == ["/steps/1/type"]


def test_every_circle_is_named() -> None:
    found = problems(
        "name: x\nsteps:\n"
        "- {id: a, type: tell, depends_on: [b, c]}\n- {id: b, type: tell, depends_on: a}\n"
        "- {id: c, type: tell, depends_on: d}\n- {id: d, type: tell, depends_on: c}\n"
        "- {id: e, type: tell, depends_on: d}\n"
    )
    assert {problem.detail.partition(": ")[2] for problem in found} == {"a -> b -> a", "c -> d -> c"}


def test_a_plain_value_has_problems_without_places() -> None:
    with pytest.raises(DefinitionInvalid) as refused:
        compile_workflow({"name": "x", "steps": [{"id": "a", "type": "aks"}]}, kinds=KINDS)
    (problem,) = refused.value.problems
    assert (problem.pointer, problem.line, problem.column) == ("/steps/0/type", None, None)


@pytest.mark.parametrize(
    "value", [{"name": "x", "metadata": {"a": {1, 2}}}, {"name": "x", 5: 1}, {"name": 2**70}]
)
def test_a_value_that_json_cannot_carry_is_refused(value: object) -> None:
    with pytest.raises(DefinitionInvalid) as refused:
        compile_workflow(value, kinds=KINDS)
    assert "no JSON value" in refused.value.problems[0].detail


def test_more_steps_than_the_limit_are_refused() -> None:
    steps = [{"id": f"s{number}", "type": "tell"} for number in range(5_001)]
    with pytest.raises(DefinitionInvalid) as refused:
        compile_workflow({"name": "x", "steps": steps}, kinds=KINDS)
    assert [problem.detail for problem in refused.value.problems] == ["more than 5000 steps"]


def test_more_template_text_than_the_limit_is_refused_before_it_is_compiled() -> None:
    steps = [{"id": f"s{n}", "type": "tell", "message": "{{ a.b }}" * 1000} for n in range(30)]
    with pytest.raises(DefinitionInvalid) as refused:
        compile_workflow({"name": "x", "steps": steps}, kinds=KINDS)
    assert "bytes within the braces" in refused.value.problems[0].detail


def test_thousands_of_misspellings_are_told_without_a_hint_each() -> None:
    steps = [{"id": f"step_{n}", "type": "tell", "depends_on": f"stpe_{n}"} for n in range(2_000)]
    with pytest.raises(DefinitionInvalid) as refused:
        compile_workflow({"name": "x", "steps": steps}, kinds=KINDS)
    found = refused.value.problems
    assert len(found) == 501
    assert found[0].hint == "did you mean 'step_0'?"
    assert found[499].hint is None
    assert found[500].detail == "there are 1500 more problems"
