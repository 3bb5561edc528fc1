"""Which model made the vectors of a step, and what its author is told where two of them meet in one index."""

from __future__ import annotations

from typing import Any

import pytest

from app.dsl.compiled import CompiledWorkflow, IndexUse
from app.dsl.compiler import compile_workflow
from app.ports.errors import DefinitionInvalid
from app.ports.index_contracts import Offered
from app.ports.problems import Problem
from app.steps.registry import STEP_KINDS
from app.templating.limits import RenderLimits
from app.templating.renderer import Renderer

A, B = "text-embedding-3-small", "embed-english-v3.0"
Step = dict[str, Any]


def embed(id: str, model: str = A, **more: Any) -> Step:
    return {"id": id, "type": "embed", "provider": "p", "model": model, "input": ["x"], **more}


def search(query: Any, id: str = "find", **more: Any) -> Step:
    return {"id": id, "type": "vector_search", "database": "db", "index": "kb", "query": query, **more}


def upsert(vectors: Any, id: str = "put", **more: Any) -> Step:
    return {"id": id, "type": "vector_upsert", "database": "db", "index": "kb", "vectors": vectors, **more}


def transform(id: str, *inputs: str, **more: Any) -> Step:
    return {"id": id, "type": "transform", "function": "zip", "inputs": list(inputs), **more}


def record(vector: Any, id: str = "r") -> Step:
    return {"id": id, "vector": vector}


def compiled(*steps: Step, **more: Any) -> CompiledWorkflow:
    return compile_workflow({"name": "w", "steps": list(steps), **more}, kinds=STEP_KINDS)


def uses(*steps: Step, **more: Any) -> dict[str, IndexUse]:
    return {use.key: use for use in compiled(*steps, **more).index_uses}


def model_of(key: str, *steps: Step, **more: Any) -> str | None:
    workflow = compiled(*steps, **more)
    (use,) = [use for use in workflow.index_uses if use.key == key]
    found = workflow.steps[key].embedding_model
    made_by = found.assemble(()) if found is not None and found.constant else None
    assert made_by in (None, use.offered.model)
    return use.offered.model


# --- problems and warnings ----------------------------------------------------------------------------


def refused(*steps: Step) -> list[Problem]:
    with pytest.raises(DefinitionInvalid) as found:
        compiled(*steps)
    return list(found.value.problems)


def test_records_of_two_models_in_one_upsert_are_a_problem_at_the_second() -> None:
    records = [record("{{ steps.a.vector }}"), record("{{ steps.b.vectors[0] }}", "s")]
    (problem,) = refused(embed("a"), embed("b", B), upsert(records))
    assert problem.pointer == "/steps/2/vectors/1/vector"
    assert problem.detail == (
        f"vectors of two models cannot stand in one index: these are of {B!r}, those before them of {A!r}"
    )
    assert problem.hint is not None


def test_an_author_who_names_the_model_is_believed() -> None:
    records = [record("{{ steps.a.vector }}"), record("{{ steps.b.vector }}", "s")]
    assert model_of("put", embed("a"), embed("b", "my-deployment"), upsert(records, embedding_model=A)) == A
    assert model_of("put", embed("a"), upsert(records[:1], embedding_model="{{ inputs.m }}")) is None
    assert model_of("put", embed("a"), upsert(records[:1], embedding_model=None)) == A


def test_what_may_be_of_two_models_is_a_warning() -> None:
    either = upsert("{{ steps.a.vectors if inputs.x else steps.b.vectors }}")
    (warning,) = compiled(embed("a"), embed("b", B), either).warnings
    assert warning.pointer == "/steps/2/vectors"
    assert repr(A) in warning.detail
    assert repr(B) in warning.detail
    assert model_of("put", embed("a"), embed("b", B), either) is None
    assert not compiled(embed("a"), embed("b", B), {**either, "index": "{{ inputs.i }}"}).warnings


