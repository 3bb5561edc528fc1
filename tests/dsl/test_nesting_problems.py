"""Everything that can be wrong with steps within steps, and with the rules of a workflow: where it is said
to stand, and how to mend it."""

from __future__ import annotations

from typing import Any

import pytest

from app.dsl.compiler import compile_workflow
from app.dsl.limits import DEEPEST_BLOCKS, MOST_STEPS
from app.dsl.loader import load_document
from app.ports.errors import DefinitionInvalid
from app.ports.problems import Problem
from tests.dsl.kinds import KINDS

HEAD = "name: x\nsteps:\n- {id: a, type: ask, prompt: hi}\n"
"""Three good lines; what a case adds begins at line 4."""


def problems(source: str | dict[str, Any]) -> tuple[Problem, ...]:
    """What the compiler says of a document."""
    document = load_document(source) if isinstance(source, str) else source
    with pytest.raises(DefinitionInvalid) as refused:
        compile_workflow(document, kinds=KINDS)
    return refused.value.problems


Expected = list[tuple[str, str, str | None]]
"""Pointer, detail and hint of each problem."""

STEPS: list[tuple[str, Expected]] = [
    (
        "- {id: b, type: branch}",
        [
            ("/steps/1", "'branches' is missing", "add 'branches'"),
            ("/steps/1", "'condition' is missing", "add 'condition'"),
        ],
    ),
    (
        "- {id: b, type: branch, condition: a, branches: {}}",
        [
            (
                "/steps/1/condition",
                "unknown name 'a'",
                (
                    "a path begins with inputs, steps, outputs or run: {{ inputs.name }}, {{ "
                    "steps.id.output }}"
                ),
            ),
            ("/steps/1/branches", "'branches' should have at least 1 item", None),
        ],
    ),
    (
        "- {id: b, type: branch, condition: outputs.a, branches: {x: 7}}",
        [("/steps/1/branches/x", "'x' should be a list", "write [a, b], or one item a line with a dash")],
    ),
    (
        "- {id: b, type: branch, condition: outputs.a, branches: {x: [7]}}",
        [("/steps/1/branches/x/0", "a step is a mapping", "write '- id: …' and 'type: …'")],
    ),
    (
        '- {id: b, type: branch, condition: outputs.a, branches: {"true": [7]}}',
        [("/steps/1/branches/true/0", "a step is a mapping", "write '- id: …' and 'type: …'")],
    ),
    (
        "- {id: b, type: branch, condition: outputs.a, branch: {x: []}, branches: {x: []}}",
        [("/steps/1/branch", "unknown key 'branch'", "did you mean 'branches'?")],
    ),
    (
        "- {id: b, type: branch, condition: {a: 1}, branches: {x: []}}",
        [
            (
                "/steps/1/condition",
                (
                    "'condition' should be text, a number, true, false or null, and is an object; name "
                    "the part that decides"
                ),
                None,
            )
        ],
    ),
    (
        '- {id: b, type: branch, condition: "outputs.nope", branches: {x: []}}',
        [("/steps/1/condition", "unknown step or output 'nope'", "use one of 'a', 'b'")],
    ),
    (
        "- {id: b, type: branch, condition: outputs.a, branches: {x: [{id: c, type: tell}, "
        "{id: c, type: tell}]}}",
        [("/steps/1/branches/x/1/id", "two steps are called 'c'", "give one of them another id")],
    ),
    (
        "- {id: b, type: branch, condition: outputs.a, branches: {x: {id: taken, type: tell}}}",
        [
            (
                "/steps/1/branches/x/id",
                "a step within one of kind 'branch' cannot be called 'taken'",
                "what is read from outside by this name is something else; choose another id",
            )
        ],
    ),
    (
        (
            "- {id: b, type: branch, condition: outputs.a, branches: {x: {id: c, type: tell}, y: "
            '{id: d, type: tell, message: "{{ outputs.c }}"}}}'
        ),
        [
            (
                "/steps/1/branches/y/message",
                "unknown step or output 'c'",
                "it is in another case of 'b', and only one of them runs",
            )
        ],
    ),
    (
        "- {id: b, type: branch, condition: outputs.a, branches: {x: {id: a, type: tell}}}",
        [
            (
                "/steps/1/branches/x/id",
                "a step outside of this block is called 'a' as well",
                "give one of them another id",
            )
        ],
    ),
    (
        ("- {id: b, type: branch, condition: outputs.a, branches: {default: {id: c, type: tell}}}"),
        [
            (
                "/steps/1/branches",
                "'branches': No case can be called 'default'; write 'default' beside 'branches'",
                None,
            )
        ],
    ),
    ("- {id: b, type: parallel}", [("/steps/1", "'tasks' is missing", "add 'tasks'")]),
    (
        "- {id: b, type: parallel, tasks: []}",
        [("/steps/1/tasks", "'tasks' should have at least 1 item", None)],
    ),
    (
        "- {id: b, type: parallel, tasks: {id: c, type: tell}}",
        [("/steps/1/tasks", "'tasks' should be a list", "write [a, b], or one item a line with a dash")],
    ),
    (
        ('- {id: b, type: parallel, max_concurrency: "{{ inputs.n }}", tasks: [{id: c, type: tell}]}'),
        [
            (
                "/steps/1/max_concurrency",
                "'max_concurrency' should be a whole number",
                "write a whole number, without quotes",
            )
        ],
    ),
    (
        "- {id: b, type: parallel, max_concurency: 3, tasks: [{id: c, type: tell}]}",
        [("/steps/1/max_concurency", "unknown key 'max_concurency'", "did you mean 'max_concurrency'?")],
    ),
    (
        "- {id: b, type: parallel, taks: [], tasks: [{id: c, type: tell}]}",
        [("/steps/1/taks", "unknown key 'taks'", "did you mean 'tasks'?")],
    ),
    (
        "- {id: b, type: parallel, tasks: [{id: c, type: nope}]}",
        [
            (
                "/steps/1/tasks/0/type",
                "unknown kind 'nope'",
                (
                    "use one of 'ask', 'compute', 'tell', 'branch', 'parallel', 'map', 'loop', "
                    "'workflow', 'wait', 'approval'"
                ),
            )
        ],
    ),
    (
        "- {id: b, type: parallel, tasks: [{id: c, type: tell, mesage: hi}]}",
        [("/steps/1/tasks/0/mesage", "unknown key 'mesage'", "did you mean 'message'?")],
    ),
    (
        "- {id: b, type: parallel, tasks: [{id: c, type: tell}, {id: c, type: tell}]}",
        [("/steps/1/tasks/1/id", "two steps are called 'c'", "give one of them another id")],
    ),
    (
        "- {id: b, type: parallel, tasks: [{id: b, type: tell}]}",
        [
            (
                "/steps/1/tasks/0/id",
                "a step outside of this block is called 'b' as well",
                "give one of them another id",
            )
        ],
    ),
    (
        "- {id: b, type: parallel, tasks: [{id: error, type: tell}]}",
        [
            (
                "/steps/1/tasks/0/id",
                "a step within one of kind 'parallel' cannot be called 'error'",
                "what is read from outside by this name is something else; choose another id",
            )
        ],
    ),
    (
        "- {id: b, type: parallel, tasks: [{id: c, type: tell, depends_on: a}]}",
        [
            (
                "/steps/1/tasks/0/depends_on",
                "the step 'a' is not of this block",
                "write depends_on: a at 'b', which this step is within",
            )
        ],
    ),
    (
        "- {id: b, type: parallel, tasks: [{id: c, type: tell, depends_on: b}]}",
        [
            (
                "/steps/1/tasks/0/depends_on",
                "the step 'c' is within 'b' and cannot wait for it",
                "remove this dependency",
            )
        ],
    ),
    (
        '- {id: b, type: parallel, tasks: [{id: c, type: tell, message: "{{ outputs.b }}"}]}',
        [
            (
                "/steps/1/tasks/0/message",
                "this is within 'b', whose outputs are there when it has ended",
                "read the steps beside this one, by their own ids",
            )
        ],
    ),
    (
        (
            "- {id: b, type: parallel, tasks: [{id: c, type: ask, prompt: hi}]}\n"
            '- {id: d, type: tell, message: "{{ steps.c.text }}"}'
        ),
        [("/steps/2/message", "unknown step 'c'", "it is within 'b': write steps.b.c")],
    ),
    (
        (
            "- {id: b, type: parallel, tasks: [{id: c, type: ask, prompt: hi}]}\n"
            "- {id: d, type: tell, depends_on: c}"
        ),
        [("/steps/2/depends_on", "unknown step 'c'", "it is within 'b': write steps.b.c")],
    ),
    (
        (
            "- {id: b, type: parallel, tasks: [{id: c, type: ask, prompt: hi}]}\n"
            '- {id: d, type: tell, message: "{{ steps.b.cc }} {{ outputs.b.cc }}"}'
        ),
        [
            ("/steps/2/message", "outputs.b has no 'cc'", "did you mean 'c'?"),
            ("/steps/2/message", "the step 'b' has no output 'cc'", "did you mean 'c'?"),
        ],
    ),
    (
        "- {id: b, type: parallel, tasks: [{id: c, type: ask, prompt: hi}], output: [x, y]}",
        [
            (
                "/steps/1/output/1",
                "a step of kind 'parallel' has no output number 2 to name",
                "its outputs are c",
            )
        ],
    ),
    (
        "- {id: b, type: map, steps: [{id: c, type: tell}]}",
        [("/steps/1", "'items' is missing", "add 'items'")],
    ),
    (
        "- {id: b, type: map, items: 5, steps: [{id: c, type: tell}]}",
        [("/steps/1/items", "'items' should be a list", "write [a, b], or one item a line with a dash")],
    ),
    (
        "- {id: b, type: map, items: {x: 1}, steps: [{id: c, type: tell}]}",
        [
            (
                "/steps/1/items",
                (
                    "'items' should be a list and is an object; write `| items | list` for its pairs of "
                    "key and value"
                ),
                None,
            )
        ],
    ),
    (
        '- {id: b, type: map, items: "", steps: [{id: c, type: tell}]}',
        [("/steps/1/items", "the expression is empty", "write one, such as inputs.enable == true")],
    ),
    (
        "- {id: b, type: map, items: inputs.x, as: a, steps: [{id: c, type: tell}]}",
        [("/steps/1/as", "a step is called 'a' as well", "give the items another name")],
    ),
    (
        "- {id: b, type: map, items: inputs.x, as: c, steps: [{id: c, type: tell}]}",
        [("/steps/1/as", "a step is called 'c' as well", "give the items another name")],
    ),
    (
        "- {id: b, type: map, items: inputs.x, as: steps, steps: [{id: c, type: tell}]}",
        [("/steps/1/as", "'as' should be another name: 'steps' already means something in templates", None)],
    ),
    (
        '- {id: b, type: map, items: inputs.x, as: "a-b", steps: [{id: c, type: tell}]}',
        [("/steps/1/as", "'as' should be one name of letters, digits and '_', such as 'page'", None)],
    ),
    (
        "- {id: b, type: map, items: inputs.x, as: if, steps: [{id: c, type: tell}]}",
        [("/steps/1/as", "'as' should be another name: 'if' already means something in templates", None)],
    ),
    (
        (
            "- {id: b, type: map, items: inputs.x, as: page, steps: [{id: c, type: tell, message: "
            '"{{ item }}"}]}'
        ),
        [("/steps/1/steps/0/message", "'item' is not known here", "an item is called 'page' here")],
    ),
    (
        (
            "- {id: b, type: map, items: inputs.x, as: page, steps: [{id: c, type: tell}]}\n"
            '- {id: d, type: tell, message: "{{ page }}"}'
        ),
        [
            (
                "/steps/2/message",
                "unknown name 'page'",
                (
                    "a path begins with inputs, steps, outputs or run: {{ inputs.name }}, {{ "
                    "steps.id.output }}"
                ),
            )
        ],
    ),
    (
        "- {id: b, type: map, items: item, steps: [{id: c, type: tell}]}",
        [
            (
                "/steps/1/items",
                "'item' is not known here",
                "write {% for item in … %} around it, or a path from inputs, steps or outputs",
            )
        ],
    ),
    (
        ('- {id: b, type: map, items: inputs.x, steps: [{id: c, type: tell, message: "{{ loop.index }}"}]}'),
        [
            (
                "/steps/1/steps/0/message",
                "'loop' is not known here",
                "write {% for item in … %} around it, or a path from inputs, steps or outputs",
            )
        ],
    ),
    (
        (
            "- {id: b, type: map, items: inputs.x, retry: 3, cache: {ttl_seconds: 3}, on_unknown: "
            "retry, steps: [{id: c, type: tell}]}"
        ),
        [
            (
                "/steps/1/retry",
                "'retry' does not go with a step of kind 'map', which has no attempts",
                "write it at the steps within",
            ),
            (
                "/steps/1/cache",
                "'cache' does not go with a step of kind 'map', which has no attempts",
                "write it at the steps within",
            ),
            (
                "/steps/1/on_unknown",
                "'on_unknown' does not go with a step of kind 'map', which has no attempts",
                "write it at the steps within",
            ),
        ],
    ),
    (
        ("- {id: b, type: map, items: inputs.x, max_concurrency: 1001, steps: [{id: c, type: tell}]}"),
        [("/steps/1/max_concurrency", "'max_concurrency' should be less than or equal to 1000", None)],
    ),
    (
        ("- {id: b, type: map, items: inputs.x, on_item_error: ignore, steps: [{id: c, type: tell}]}"),
        [
            (
                "/steps/1/on_item_error",
                "'on_item_error' should be 'fail', 'continue' or 'drop'",
                None,
            )
        ],
    ),
    (
        (
            "- {id: b, type: map, items: inputs.x, steps: [{id: c, type: tell}]}\n"
            '- {id: d, type: tell, message: "{{ steps.b.result }} {{ steps.c }}"}'
        ),
        [
            ("/steps/2/message", "the step 'b' has no output 'result'", "did you mean 'results'?"),
            ("/steps/2/message", "unknown step 'c'", "it is within 'b': write steps.b.results"),
        ],
    ),
    (
        ("- {id: b, type: loop, until: outputs.c, steps: [{id: c, type: tell}], max_iterations: 0}"),
        [("/steps/1/max_iterations", "'max_iterations' should be greater than or equal to 1", None)],
    ),
    (
        "- {id: b, type: loop, until: outputs.nope == 1, steps: [{id: c, type: tell}]}",
        [("/steps/1/until", "unknown step or output 'nope'", "use one of 'a', 'b', 'c'")],
    ),
    (
        "- {id: b, type: loop, until: outputs.b == 1, steps: [{id: c, type: tell}]}",
        [
            (
                "/steps/1/until",
                "this is within 'b', whose outputs are there when it has ended",
                "read the steps beside this one, by their own ids",
            )
        ],
    ),
    (
        ("- {id: b, type: loop, until: loop.count > 1 and loop.last.d, steps: [{id: c, type: tell}]}"),
        [
            ("/steps/1/until", "loop has no 'count'", "use one of 'index', 'iteration', 'last'"),
            ("/steps/1/until", "loop.last has no 'd'", "use one of 'c'"),
        ],
    ),
    (
        (
            "- {id: b, type: loop, steps: [{id: c, type: tell}]}\n"
            '- {id: d, type: tell, message: "{{ steps.b.last.d }} {{ steps.c }}"}'
        ),
        [
            ("/steps/2/message", "steps.b.last has no 'd'", "use one of 'c'"),
            ("/steps/2/message", "unknown step 'c'", "it is within 'b': write steps.b.last.c"),
        ],
    ),
    ("- {id: b, type: workflow}", [("/steps/1", "'workflow' is missing", "add 'workflow'")]),
    (
        "- {id: b, type: workflow, workflow: x, version: 1.0}",
        [("/steps/1/version", "'version' should be text", "write it in quotes to make it text")],
    ),
    (
        '- {id: b, type: workflow, workflow: x, inputs: [1], wait: "no"}',
        [
            ("/steps/1/inputs", "'inputs' should be a mapping", "write one 'key: value' a line"),
            ("/steps/1/wait", "'wait' should be true or false", "write true or false, without quotes"),
        ],
    ),
    ("- {id: b, type: wait}", [("/steps/1", "Give exactly one of 'seconds' and 'until'", None)]),
    (
        "- {id: b, type: wait, seconds: 1, until: 3}",
        [("/steps/1", "Give exactly one of 'seconds' and 'until'", None)],
    ),
    (
        "- {id: b, type: wait, seconds: -1}",
        [("/steps/1/seconds", "'seconds' should be greater than or equal to 0", None)],
    ),
    (
        "- {id: b, type: wait, seconds: 99999999}",
        [("/steps/1/seconds", "'seconds' should be less than or equal to 31622400", None)],
    ),
    (
        "- {id: b, type: wait, until: tomorrow}",
        [
            (
                "/steps/1/until",
                "'until' should be a time such as '2030-01-31T09:00:00Z', or seconds since 1970",
                None,
            )
        ],
    ),
    (
        "- {id: b, type: wait, until: 2030-01-01T00:00:00}",
        [
            (
                "/steps/1/until",
                "'until' should say its time zone: end it with 'Z' or an offset such as '+02:00'",
                None,
            )
        ],
    ),
    (
        "- {id: b, type: wait, until: 2030-02-31T00:00:00Z}",
        [("/steps/1/until", "'until' should be a day and a time that exist", None)],
    ),
    (
        "- {id: b, type: wait, seconds: 1, retry: 3}",
        [
            (
                "/steps/1/retry",
                "'retry' does not go with a step of kind 'wait', which has no attempts",
                "remove it",
            )
        ],
    ),
    ("- {id: b, type: approval}", [("/steps/1", "'message' is missing", "add 'message'")]),
    (
        "- {id: b, type: approval, message: hi, form: {type: objct}}",
        [("/steps/1/form/type", "this is no JSON type", "did you mean 'object'?")],
    ),
    (
        '- {id: b, type: approval, message: hi, form: "{{ inputs.form }}"}',
        [("/steps/1/form", "'form' should be a mapping", "write one 'key: value' a line")],
    ),
    (
        ('- {id: b, type: approval, message: hi, form: {type: object, description: "{{ inputs.form }}"}}'),
        [
            (
                "/steps/1/form",
                "a form holds no templates",
                "write the schema out, and what changes from run to run into 'message'",
            )
        ],
    ),
    (
        '- {id: b, type: approval, message: hi, form: {$ref: "http://x/y"}}',
        [("/steps/1/form/$ref", "'http://x/y' leaves the schema", "refer to '#/$defs/<name>'")],
    ),
    (
        "- {id: b, type: approval, message: hi, on_timeout: approve}",
        [
            (
                "/steps/1/on_timeout",
                "'on_timeout' without 'timeout_seconds': the step waits for an answer without end",
                "add 'timeout_seconds', such as 86400, or remove 'on_timeout'",
            )
        ],
    ),
    (
        "- {id: b, type: approval, message: hi, on_timeout: aprove}",
        [
            (
                "/steps/1/on_timeout",
                "'on_timeout' should be 'fail', 'approve' or 'reject'",
                "did you mean 'approve'?",
            )
        ],
    ),
    (
        (
            '- {id: b, type: parallel, tasks: [{id: c, type: tell, message: "{{ outputs.d }}"}]}\n'
            "- {id: d, type: tell, depends_on: b}"
        ),
        [
            (
                "/steps/1",
                "steps wait for each other: b (for 'b.c' within it) -> d -> b",
                "each step waits for the next one; remove one of these dependencies or references",
            )
        ],
    ),
    (
        (
            "- {id: b, type: parallel, tasks: [{id: c, type: map, items: steps.d, steps: [{id: e, "
            'type: tell, message: "{{ steps.d }}"}]}]}\n'
            "- {id: d, type: tell, depends_on: b}"
        ),
        [
            (
                "/steps/1",
                "steps wait for each other: b (for 'b.c' within it) -> d -> b",
                "each step waits for the next one; remove one of these dependencies or references",
            )
        ],
    ),
    (
        (
            "- {id: b, type: parallel, tasks: [{id: c, type: tell, depends_on: d}, {id: d, type: "
            "tell, depends_on: c}]}"
        ),
        [
            (
                "/steps/1/tasks/0",
                "steps wait for each other: c -> d -> c",
                "each step waits for the next one; remove one of these dependencies or references",
            )
        ],
    ),
    (
        '- {id: b, type: tell, message: "{{ run.status }} {{ run.idd }}"}',
        [
            ("/steps/1/message", "run has no 'idd'", "did you mean 'id'?"),
            (
                "/steps/1/message",
                "run has no 'status'",
                "only 'on_failure' and 'finally' know how the run went",
            ),
        ],
    ),
    (
        (
            '- {id: b, type: map, items: outputs.a, steps: [{id: c, type: tell, message: "{{ '
            'steps | tojson }}"}]}'
        ),
        [
            (
                "/steps/1/steps/0/message",
                "'steps' as a whole does not tell which steps to wait for",
                "name the step: steps.<id>",
            )
        ],
    ),
]


