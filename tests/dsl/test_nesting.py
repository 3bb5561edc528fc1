"""What steps within steps compile to: blocks, keys, and who waits for whom."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.plan import (
    Approval,
    Block,
    Branch,
    Child,
    Loop,
    Map,
    Node,
    Parallel,
    RetryPolicy,
    Wait,
    all_nodes,
)
from app.dsl.compiled import CompiledWorkflow
from app.dsl.compiler import compile_workflow
from app.dsl.limits import DEEPEST_BLOCKS
from app.dsl.loader import load_document
from app.dsl.policies import PlanDefaults
from app.steps.kind import RENDERED
from tests.dsl.kinds import KINDS


def compiled(source: str | dict[str, Any], **defaults: Any) -> CompiledWorkflow:
    """A document of the small kinds."""
    document = load_document(source) if isinstance(source, str) else source
    return compile_workflow(document, kinds=KINDS, defaults=PlanDefaults(**defaults))


def keys(block: Block | None) -> list[str]:
    assert block is not None
    return [node.key for node in block.nodes]


def body(node: Node) -> Block:
    """The only block within a step."""
    assert isinstance(node.control, Parallel | Map | Loop)
    return node.control.body


ALL_KINDS = """\
name: x
inputs: {properties: {rows: {type: array}, to: {type: string}}}
steps:
- {id: first, type: ask, prompt: hi, output: [reply]}
- id: route
  type: branch
  condition: steps.first.text
  branches:
    spam: {id: refuse, type: tell}
    "true":
    - {id: greet, type: ask, prompt: hi}
    - {id: thank, type: ask, prompt: "{{ steps.greet.text }} {{ outputs.reply }}"}
    nothing: []
  default: [{id: other, type: tell}]
- id: fan
  type: parallel
  max_concurrency: 2
  tasks:
  - {id: legal, type: ask, prompt: hi}
  - {id: sales, type: ask, prompt: "{{ inputs.to }}"}
- id: each
  type: map
  items: inputs.rows
  as: row
  max_concurrency: 5
  on_item_error: drop
  steps:
  - {id: read, type: ask, prompt: "{{ row.text }} {{ index }}"}
  - {id: note, type: ask, prompt: "{{ steps.read.text }} {{ steps.fan.legal }}"}
- id: again
  type: loop
  until: "steps.judge.text == 'good' or loop.iteration > 2"
  max_iterations: 4
  steps:
  - {id: draft, type: ask, prompt: "{{ loop.last.judge | default('') }}"}
  - {id: judge, type: ask, prompt: "{{ steps.draft.text }}"}
- {id: child, type: workflow, workflow: other, version: "1", inputs: {a: "{{ outputs.each }}"}, wait: false}
- {id: pause, type: wait, seconds: 5}
- id: ok
  type: approval
  message: "Send {{ steps.again.last.draft }}?"
  form: {type: object, properties: {why: {type: string}}}
  timeout_seconds: 60
  on_timeout: reject
  depends_on: pause
- id: report
  type: tell
  message: >-
    {{ steps.route.taken }} {{ steps.route.thank }} {{ steps.fan.sales }} {{ outputs.fan.legal }}
    {{ steps.each.results }} {{ steps.each.errors }} {{ steps.again.last.judge }} {{ steps.again.iterations }}
    {{ steps.child.anything }} {{ steps.child.run_id }} {{ steps.ok.action }} {{ steps.ok.data.why }}
    {{ steps.ok.by }} {{ outputs.child }}