def test_two_steps_that_use_one_index_with_different_models_are_a_warning_at_the_second() -> None:
    fill = upsert([record("{{ steps.a.vector }}")])
    (warning,) = compiled(embed("a"), embed("b", B), fill, search("{{ steps.b.vector }}")).warnings
    assert warning.pointer == "/steps/3/query"
    assert warning.detail == (
        f"this searches index 'kb' of 'db' with vectors made by {B!r}, "
        f"and step 'put' fills it with vectors made by {A!r}"
    )
    longer = embed("b", A, dimensions=512)
    (warning,) = compiled(
        embed("a", dimensions=256), longer, fill, search("{{ steps.b.vector }}", "s")
    ).warnings
    assert "with 512 dimensions" in warning.detail


def test_a_length_that_is_written_out_counts() -> None:
    found = uses(search([1, 2, 3], "s"), upsert([record([1, 2])]), search("{{ inputs.q }}", "t"))
    assert [use.offered.dimensions for use in found.values()] == [3, 2, None]
    assert len(compiled(search([1, 2, 3], "s"), upsert([record([1, 2])])).warnings) == 1


@pytest.mark.parametrize(
    "change", [{"index": "other"}, {"database": "other"}, {"index": "{{ inputs.i }}"}, {"embedding_model": A}]
)
def test_two_indexes_may_have_two_models(change: dict[str, Any]) -> None:
    fill = upsert([record("{{ steps.a.vector }}")])
    find = search("{{ steps.b.vector }}", **change)
    assert compiled(embed("a"), embed("b", B), fill, find).warnings == ()


# --- where vectors come from --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "{{ steps.a.vector }}",
        "{{ outputs.a }}",
        "{{ steps.a.qv }}",
        "{{ outputs.qv }}",
        "{{ steps.a.vectors[0] }}",
    ],
)
def test_a_vector_is_of_the_step_that_makes_it(query: str) -> None:
    assert model_of("find", embed("a", output=["qv"]), embed("b", B), search(query)) == A


@pytest.mark.parametrize("query", ["{{ inputs.q }}", "{{ steps.page.body }}", [1, 2]])
def test_what_no_embed_step_makes_is_of_no_model(query: Any) -> None:
    page = {"id": "page", "type": "http", "url": "https://example.com/{{ steps.a.model }}"}
    assert model_of("find", embed("a"), page, search(query)) is None


def test_a_model_that_an_input_names_is_known_when_the_step_runs() -> None:
    named = embed("a", "{{ inputs.m }}", dimensions=64)
    workflow = compiled(named, search("{{ steps.a.vector }}"))
    (found,) = workflow.index_uses
    assert (found.offered, found.index, found.writes) == (Offered(model=None, dimensions=64), "kb", False)
    assert found.made_by == "{{ inputs.m }}"
    model = workflow.steps["find"].embedding_model
    assert model is not None
    assert Renderer(RenderLimits()).render_inline(model, {"inputs": {"m": A}}) == A


def test_a_model_that_another_step_names_or_of_two_templates_is_not_known() -> None:
    named, other = embed("a", "{{ inputs.m }}"), embed("b", "{{ steps.a.model }}")
    for steps in (
        [named, other, search("{{ steps.b.vector }}")],
        [named, embed("b"), search("{{ steps.a.vector or steps.b.vector }}")],
        [named, embed("b", "{{ inputs.n }}"), search("{{ steps.a.vector or steps.b.vector }}")],
    ):
        assert compiled(*steps).steps["find"].embedding_model is None


def test_only_vectors_of_a_record_count_and_not_what_it_tells_of_others() -> None:
    told = {
        **record("{{ steps.a.vector }}"),
        "metadata": {"by": "{{ steps.b.model }}", "x": "{{ steps.c.x }}"},
    }
    of_text = {"id": "c", "type": "transform", "expression": "steps.b.vectors", "output": ["x"]}
    assert model_of("put", embed("a"), embed("b", B), of_text, upsert([told])) == A
    assert model_of("put", embed("a"), embed("b", B), upsert("{{ [steps.a.vector, steps.b.model] }}")) == A


