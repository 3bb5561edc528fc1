"""What a good document compiles to."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.plan import RetryPolicy
from app.dsl.compiled import CompiledWorkflow
from app.dsl.compiler import compile_workflow
from app.dsl.loader import load_document
from app.dsl.policies import PlanDefaults
from app.ports.errors import RETRYABLE_CLASSES, DefinitionInvalid
from tests.dsl.kinds import KINDS


def compiled(source: str | dict[str, Any], **defaults: Any) -> CompiledWorkflow:
    """A document of the small kinds."""
    document = load_document(source) if isinstance(source, str) else source
    return compile_workflow(document, kinds=KINDS, defaults=PlanDefaults(**defaults))


def one_step(**keys: Any) -> CompiledWorkflow:
    """A workflow of one step `a` that asks."""
    return compiled({"name": "x", "steps": [{"id": "a", "type": "ask", "prompt": "hi", **keys}]})


def test_a_minimal_document() -> None:
    workflow = compiled("name: x\nsteps:\n- {id: a, type: tell}\n")
    assert (workflow.name, workflow.version, workflow.description) == ("x", "1", None)
    assert workflow.labels == {}
    assert workflow.outputs is None
    assert workflow.leaves == ("a",)
    assert workflow.inputs_schema is None
    assert workflow.validate_inputs({"anything": 1}) == {"anything": 1}
    assert (workflow.plan.timeout, workflow.plan.max_concurrency) == (None, 64)


def test_every_key_of_a_workflow_arrives() -> None:
    workflow = compiled("""\
name: Support desk
version: 1.10
description: Answers questions.
labels: {team: support}
metadata: {owner: [a, b]}
inputs: {type: object, properties: {question: {type: string}}}
timeout_seconds: 90
max_concurrency: 3
steps:
- {id: a, type: ask, name: First, prompt: "{{ inputs.question }}", output: [reply]}
outputs: {answer: "{{ outputs.reply }}"}
""")
    assert (workflow.name, workflow.version) == ("Support desk", "1.10")
    assert workflow.labels == {"team": "support"}
    assert (workflow.plan.timeout, workflow.plan.max_concurrency) == (90, 3)
    assert workflow.inputs_schema == {"type": "object", "properties": {"question": {"type": "string"}}}
    assert workflow.outputs is not None
    step = workflow.steps["a"]
    assert (step.id, step.type, step.label, step.kind) == ("a", "ask", "First", KINDS["ask"])
    assert step.output_names == ("reply",)
    assert orjson.loads(workflow.definition.document)["metadata"] == {"owner": ["a", "b"]}


@pytest.mark.parametrize(
    ("source", "version"),
    [("1.0", "1.0"), ("1.10", "1.10"), ("2", "2"), ('"1.0"', "1.0"), ("v3-beta", "v3-beta"), ("", "1")],
)
def test_a_version_is_the_text_that_was_written(source: str, version: str) -> None:
    assert compiled(f"name: x\nversion: {source}\nsteps:\n- {{id: a, type: tell}}").version == version


def test_a_version_in_plain_json_is_text_as_well() -> None:
    workflow = compiled({"name": "x", "version": 1.5, "steps": [{"id": "a", "type": "tell"}]})
    assert workflow.version == "1.5"
    assert workflow.document["version"] == "1.5"


def test_dependencies_are_those_named_and_those_read_each_once() -> None:
    workflow = compiled("""\
name: x
steps:
- {id: a, type: ask, prompt: hi, output: [n]}
- {id: b, type: ask, prompt: hi}
- {id: c, type: ask, prompt: hi}
- {id: d, type: ask, prompt: hi}
- id: e
  type: ask
  depends_on: [d, b, d]
  condition: "{{ outputs.b }} == 'x'"
  prompt: "{% for word in steps.a.text %}{{ word }}{% endfor %}"
  on_error: {action: continue, value: ["{{ outputs.n }}", "{{ steps.c }}"]}
- {id: f, type: compute, inputs: [e], expression: "steps.a.text | length"}
""")
    assert workflow.plan.main.by_id["e"].depends_on == ("d", "b", "a", "c")
    assert workflow.plan.main.by_id["f"].depends_on == ("a", "e")
    assert workflow.leaves == ("f",)


def test_leaves_come_in_document_order() -> None:
    workflow = compiled("name: x\nsteps:\n" + "".join(f"- {{id: {step}, type: tell}}\n" for step in "zbma"))
    assert workflow.leaves == ("z", "b", "m", "a")


def test_outputs_of_the_workflow_may_read_everything_at_once() -> None:
    workflow = compiled(
        {"name": "x", "steps": [{"id": "a", "type": "tell"}], "outputs": {"all": "{{ outputs }}"}}
    )
    assert workflow.outputs is not None


def test_a_step_id_wins_over_an_output_of_that_name() -> None:
    workflow = compiled("""\