@pytest.mark.parametrize(("steps", "expected"), STEPS, ids=[steps for steps, _ in STEPS])
def test_a_step_with_others_within_it(steps: str, expected: Expected) -> None:
    found = problems(f"{HEAD}{steps}\n")
    assert [(problem.pointer, problem.detail, problem.hint) for problem in found] == expected
    assert all(problem.line is not None and problem.line >= 4 for problem in found)


DOCUMENTS: list[tuple[str, Expected]] = [
    (
        (
            "name: x\n"
            "steps: [{id: on_failure, type: tell}, {id: finally, type: tell}]\n"
            "on_failure: [{id: c, type: tell}]\n"
            'finally: [{id: d, type: tell, message: "{{ steps.c }}"}]'
        ),
        [
            (
                "/steps/0/id",
                "a block of the workflow is called 'on_failure' as well",
                "give the step another id",
            ),
            (
                "/steps/1/id",
                "a block of the workflow is called 'finally' as well",
                "give the step another id",
            ),
            (
                "/finally/0/message",
                "unknown step 'c'",
                "it is within 'on_failure' and can be read there only",
            ),
        ],
    ),
    (
        ("name: x\nsteps: [{id: a, type: tell}]\nfinally: [{id: a, type: tell}]"),
        [
            (
                "/finally/0/id",
                "a step outside of this block is called 'a' as well",
                "give one of them another id",
            )
        ],
    ),
    (
        (
            "name: x\n"
            'steps: [{id: a, type: tell, message: "{{ steps.d }}"}]\n'
            "finally: [{id: d, type: tell, depends_on: a}, {id: e, type: parallel, tasks: [{id: "
            "f, type: tell, depends_on: a}]}]"
        ),
        [
            ("/steps/0/message", "unknown step 'd'", "it is within 'finally' and can be read there only"),
            (
                "/finally/0/depends_on",
                "the step 'a' is not of this block",
                "remove it: 'finally' begins when all of 'steps' have ended",
            ),
            (
                "/finally/1/tasks/0/depends_on",
                "the step 'a' is not of this block",
                "remove it: 'finally' begins when all of 'steps' have ended",
            ),
        ],
    ),
    (
        (
            "name: x\n"
            "steps: [{id: a, type: tell}]\n"
            'finally: [{id: d, type: tell, message: "{{ steps.b }} {{ run.error.clas }}"}]'
        ),
        [
            ("/finally/0/message", "run.error has no 'clas'", "did you mean 'class'?"),
            ("/finally/0/message", "unknown step 'b'", "use one of 'a', 'd'"),
        ],
    ),
    (
        ("name: x\nbudget: {}\nconcurrency: {limit: 0}\nsteps: [{id: a, type: tell}]"),
        [
            ("/budget", "'budget': Give 'max_cost_usd', 'max_tokens' or both", None),
            ("/concurrency/limit", "'limit' should be greater than or equal to 1", None),
        ],
    ),
    (
        (
            "name: x\n"
            "budget: {max_cost_usd: 0, max_tokens: -1, on_exceeded: stop}\n"
            'concurrency: {limit: 3, key: "{{ steps.a }} {{ inputs.nope }}", on_limit: wait}\n'
            "inputs: {properties: {a: {}}}\n"
            "steps: [{id: a, type: tell}]"
        ),
        [
            ("/budget/max_cost_usd", "'max_cost_usd' should be greater than 0", None),
            ("/budget/max_tokens", "'max_tokens' should be greater than or equal to 1", None),
            (
                "/budget/on_exceeded",
                "'on_exceeded' should be 'fail' or 'pause'",
                None,
            ),
            (
                "/concurrency/on_limit",
                "'on_limit' should be 'queue', 'reject' or 'cancel_oldest'",
                None,
            ),
        ],
    ),
    (
        (
            "name: x\n"
            "inputs: {properties: {a: {}}}\n"
            'concurrency: {limit: 3, key: "{{ steps.a }} {{ inputs.nope }}"}\n'
            "steps: [{id: a, type: tell}]"
        ),
        [
            ("/concurrency/key", "unknown input 'nope'", "use one of 'a'"),
            (
                "/concurrency/key",
                "'steps' is not known before the run begins",
                "use inputs only: {{ inputs.<name> }}",
            ),
        ],
    ),
]