"""


def test_every_control_kind_becomes_what_the_scheduler_carries_out() -> None:
    plan = compiled(ALL_KINDS).plan.main.by_id
    route = plan["route"].control
    assert isinstance(route, Branch)
    assert {case: keys(block) for case, block in route.cases.items()} == {
        "spam": ["route[spam].refuse"],
        "true": ["route[true].greet", "route[true].thank"],
        "nothing": [],
    }
    assert keys(route.default) == ["route.other"]
    assert isinstance(plan["fan"].control, Parallel)
    assert plan["fan"].control.max_concurrency == 2
    each = plan["each"].control
    assert isinstance(each, Map)
    assert (each.max_concurrency, each.on_item_error) == (5, "drop")
    again = plan["again"].control
    assert isinstance(again, Loop)
    assert (again.max_iterations, again.conditional) == (4, True)
    assert plan["child"].control == Child(wait=False)
    assert plan["pause"].control == Wait()
    assert plan["ok"].control == Approval(on_timeout="reject")
    assert plan["ok"].timeout == 60


def test_every_step_has_its_key() -> None:
    workflow = compiled(ALL_KINDS)
    assert list(workflow.steps) == [
        "first", "route", "route[spam].refuse", "route[true].greet", "route[true].thank", "route.other",
        "fan", "fan.legal", "fan.sales", "each", "each.read", "each.note",
        "again", "again.draft", "again.judge", "child", "pause", "ok", "report",
    ]  # fmt: skip
    assert sorted(node.key for node in all_nodes(workflow.plan)) == sorted(workflow.steps)
    assert all(step.key == key and step.id == key.split(".")[-1] for key, step in workflow.steps.items())


def test_dependencies_stand_where_both_ends_live() -> None:
    plan = compiled(ALL_KINDS).plan.main.by_id
    assert {step: node.depends_on for step, node in plan.items() if node.depends_on} == {
        "route": ("first",),
        "each": ("fan",),
        "child": ("each",),
        "ok": ("pause", "again"),
        "report": ("route", "fan", "each", "again", "child", "ok"),
    }
    assert body(plan["each"]).by_id["note"].depends_on == ("read",)
    assert body(plan["again"]).by_id["judge"].depends_on == ("draft",)
    route = plan["route"].control
    assert isinstance(route, Branch)
    assert route.cases["true"].by_id["thank"].depends_on == ("greet",)


def test_the_runner_finds_what_it_renders() -> None:
    steps = compiled(ALL_KINDS).steps
    assert steps["again"].until is not None
    assert {(one.root, one.parts) for one in steps["again"].until.references} == {
        ("steps", ("judge", "text")),
        ("loop", ("iteration",)),
    }
    assert (steps["each"].item_name, steps["fan"].item_name) == ("row", "item")
    rendered = {key: step.config.assemble(["VALUE"] * len(step.config.parts)) for key, step in steps.items()}
    assert rendered["route"] == {"condition": "VALUE"}
    assert rendered["each"] == {"items": "VALUE", "as": "row", "max_concurrency": 5, "on_item_error": "drop"}
    assert rendered["again"] == {"max_iterations": 4}
    assert rendered["fan"] == {"max_concurrency": 2}
    assert rendered["pause"] == {"seconds": 5}
    assert rendered["child"] == {"workflow": "other", "version": "1", "inputs": {"a": "VALUE"}, "wait": False}
    for key in ("route", "again", "fan", "pause", "child", "ok"):
        steps[key].kind.config_model.model_validate(rendered[key], context=RENDERED)


def test_outputs_of_control_steps_are_named() -> None:
    steps = compiled(ALL_KINDS).steps
    assert steps["route"].names.own == ("taken", "refuse", "greet", "thank", "other")
    fan = steps["fan"].names
    assert fan.first({"legal": 1, "sales": 2}) == {"legal": 1, "sales": 2}
    assert fan.under_outputs({"legal": 1, "sales": 2}) == {"fan": {"legal": 1, "sales": 2}}
    assert fan.recovered({"legal": 0}) == {"legal": 0, "sales": None}
    assert fan.recovered(7) == {"legal": None, "sales": None}
    child = steps["child"].names
    ended = {"outputs": {"answer": 1, "run_id": "theirs"}, "run_id": "r"}
    assert child.under_steps(ended) == {"answer": 1, "run_id": "r", "outputs": ended["outputs"]}
    assert child.first(ended) == ended["outputs"]
    assert child.under_steps({"outputs": None, "run_id": "r"}) == {"outputs": None, "run_id": "r"}


def test_names_of_the_author_go_by_the_position_of_a_control_step_s_outputs() -> None:
    workflow = compiled("""\