name: x
steps:
- {id: a, type: ask, prompt: hi, output: [b]}
- {id: b, type: ask, prompt: hi}
- {id: c, type: ask, prompt: "{{ outputs.b }}"}
""")
    assert workflow.plan.main.by_id["c"].depends_on == ("b",)
    assert workflow.steps["a"].names.aliases == {}


def test_the_older_name_of_inputs_is_the_same() -> None:
    workflow = compiled("""\
name: x
inputs: {properties: {q: {type: string}}}
steps: [{id: a, type: ask, prompt: "{{ input.q }}"}]
""")
    assert {(one.root, one.parts) for one in workflow.steps["a"].config.references} == {("inputs", ("q",))}


@pytest.mark.parametrize(
    "condition", ["{{ outputs.a }} == 'safe'", "inputs.enable == true", "true", True, False]
)
def test_conditions_of_either_dialect_make_a_gate(condition: str | bool) -> None:
    steps = [{"id": "a", "type": "ask", "prompt": "hi"}, {"id": "b", "type": "tell", "condition": condition}]
    workflow = compiled({"name": "x", "steps": steps})
    assert workflow.plan.main.by_id["b"].conditional
    assert workflow.steps["b"].condition is not None
    assert not workflow.plan.main.by_id["a"].conditional


def test_bare_expressions_and_short_names_become_templates() -> None:
    workflow = compiled("""\
