"""What outputs are called where templates read them."""

from __future__ import annotations

from app.dsl.compiler import compile_workflow
from app.dsl.loader import load_document
from app.dsl.naming import OutputNames
from tests.dsl.kinds import KINDS


def names_of(source: str) -> dict[str, OutputNames]:
    """The names of each step of a document."""
    steps = compile_workflow(load_document(source), kinds=KINDS).steps
    return {step: compiled.names for step, compiled in steps.items()}


def test_a_kind_without_outputs_has_null_as_its_first() -> None:
    names = names_of("name: x\nsteps: [{id: t, type: tell}]")["t"]
    assert names.under_steps({}) == {}
    assert names.under_outputs({}) == {"t": None}
    assert names.recovered("value") == {}


def test_names_of_the_author_stand_beside_the_kind_s() -> None:
    names = names_of("name: x\nsteps: [{id: a, type: ask, prompt: hi, output: [reply, by]}]")["a"]
    assert names.known == ("text", "model", "reply", "by")
    outputs = {"text": "hello", "model": "m"}
    assert names.under_steps(outputs) == {"text": "hello", "model": "m", "reply": "hello", "by": "m"}
    assert names.under_outputs(outputs) == {"a": "hello", "reply": "hello", "by": "m"}


def test_a_name_may_repeat_the_kind_s_at_its_own_position() -> None:
    names = names_of("name: x\nsteps: [{id: a, type: ask, prompt: hi, output: [text]}]")["a"]
    assert names.known == ("text", "model")
    assert names.under_outputs({"text": 1, "model": 2}) == {"a": 1, "text": 1}


def test_a_name_of_two_steps_or_of_a_step_is_no_name_of_its_own() -> None:
    names = names_of(
        "name: x\nsteps:\n- {id: a, type: ask, prompt: hi, output: [n, b]}\n"
        "- {id: b, type: ask, prompt: hi, output: [n, own]}\n"
    )
    assert names["a"].under_outputs({"text": 1, "model": 2}) == {"a": 1}
    assert names["b"].under_outputs({"text": 3, "model": 4}) == {"b": 3, "own": 4}
    assert names["a"].under_steps({"text": 1, "model": 2}) == {"text": 1, "model": 2, "n": 1, "b": 2}


def test_an_output_that_an_attempt_did_not_bring_has_no_other_name_either() -> None:
    names = OutputNames(step="a", own=("text", "model"), given=("reply", "by"), aliases={"by": "model"})
    assert names.under_steps({"text": 1}) == {"text": 1, "reply": 1}
    assert names.under_outputs({"text": 1}) == {"a": 1}


def test_the_value_of_on_error_is_the_first_output() -> None:
    names = OutputNames(step="a", own=("text", "model"))
    assert names.recovered(["x"]) == {"text": ["x"], "model": None}