name: x
steps:
- id: fan
  type: parallel
  output: [left]
  tasks: [{id: a, type: ask, prompt: hi}, {id: b, type: ask, prompt: hi}]
- {id: c, type: ask, prompt: "{{ steps.fan.left }} {{ outputs.left }}"}
""")
    names = workflow.steps["fan"].names
    assert names.under_outputs({"a": 1, "b": 2}) == {"left": 1, "fan": {"a": 1, "b": 2}}
    assert workflow.plan.main.by_id["c"].depends_on == ("fan",)


DEEP = """\
name: x
steps:
- {id: top, type: ask, prompt: hi}
- id: outer
  type: map
  items: [1, 2]
  steps:
  - {id: middle, type: ask, prompt: "{{ item }}"}
  - id: inner
    type: loop
    steps:
    - id: both
      type: parallel
      tasks:
      - {id: one, type: ask, prompt: "{{ steps.top.text }} {{ outputs.middle }} {{ item }} {{ loop.index }}"}
      - {id: two, type: ask, prompt: "{{ outputs.one }}", condition: "{{ outputs.middle }} == 'x'"}
"""


def test_a_reading_from_deep_within_makes_each_step_on_the_way_wait_for_what_lives_beside_it() -> None:
    plan = compiled(DEEP).plan
    outer = plan.main.by_id["outer"]
    assert outer.depends_on == ("top",)
    inner = body(outer).by_id["inner"]
    assert inner.depends_on == ("middle",)
    both = body(inner).by_id["both"]
    assert (both.key, both.depends_on) == ("outer.inner.both", ())
    two = body(both).by_id["two"]
    assert (two.key, two.depends_on, two.conditional) == ("outer.inner.both.two", ("one",), True)


def test_an_inner_name_shadows_an_outer_one() -> None:
    workflow = compiled("""\
name: x
steps:
- id: pages
  type: map
  items: [[1], [2]]
  as: page
  steps:
  - id: words
    type: map
    items: page
    steps: [{id: say, type: ask, prompt: "{{ page }} {{ item }} {{ index }}", output: [n]}]
  - {id: n2, type: ask, prompt: "{{ page }} {{ outputs.words }}", output: [n]}
  - {id: n3, type: ask, prompt: "{{ outputs.n }}"}
""")
    assert workflow.steps["pages.words.say"].names.aliases == {"n": "text"}
    assert workflow.steps["pages.n2"].names.aliases == {"n": "text"}
    pages = body(workflow.plan.main.by_id["pages"])
    assert pages.by_id["n3"].depends_on == ("n2",)


def test_siblings_may_use_the_same_ids() -> None:
    one = {"id": "a", "type": "map", "items": [1], "steps": [{"id": "s", "type": "tell"}]}
    workflow = compiled({"name": "x", "steps": [one, {**one, "id": "b"}]})
    assert list(workflow.steps) == ["a", "a.s", "b", "b.s"]


def test_handlers_read_every_step_and_wait_for_none() -> None:
    workflow = compiled("""\
name: x
steps:
- {id: a, type: ask, prompt: hi}
- {id: b, type: ask, prompt: hi}
on_failure:
- {id: tell, type: tell, message: "{{ run.error.path }} {{ run.error.class }} {{ steps.a.error.message }}"}
- {id: then, type: tell, message: "{{ steps.a.text | default('') }}", depends_on: tell}
finally:
- {id: tell, type: tell, message: "{{ run.status }} {{ steps | tojson }}"}
- id: each
  type: map
  items: steps.b.text
  steps: [{id: say, type: tell, message: "{{ item }} {{ outputs.a }}"}]