name: x
steps:
- {id: a, type: ask, prompt: hi}
- {id: b, type: compute, inputs: [a], expression: "{'n': {'m': outputs.a}}"}
""")
    config = workflow.steps["b"].config
    assert [part.pointer for part in config.parts] == ["/inputs/0", "/expression"]
    assert all(part.loaded.native for part in config.parts)


def test_on_error_continue_gives_a_value() -> None:
    assert not one_step().plan.main.by_id["a"].continues
    assert not one_step(on_error="fail").plan.main.by_id["a"].continues
    for asked in ("continue", {"action": "continue"}, {"action": "continue", "value": None}):
        workflow = one_step(on_error=asked)
        assert workflow.plan.main.by_id["a"].continues
        value = workflow.steps["a"].on_error_value
        assert value is not None
        assert value.assemble([]) is None


@pytest.mark.parametrize("run_on", ["success", "failure", "always"])
def test_run_on_arrives(run_on: str) -> None:
    assert one_step(run_on=run_on).plan.main.by_id["a"].run_on == run_on


def test_the_run_s_concurrency_is_bounded_by_the_service() -> None:
    document = {"name": "x", "max_concurrency": 500, "steps": [{"id": "a", "type": "tell"}]}
    assert compiled(document, max_concurrency=8).plan.max_concurrency == 8


def test_timeouts_come_from_the_step_then_the_document_then_the_service() -> None:
    steps = [{"id": "a", "type": "tell", "timeout_seconds": 5}, {"id": "b", "type": "tell"}]
    workflow = compiled({"name": "x", "defaults": {"timeout_seconds": 7.5}, "steps": steps})
    assert [node.timeout for node in workflow.plan.main.nodes] == [5, 7.5]
    assert [step.timeout for step in workflow.steps.values()] == [5, 7.5]
    workflow = compiled({"name": "x", "steps": steps}, step_timeout=60.0, run_timeout=600.0)
    assert [node.timeout for node in workflow.plan.main.nodes] == [5, 60.0]
    assert workflow.plan.timeout == 600.0


def test_retry_of_a_silent_author_depends_on_the_kind_and_on_repetition_being_harmless() -> None:
    steps = [
        {"id": "a", "type": "ask", "prompt": "hi"},
        {"id": "b", "type": "ask", "prompt": "hi", "once": True},
        {"id": "c", "type": "compute"},
    ]
    plan = compiled({"name": "x", "steps": steps}).plan
    assert plan.main.by_id["a"].retry == RetryPolicy(
        max_attempts=3,
        backoff="exponential",
        initial_delay=1.0,
        max_delay=30.0,
        jitter="full",
        retry_on=RETRYABLE_CLASSES,
    )
    assert plan.main.by_id["b"].retry.max_attempts == 1
    assert plan.main.by_id["c"].retry.max_attempts == 1
    assert [node.repeatable for node in plan.main.nodes] == [True, False, True]


def test_retry_of_the_document_holds_for_steps_that_say_nothing() -> None:
    steps = [{"id": "a", "type": "compute"}, {"id": "b", "type": "compute", "retry": "never"}]
    plan = compiled({"name": "x", "defaults": {"retry": {"max_attempts": 5}}, "steps": steps}).plan
    assert [node.retry.max_attempts for node in plan.main.nodes] == [5, 1]


@pytest.mark.parametrize(
    ("keys", "attempts", "repeatable"),
    [
        ({"once": True}, 1, False),
        ({"on_unknown": "fail"}, 1, False),
        ({"once": True, "retry": 2}, 2, False),
        ({"once": True, "on_unknown": "retry"}, 5, True),
        ({}, 5, True),
    ],
)
def test_retry_of_the_document_reaches_no_step_whose_repetition_may_do_harm(
    keys: dict[str, Any], attempts: int, repeatable: bool
) -> None:
    steps = [{"id": "a", "type": "ask", "prompt": "hi", **keys}]
    node = compiled({"name": "x", "defaults": {"retry": 5}, "steps": steps}).plan.main.by_id["a"]
    assert (node.retry.max_attempts, node.repeatable) == (attempts, repeatable)


def test_never_of_the_document_reaches_every_step() -> None:
    steps = [
        {"id": "a", "type": "ask", "prompt": "hi"},
        {"id": "b", "type": "ask", "prompt": "", "once": True},
    ]
    plan = compiled({"name": "x", "defaults": {"retry": "never"}, "steps": steps}).plan
    assert [(node.retry.max_attempts, node.repeatable) for node in plan.main.nodes] == [(1, False)] * 2


@pytest.mark.parametrize(
    ("keys", "attempts", "repeatable"),
    [
        ({"retry": "never"}, 1, False),
        ({"retry": "never", "on_unknown": "retry"}, 1, True),
        ({"retry": 4}, 4, True),
        ({"retry": {"max_attempts": 4}, "on_unknown": "fail"}, 4, False),
        ({"once": True}, 1, False),
        ({"once": True, "on_unknown": "retry"}, 3, True),
        ({"once": True, "retry": 2}, 2, False),
        ({"on_unknown": "fail"}, 1, False),
    ],
)
def test_repetition(keys: dict[str, Any], attempts: int, repeatable: bool) -> None:
    node = one_step(**keys).plan.main.by_id["a"]
    assert (node.retry.max_attempts, node.repeatable) == (attempts, repeatable)


def test_every_key_of_retry_arrives_in_seconds() -> None:
    policy = (
        one_step(
            retry={
                "max_attempts": 7,
                "backoff": "linear",
                "initial_delay_ms": 250,
                "max_delay_ms": 4000,
                "jitter": "none",
                "max_duration_seconds": 60,
                "retry_on": ["timeout", "rate_limit"],
            }
        )
        .plan.main.by_id["a"]
        .retry
    )
    assert policy == RetryPolicy(
        max_attempts=7,
        backoff="linear",
        initial_delay=0.25,
        max_delay=4.0,
        jitter="none",
        max_duration=60,
        retry_on=frozenset({"timeout", "rate_limit"}),
    )


def test_a_long_first_delay_is_not_cut_by_the_default_cap() -> None:
    assert one_step(retry={"initial_delay_ms": 90_000}).plan.main.by_id["a"].retry.max_delay == 90.0


def test_the_definition_is_compact_json_in_the_author_s_order() -> None:
    workflow = compiled("steps:\n- type: tell\n  id: a\nname: é\n".replace("é", "x"))
    assert workflow.definition.document == b'{"steps":[{"type":"tell","id":"a"}],"name":"x"}'
    again = compile_workflow(orjson.loads(workflow.definition.document), kinds=KINDS)
    assert again.definition == workflow.definition


IDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True)


@settings(max_examples=30)
@given(st.data())
def test_compiling_is_deterministic_and_the_plan_has_every_step_after_no_missing_one(
    data: st.DataObject,
) -> None:
    ids = data.draw(IDS)
    steps: list[dict[str, Any]] = []
    for position, step in enumerate(ids):
        needs = data.draw(st.lists(st.sampled_from(ids[:position]), unique=True)) if position else []
        reads = data.draw(st.lists(st.sampled_from(ids[:position]), unique=True)) if position else []
        prompt = " ".join(f"{{{{ outputs.{read} }}}}" for read in reads) or "hi"
        steps.append({"id": step, "type": "ask", "prompt": prompt, "depends_on": needs})
    document = {"name": "x", "steps": steps}
    first, second = compiled(document), compiled(document)
    assert first.plan == second.plan
    assert first.definition == second.definition
    for node, written in zip(first.plan.main.nodes, steps, strict=True):
        assert node.id == written["id"]
        assert node.depends_on[: len(written["depends_on"])] == tuple(written["depends_on"])
        assert len(set(node.depends_on)) == len(node.depends_on)


def test_two_thousand_steps_in_a_chain_compile() -> None:
    steps = [{"id": "s0", "type": "ask", "prompt": "hi"}]
    steps += [
        {"id": f"s{n}", "type": "ask", "prompt": f"{{{{ steps.s{n - 1}.text }}}}"} for n in range(1, 2_000)
    ]
    workflow = compiled({"name": "x", "steps": steps})
    assert workflow.leaves == ("s1999",)
    assert workflow.plan.main.by_id["s1999"].depends_on == ("s1998",)


def test_two_thousand_steps_in_a_circle_are_refused() -> None:
    steps = [{"id": f"s{n}", "type": "tell", "depends_on": f"s{(n + 1) % 2_000}"} for n in range(2_000)]
    with pytest.raises(DefinitionInvalid) as refused:
        compiled({"name": "x", "steps": steps})
    assert len(refused.value.problems) == 1