@pytest.mark.parametrize(("source", "expected"), DOCUMENTS, ids=[source for source, _ in DOCUMENTS])
def test_the_other_blocks_and_the_rules_of_a_workflow(source: str, expected: Expected) -> None:
    found = problems(source)
    assert [(problem.pointer, problem.detail, problem.hint) for problem in found] == expected


def test_problems_within_steps_have_their_places_in_the_text() -> None:
    found = problems(
        f"""{HEAD}\
- id: route
  type: branch
  condition: outputs.a
  branches:
    x:
    - id: b
      type: map
      items: inputs.rows
      steps:
      - id: c
        type: tell
        message: "{{{{ steps.nope }}}}"
  default: {{id: d, type: tel}}
"""
    )
    assert [(problem.pointer, problem.line, problem.column) for problem in found] == [
        ("/steps/1/branches/x/0/steps/0/message", 15, 9),
        ("/steps/1/default/type", 16, 20),
    ]


def test_what_is_wrong_with_a_map_does_not_make_its_steps_wrong() -> None:
    found = problems(
        f"""{HEAD}\
- {{id: b, type: map, items: 7, as: row, steps: [{{id: c, type: tell, message: "{{{{ row }}}}"}}]}}
- {{id: d, type: parallel, tasks: 7}}
- {{id: e, type: tell, message: "{{{{ steps.d.anything }}}}"}}
"""
    )
    assert [problem.pointer for problem in found] == ["/steps/1/items", "/steps/2/tasks"]