""")
    plan = workflow.plan
    assert keys(plan.main) == ["a", "b"]
    assert keys(plan.on_failure) == ["on_failure.tell", "on_failure.then"]
    assert keys(plan.finally_) == ["finally.tell", "finally.each"]
    assert plan.on_failure is not None
    assert plan.finally_ is not None
    assert plan.on_failure.by_id["then"].depends_on == ("tell",)
    assert [node.depends_on for node in plan.finally_.nodes] == [(), ()]
    assert workflow.leaves == ("a", "b")
    assert "finally.each.say" in workflow.steps


def test_policies_of_attempts_do_not_reach_control_steps() -> None:
    workflow = compiled(
        """\
name: x
defaults: {retry: 7, timeout_seconds: 9}
steps:
- {id: w, type: wait, seconds: 0}
- {id: m, type: map, items: [1], timeout_seconds: 100, steps: [{id: a, type: ask, prompt: hi}]}
""",
        step_timeout=300.0,
    )
    nodes = {node.key: node for node in all_nodes(workflow.plan)}
    assert (nodes["w"].retry, nodes["w"].timeout) == (RetryPolicy(), None)
    assert (nodes["m"].retry, nodes["m"].timeout) == (RetryPolicy(), 100)
    assert (nodes["m.a"].retry.max_attempts, nodes["m.a"].timeout) == (7, 9)


def test_common_keys_work_on_control_steps() -> None:
    workflow = compiled("""\
name: x
steps:
- {id: a, type: ask, prompt: hi}
- id: m
  type: map
  name: Each of them
  items: "{{ [1, 2] }}"
  depends_on: a
  condition: "outputs.a == 'go'"
  run_on: always
  on_error: {action: continue, value: []}
  output: [all]
  steps: [{id: s, type: tell}]
outputs: {all: "{{ outputs.all }}"}
""")
    node = workflow.plan.main.by_id["m"]
    assert (node.depends_on, node.conditional, node.run_on, node.continues) == (("a",), True, "always", True)
    assert workflow.steps["m"].label == "Each of them"


def test_the_loop_s_defaults() -> None:
    loop = compiled("""\
name: x
steps:
- {id: l, type: loop, steps: [{id: s, type: tell}]}
- {id: m, type: loop, until: true, steps: [{id: s, type: tell}]}
""").plan.main.by_id
    assert loop["l"].control == Loop(body=body(loop["l"]), max_iterations=10, conditional=False)
    assert loop["m"].control == Loop(body=body(loop["m"]), max_iterations=10, conditional=True)


def test_a_condition_of_a_loop_makes_the_loop_wait_for_what_it_reads_around_it() -> None:
    plan = compiled("""\
name: x
steps:
- {id: goal, type: ask, prompt: hi}
- {id: l, type: loop, until: outputs.s == outputs.goal, steps: [{id: s, type: ask, prompt: hi}]}
""").plan
    assert plan.main.by_id["l"].depends_on == ("goal",)


def test_rules_of_the_workflow_arrive() -> None:
    workflow = compiled("""\
