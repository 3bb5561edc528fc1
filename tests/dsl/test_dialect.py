"""Documents of the older dialect, compiled with the kinds that ship."""

from __future__ import annotations

from pathlib import Path

import jsonschema_rs
import pytest

from app.dsl.compiled import CompiledWorkflow
from app.dsl.compiler import compile_workflow
from app.dsl.loader import load_document
from app.dsl.schema import document_schema
from app.ports.errors import DefinitionInvalid
from app.steps.registry import STEP_KINDS
from tests.dsl.kinds import KINDS

EXAMPLES = Path(__file__).parents[2] / "examples" / "dialect"


def example(name: str) -> CompiledWorkflow:
    """A shipped document."""
    return compile_workflow(load_document((EXAMPLES / name).read_bytes()), kinds=STEP_KINDS)


@pytest.mark.parametrize(
    ("prompt", "hint"),
    [
        ("{{#each input.rows}}{{this.name}}{{/each}}", "write {% for item in input.rows %}…{% endfor %}"),
        ("{{#if input.vip}}Dear{{else}}Hi{{/if}}", "write {% if input.vip %}…{% endif %}"),
        ("{{#unless input.vip}}Hi{{/unless}}", "write {% if not input.vip %}…{% endif %}"),
        ("{{#each outputs.a}}{{@index}}{{/each}}", "write {{ loop.index0 }}"),
        ("{{> footer}}", "write the text of the partial 'footer' itself, in its place"),
        ("{{{input.html}}}", "write {{ input.html }} (nothing is escaped here, and there is no third brace)"),
    ],
)
def test_a_handlebars_block_is_refused_with_the_form_to_write(prompt: str, hint: str) -> None:
    source = f"name: x\nsteps:\n- id: a\n  type: llm\n  provider: p\n  model: m\n  prompt: '{prompt}'\n"
    with pytest.raises(DefinitionInvalid) as refused:
        compile_workflow(load_document(source), kinds=STEP_KINDS)
    found = [problem for problem in refused.value.problems if "Handlebars" in problem.detail]
    assert hint in [problem.hint for problem in found]
    assert {(problem.pointer, problem.line, problem.column) for problem in found} == {
        ("/steps/0/prompt", 7, 3)
    }


@pytest.mark.parametrize(
    ("name", "leaves"),
    [
        ("greeting.json", ("sign",)),
        ("guarded_answer.yaml", ("answer", "decline")),
        ("notices.yaml", ("tell", "remind")),
        ("optional_translation.yaml", ("translate",)),
        ("reshape.yaml", ("report",)),
        ("semantic_search.yaml", ("summarise",)),
    ],
)
def test_every_example_compiles(name: str, leaves: tuple[str, ...]) -> None:
    assert example(name).leaves == leaves


def test_every_example_is_known_here() -> None:
    assert len(list(EXAMPLES.iterdir())) == 6


def test_both_forms_of_conditions_are_gates() -> None:
    assert example("guarded_answer.yaml").plan.main.by_id["answer"].conditional
    assert example("optional_translation.yaml").plan.main.by_id["translate"].conditional


def test_names_by_position_and_first_outputs_are_dependencies() -> None:
    plan = example("semantic_search.yaml").plan
    assert plan.main.by_id["search"].depends_on == ("embed",)
    assert plan.main.by_id["summarise"].depends_on == ("search",)


def test_a_field_that_is_one_template_passes_the_value_itself() -> None:
    query = next(
        part
        for part in example("semantic_search.yaml").steps["search"].config.parts
        if part.pointer == "/query"
    )
    assert query.loaded.native


def test_transforms_take_names_of_steps_outputs_and_inputs() -> None:
    plan = example("reshape.yaml").plan
    assert plan.main.by_id["all_tickets"].depends_on == ("fetch_new", "fetch_open")
    assert plan.main.by_id["urgent"].depends_on == ("all_tickets",)
    assert plan.main.by_id["report"].depends_on == ("opening", "body")
    assert example("greeting.json").plan.main.by_id["sign"].depends_on == ("greet",)


def test_actions_have_free_names_and_parameters() -> None:
    workflow = example("notices.yaml")
    publish = workflow.steps["publish"].config
    assert {part.pointer for part in publish.parts} == {"/payload/feature", "/payload/note"}
    assert workflow.plan.main.by_id["publish"].depends_on == ("draft", "trace")
    assert workflow.plan.main.by_id["remind"].continues


def test_the_schema_for_editors_takes_every_example() -> None:
    schema = document_schema(STEP_KINDS)
    jsonschema_rs.meta.validate(schema)
    validator = jsonschema_rs.Draft202012Validator(schema)
    for path in EXAMPLES.iterdir():
        assert [
            error.message for error in validator.iter_errors(load_document(path.read_bytes()).value)
        ] == []


@pytest.mark.parametrize(
    ("step", "accepted"),
    [
        ({"id": "a", "type": "ask"}, False),
        ({"id": "a", "type": "ask", "prompt": "hi", "colour": "red"}, False),
        ({"id": "a", "type": "ask", "prompt": "hi", "heat": "hot"}, False),
        ({"id": "a b", "type": "tell"}, False),
        ({"id": "a", "type": "nothing"}, False),
        ({"id": "a", "type": "ask", "prompt": "hi", "heat": 1}, True),
        (
            {
                "id": "a",
                "type": "ask",
                "prompt": "hi",
                "heat": "{{ inputs.heat }}",
                "parts": ["{{ inputs.p }}"],
            },
            True,
        ),
        (
            {
                "id": "a",
                "type": "tell",
                "depends_on": "b",
                "output": "x",
                "retry": "never",
                "on_error": "fail",
            },
            True,
        ),
        (
            {"id": "a", "type": "tell", "depends_on": ["b"], "retry": {"max_attempts": 2}, "condition": True},
            True,
        ),
        ({"id": "a", "type": "tell", "retry": 3, "on_error": {"action": "continue", "value": [1]}}, True),
    ],
)
def test_the_schema_for_editors_knows_kinds_short_forms_and_templates(
    step: dict[str, object], accepted: bool
) -> None:
    validator = jsonschema_rs.Draft202012Validator(document_schema(KINDS))
    assert validator.is_valid({"name": "x", "version": 1.0, "steps": [step]}) is accepted


def test_references_of_the_schema_can_be_moved() -> None:
    schema = document_schema(KINDS, ref_template="#/components/schemas/{model}")
    assert schema["properties"]["steps"]["items"] == {"$ref": "#/components/schemas/Step"}
    kinds = {"Ask", "Compute", "Tell", "Branch", "Parallel", "Map", "Loop", "Workflow", "Wait", "Approval"}
    assert schema["$defs"]["Step"]["discriminator"]["mapping"] == {
        kind.lower(): f"#/components/schemas/{kind}Step" for kind in kinds
    }
    assert {"AskStep", "AskPart", "RetryDocument", "BranchStep"} <= schema["$defs"].keys()