def test_more_blocks_within_each_other_than_may_be() -> None:
    steps: list[dict[str, Any]] = [{"id": "leaf", "type": "tell"}]
    for level in range(50):
        steps = [{"id": f"p{level}", "type": "parallel", "tasks": steps}]
    (problem,) = problems({"name": "x", "steps": steps})
    assert problem.detail == f"more than {DEEPEST_BLOCKS} blocks within each other"
    assert problem.hint == "move the inner blocks to a workflow of their own"


def test_more_steps_than_may_be_in_all_blocks_together() -> None:
    within = [{"id": f"s{number}", "type": "tell"} for number in range(MOST_STEPS // 2)]
    steps = [{"id": f"p{number}", "type": "parallel", "tasks": within} for number in range(2)]
    (problem,) = problems({"name": "x", "steps": steps})
    assert (problem.pointer, problem.detail) == ("/steps", f"more than {MOST_STEPS} steps")


def test_a_circle_through_two_blocks_is_found() -> None:
    found = problems(
        f"""{HEAD}\
- {{id: b, type: parallel, tasks: [{{id: c, type: ask, prompt: "{{{{ outputs.d }}}}"}}]}}
- {{id: d, type: loop, until: outputs.b.c == 'x', steps: [{{id: e, type: tell}}]}}
"""
    )
    assert [problem.detail for problem in found] == [
        "steps wait for each other: b (for 'b.c' within it) -> d (for 'd' within it) -> b"
    ]