name: x
inputs: {properties: {user: {type: string}}}
concurrency: {key: "{{ inputs.user }}", limit: 2, on_limit: cancel_oldest}
budget: {max_cost_usd: 0.5, max_tokens: 1000, on_exceeded: pause}
steps:
- {id: a, type: ask, prompt: hi}
- {id: b, type: ask, prompt: hi, cache: {ttl_seconds: 60, key: "k-{{ steps.a.text }}"}}
- {id: c, type: ask, prompt: hi, cache: {ttl_seconds: 0.5}}
""")
    rule, budget = workflow.concurrency, workflow.budget
    assert rule is not None
    assert rule.key is not None
    assert (rule.limit, rule.on_limit) == (2, "cancel_oldest")
    assert budget is not None
    assert (budget.max_cost_usd, budget.max_tokens, budget.on_exceeded) == (0.5, 1000, "pause")
    cache = workflow.steps["b"].cache
    assert cache is not None
    assert cache.ttl_seconds == 60
    assert cache.key is not None
    assert workflow.plan.main.by_id["b"].depends_on == ("a",)
    plain = workflow.steps["c"].cache
    assert plain is not None
    assert (plain.ttl_seconds, plain.key) == (0.5, None)


def nested(depth: int) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [{"id": "leaf", "type": "tell"}]
    for level in range(depth):
        steps = [{"id": f"p{level}", "type": "parallel", "tasks": steps}]
    return steps


def test_as_deep_as_may_be() -> None:
    workflow = compiled({"name": "x", "steps": nested(DEEPEST_BLOCKS)})
    assert max(key.count(".") for key in workflow.steps) == DEEPEST_BLOCKS


def test_thousands_of_blocks_beside_each_other_compile() -> None:
    steps = [
        {
            "id": f"m{n}",
            "type": "map",
            "items": [1],
            "steps": [
                {"id": "s", "type": "ask", "prompt": f"{{{{ steps.m{n - 1}.results }}}}" if n else "hi"}
            ],
        }
        for n in range(1_500)
    ]
    workflow = compiled({"name": "x", "steps": steps})
    assert workflow.plan.main.by_id["m1499"].depends_on == ("m1498",)


@st.composite
def blocks(draw: st.DrawFn, around: tuple[str, ...] = (), depth: int = 3) -> list[dict[str, Any]]:
    """Steps that read earlier ones of their own block and of those around it."""
    readable = around
    steps: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 3))):
        step = f"s{depth}{number}"
        kind = draw(st.sampled_from(["ask", "parallel", "map", "loop", "branch"] if depth else ["ask"]))
        read = draw(st.lists(st.sampled_from(readable), unique=True)) if readable else []
        own: dict[str, Any] = {"id": step, "type": kind}
        if kind == "ask":
            own["prompt"] = " ".join(f"{{{{ outputs.{name} }}}}" for name in read) or "hi"
        else:
            inner = draw(blocks((*readable,), depth - 1))
            holding: dict[str, dict[str, Any]] = {
                "parallel": {"tasks": inner},
                "map": {"items": [1], "steps": inner},
                "loop": {"until": "false", "steps": inner},
                "branch": {"condition": "'a'", "branches": {"a": inner}},
            }
            own |= holding[kind]
        steps.append(own)
        readable = (*readable, step)
    return steps


@settings(max_examples=40)
@given(blocks())
def test_what_reads_only_what_came_before_compiles_to_the_same_plan_every_time(
    steps: list[dict[str, Any]],
) -> None:
    document = {"name": "x", "steps": steps}
    first, second = compiled(document), compiled(document)
    assert first.plan == second.plan
    assert {node.key for node in all_nodes(first.plan)} == set(first.steps)


@pytest.mark.parametrize(
    ("literal", "text"), [(True, "true"), (3, "3"), (1.5, "1.5"), (None, "null"), ("a b", "a b")]
)
def test_selectors_are_compared_as_text(literal: object, text: str) -> None:
    kind = compiled(ALL_KINDS).steps["route"].kind
    model: Any = kind.config_model.model_validate({"condition": literal}, context=RENDERED)
    assert model.condition == text


def test_the_cases_of_a_branch_may_use_the_same_ids() -> None:
    document = """
name: x
steps:
- id: route
  type: branch
  condition: inputs.kind
  branches:
    a: [{id: say, type: tell, message: a}]
    b: [{id: say, type: tell, message: b}, {id: more, type: tell, depends_on: say, message: c}]
outputs: {said: "{{ steps.route.say }}"}
"""
    workflow = compiled(document)
    assert {"route[a].say", "route[b].say", "route[b].more"} <= set(workflow.steps)
    assert workflow.steps["route"].names.own == ("taken", "say", "more")