def test_vectors_are_followed_through_transforms() -> None:
    steps = [
        embed("a"),
        {"id": "chunks", "type": "transform", "function": "chunk", "inputs": "{{ inputs.text }}"},
        transform("records", "chunks", "a"),
        {"id": "picked", "type": "transform", "expression": "steps.records.result[0]"},
        upsert("{{ steps.picked.result }}"),
    ]
    assert model_of("put", *steps, inputs={"properties": {"text": {}}}) == A


def test_a_search_passes_no_vectors_on() -> None:
    """What is found in one index is embedded anew for another."""
    steps = [embed("a"), search("{{ steps.a.vector }}"), embed("b", B), transform("both", "find", "b")]
    other = upsert("{{ steps.both.result }}", index="other")
    assert model_of("put", *steps, other) == B


def test_vectors_are_followed_through_a_map_and_its_items() -> None:
    each = {
        "id": "each",
        "type": "map",
        "items": "inputs.texts",
        "as": "text",
        "steps": [embed("q"), search("{{ steps.q.vector }}"), embed("v", B), transform("one", "find", "v")],
    }
    assert model_of("put", each, upsert("{{ steps.each.results }}", index="o")) == B
    assert model_of("each.find", each) == A
    again = {
        "id": "again",
        "type": "map",
        "items": "steps.each.results",
        "steps": [upsert([record("{{ item.vector }}")], index="o"), search("{{ index }}", "i")],
    }
    assert model_of("again.put", each, again) == B
    assert model_of("again.i", each, again) is None
    outer = {
        "id": "outer",
        "type": "map",
        "items": "steps.each.results",
        "steps": [{**again, "items": "item"}],
    }
    assert model_of("outer.again.put", each, outer) == B


def test_vectors_are_followed_into_branches_loops_and_parallel_tasks() -> None:
    route = {
        "id": "route",
        "type": "branch",
        "condition": "inputs.way",
        "branches": {"x": [embed("v")], "y": [embed("w", B)]},
        "default": [embed("v")],
    }
    assert model_of("find", route, search("{{ steps.route.v }}")) == A
    assert model_of("find", route, search("{{ steps.route.w }}")) == B
    assert model_of("put", route, upsert("{{ steps.route }}")) is None
    tasks = {
        "id": "par",
        "type": "parallel",
        "tasks": [embed("v"), embed("w", B)],
        "output": ["first", "next"],
    }
    assert model_of("find", tasks, search("{{ steps.par.w }}")) == B
    assert model_of("find", tasks, search("{{ steps.par.first }}")) == A
    again = {
        "id": "again",
        "type": "loop",
        "max_iterations": 2,
        "steps": [embed("v"), embed("w", B), search("{{ loop.last.v or steps.v.vector }}", depends_on=["v"])],
    }
    assert model_of("again.find", again) == A
    assert model_of("s", again, search("{{ steps.again.last.w }}", "s")) == B


def test_a_loop_that_reads_itself_comes_to_an_end() -> None:
    again = {
        "id": "again",
        "type": "loop",
        "steps": [
            embed("v"),
            {"id": "grow", "type": "transform", "expression": "[loop.last.grow, steps.v.vector]"},
        ],
    }
    assert model_of("put", again, upsert("{{ steps.again.last.grow }}")) == A


def test_handlers_see_the_steps_of_the_workflow() -> None:
    late = [search("{{ steps.a.vector }}")]
    assert model_of("finally.find", embed("a"), **{"finally": late}) == A


def test_a_long_chain_costs_its_length() -> None:
    chain = [embed("a"), *(transform(f"t{n}", f"t{n - 1}" if n else "a") for n in range(2_000))]
    puts = [upsert(f"{{{{ steps.t{1_999 - n}.result }}}}", f"put{n}") for n in range(1_000)]
    found = uses(*chain, *puts)
    assert {use.offered.model for use in found.values()} == {A}
