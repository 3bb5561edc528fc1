"""What a run would do and use, before anything is called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.api.v1.schemas.plans import Plan
from app.ports.prices import Price, per_million
from app.providers.prices import ListPrices
from app.services.planner import Planner
from app.steps.bounds import CALL_TOKENS, MESSAGE_TOKENS
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow

PRICES = ListPrices(vendors={}, own={"own/m": Price(rate=per_million(input=1.0, output=10.0))})
OVERHEAD = CALL_TOKENS + MESSAGE_TOKENS
INPUTS = {"type": "object", "required": ["who"], "properties": {"who": {"type": "string"}, "docs": {}}}


@pytest.fixture
async def service() -> AsyncIterator[Api]:
    async with api(prices=PRICES) as it:
        yield it


async def plan(service: Api, document: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await service.client.post("/v1/workflows/plan", json={"workflow": document, **more})
    assert answer.status_code == 200, answer.text
    Plan.model_validate(answer.json())
    assert not service.bench.chat.calls
    found: dict[str, Any] = answer.json()
    return found


def step(found: dict[str, Any], key: str) -> dict[str, Any]:
    (one,) = [step for step in found["steps"] if step["step"] == key]
    return dict(one)


# --- refusals -----------------------------------------------------------------------------------------


async def test_what_takes_too_long_to_render_is_left_out(service: Api) -> None:
    it = service.bench
    compiled = it.catalog.compile(workflow(llm("a", prompt="Hello {{ inputs.who }}"), inputs=INPUTS))
    planner = Planner(compiled, renderer=it.renderer, prices=PRICES, max_tokens=None, seconds=0.0)
    await planner.walk({"who": "Ada"})
    (found,) = planner.steps
    assert found.known in {"partly", "unknown"}
    assert found.notes == ["/prompt is not rendered: those before took too long"]
    assert found.bounds.input_tokens is None


async def test_inputs_that_do_not_fit_are_refused_with_their_place(service: Api) -> None:
    body = {"workflow": workflow(llm("a"), inputs=INPUTS), "inputs": {"who": 5}}
    answer = await service.client.post("/v1/workflows/plan", json=body)
    (error,) = problem(answer, 422, "inputs_invalid").errors
    assert error.pointer == "/inputs/who"
    assert error.line == 1


async def test_a_workflow_that_is_not_registered_is_not_found(service: Api) -> None:
    answer = await service.client.post("/v1/workflows/plan", json={"workflow": "nothing"})
    problem(answer, 404, "workflow_not_found")


# --- what is rendered ---------------------------------------------------------------------------------


async def test_prompts_of_known_inputs_are_rendered_and_others_say_what_they_need(service: Api) -> None:
    document = workflow(
        llm("a", "Greet {{ inputs.who }}", max_tokens=10),
        llm("b", "{{ steps.a.text }}", system="For {{ inputs.who }}", max_tokens=10),
        inputs=INPUTS,
    )
    found = await plan(service, document, inputs={"who": "Ada"})
    first, second = step(found, "a"), step(found, "b")
    assert (first["known"], first["config"]["prompt"], first["needs"]) == ("known", "Greet Ada", [])
    assert (second["known"], second["needs"]) == ("partly", ["steps.a.text"])
    assert (second["config"]["system"], second["config"]["prompt"]) == ("For Ada", None)
    assert second["depends_on"] == ["a"]


async def test_a_registered_workflow_is_planned_by_name(service: Api) -> None:
    assert (await service.client.post("/v1/workflows", json=workflow(llm("a")))).status_code == 201
    answer = await service.client.post("/v1/workflows/plan", json={"workflow": "test"})
    assert answer.json()["steps"][0]["config"]["prompt"] == "say something"


async def test_a_template_that_fails_is_told(service: Api) -> None:
    document = workflow(llm("a", "{{ inputs.docs.title }}"), inputs=INPUTS)
    found = step(await plan(service, document, inputs={"who": "Ada"}), "a")
    assert found["known"] == "unknown"
    assert "cannot be rendered" in found["notes"][0]


# --- bounds -------------------------------------------------------------------------------------------


async def test_calls_tokens_and_cost_are_bounded_with_every_retry(service: Api) -> None:
    found = await plan(service, workflow(llm("a", "12345678", max_tokens=100)))
    most = OVERHEAD + 8
    assert found["at_most"] == {
        "attempts": 3,
        "model_calls": 3,
        "input_tokens": 3 * most,
        "output_tokens": 300,
        "cost_usd": pytest.approx(3 * (most + 1000) / 1e6),
        "input_tokens_estimate": 2,
    }


async def test_what_nothing_bounds_is_null(service: Api) -> None:
    found = await plan(service, workflow(llm("a"), llm("b", "{{ steps.a.text }}", max_tokens=5)))
    assert step(found, "a")["at_most"]["output_tokens"] is None
    assert step(found, "a")["at_most"]["cost_usd"] is None
    assert step(found, "b")["at_most"]["input_tokens"] is None
    assert step(found, "b")["at_most"]["output_tokens"] == 15
    assert found["at_most"]["model_calls"] == 6


async def test_a_price_that_is_not_known_is_named_and_makes_the_cost_null(service: Api) -> None:
    found = await plan(service, workflow(llm("a", model="dear", max_tokens=5)))
    assert found["unknown_prices"] == ["own/dear"]
    assert found["at_most"]["cost_usd"] is None


async def test_fallbacks_and_repairs_are_bounded_with_what_they_may_use(service: Api) -> None:
    named = [{"provider": "own", "model": "dear", "max_tokens": 7}]
    plain: dict[str, Any] = {"max_tokens": 10, "response_schema": {"type": "object"}}
    fallbacks = step(await plan(service, workflow(llm("a", fallbacks=named, **plain))), "a")["at_most"]
    assert (fallbacks["attempts"], fallbacks["model_calls"]) == (3, 6)
    assert (fallbacks["output_tokens"], fallbacks["cost_usd"]) == (3 * 17, None)
    repairs: dict[str, Any] = {"on_invalid": {"repair_attempts": 2}, **plain}
    repaired = step(await plan(service, workflow(llm("a", **repairs))), "a")["at_most"]
    once = step(await plan(service, workflow(llm("a", **plain))), "a")["at_most"]
    assert (repaired["model_calls"], repaired["output_tokens"]) == (9, 90)
    assert repaired["input_tokens"] > 3 * once["input_tokens"]
    assert repaired["input_tokens_estimate"] == once["input_tokens_estimate"]
    unasked = workflow(llm("b"), llm("a", "{{ steps.b.text }}", fallbacks=named, **repairs))
    unknown = step(await plan(service, unasked), "a")["at_most"]
    assert (unknown["model_calls"], unknown["output_tokens"]) == (18, 3 * 3 * 17)


async def test_fallbacks_that_are_not_known_bound_nothing(service: Api) -> None:
    document = workflow(llm("b"), llm("a", fallbacks="{{ steps.b.text }}", max_tokens=5))
    found = step(await plan(service, document), "a")["at_most"]
    assert (found["model_calls"], found["output_tokens"]) == (None, None)


async def test_a_map_of_many_items_is_multiplied_and_not_expanded(service: Api) -> None:
    each = {"id": "each", "type": "map", "items": "{{ inputs.docs }}", "as": "doc"}
    document = workflow(
        {**each, "steps": [llm("say", "About {{ doc }}", max_tokens=10)]},
        {"id": "again", "type": "loop", "max_iterations": 4, "steps": [llm("more", "x", max_tokens=10)]},
        inputs=INPUTS,
    )
    found = await plan(service, document, inputs={"who": "x", "docs": ["a", "longest", *["b"] * 9_998]})
    assert len(found["steps"]) == 4
    say = step(found, "each.say")
    assert (say["known"], say["config"]["prompt"]) == ("sample", "About longest")
    assert (say["instances"], say["at_most"]["model_calls"]) == (10_000, 30_000)
    assert (say["at_most"]["input_tokens"], say["at_most"]["output_tokens"]) == (None, 300_000)
    assert (step(found, "again.more")["instances"], found["at_most"]["attempts"]) == (4, 30_012)


async def test_items_that_are_not_known_bound_nothing(service: Api) -> None:
    each = {"id": "each", "type": "map", "items": "{{ steps.a.text }}", "steps": [llm("say", "x")]}
    found = await plan(service, workflow(llm("a"), each))
    assert step(found, "each.say")["instances"] is None
    assert found["at_most"]["model_calls"] is None


async def test_gates_and_branches_that_are_decided_leave_the_rest_out(service: Api) -> None:
    cases = {"Ada": [llm("yes", "x", max_tokens=5)], "Bob": [llm("no", "x", max_tokens=5)]}
    document = workflow(
        {"id": "pick", "type": "branch", "condition": "{{ inputs.who }}", "branches": cases},
        llm("never", "x", condition="inputs.who == 'Bob'"),
        inputs=INPUTS,
    )
    found = await plan(service, document, inputs={"who": "Ada"})
    assert {one["step"]: one["instances"] for one in found["steps"]} == {
        "pick": 1,
        "pick[Ada].yes": 1,
        "pick[Bob].no": 0,
        "never": 0,
    }
    assert found["at_most"]["model_calls"] == 3


async def test_what_a_called_workflow_uses_is_not_known(service: Api) -> None:
    found = await plan(service, workflow({"id": "c", "type": "workflow", "workflow": "child"}))
    assert found["at_most"]["model_calls"] is None


# --- budgets and configuration ------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "verdict"), [(100_000, "fits"), (1_000, "may_exceed"), (100, "exceeds")])
async def test_a_budget_is_held_against_the_worst_case(service: Api, tokens: int, verdict: str) -> None:
    found = await plan(service, workflow(llm("a")), budget={"max_tokens": tokens})
    assert found["budget"]["verdict"] == verdict
    assert found["at_most"]["output_tokens"] == 150  # the default of runs with a budget, three times


async def test_an_attempt_that_cannot_afford_its_fallback_exceeds_the_budget(service: Api) -> None:
    named = [{"provider": "own", "model": "other", "max_tokens": 900}]
    budget = {"max_tokens": 900 + OVERHEAD}
    document = workflow(llm("a", fallbacks=named, retry="never"))
    assert (await plan(service, document, budget=budget))["budget"]["verdict"] == "exceeds"


async def test_a_model_without_a_price_fails_a_run_whose_cost_is_bounded(service: Api) -> None:
    document = workflow(llm("a", model="dear", max_tokens=5), budget={"max_cost_usd": 5.0})
    found = await plan(service, document)
    assert (found["budget"]["verdict"], found["unknown_prices"]) == ("unpriced", ["own/dear"])
    failed = await service.run(document)
    assert failed["error"]["error_class"] == "unknown_price"
    bounded = workflow(llm("a", model="dear", max_tokens=5), budget={"max_tokens": 100_000})
    assert (await plan(service, bounded))["budget"]["verdict"] == "fits"


async def test_a_budget_of_what_is_not_known_has_no_verdict(service: Api) -> None:
    document = workflow(llm("b"), llm("a", "{{ steps.b.text }}"), budget={"max_cost_usd": 5.0})
    assert (await plan(service, document))["budget"]["verdict"] == "unknown"


async def test_what_the_configuration_lacks_is_told_with_its_place(service: Api) -> None:
    found = await plan(service, workflow({**llm("a"), "provider": "owm"}, llm("b")))
    misspelt, keyless = found["warnings"]
    assert (misspelt["pointer"], misspelt["hint"]) == (
        "/workflow/steps/0/provider",
        "did you mean 'own'?",
    )
    assert (keyless["pointer"], keyless["detail"]) == (
        "/workflow/steps/1/provider",
        "provider 'own' has no API key",
    )


async def test_a_fallback_without_a_key_is_told_too(service: Api) -> None:
    named = [{"provider": "own", "model": "other"}]
    found = await plan(service, workflow({**llm("a"), "provider": "{{ inputs.p }}", "fallbacks": named}))
    assert [(warning["pointer"], warning["detail"]) for warning in found["warnings"]] == [
        ("/workflow/steps/0/fallbacks/0/provider", "provider 'own' has no API key")
    ]


async def test_a_provider_that_a_template_yields_is_told_of_the_whole(service: Api) -> None:
    found = await plan(service, workflow({**llm("a"), "provider": "{{ 'own' }}"}))
    assert [warning["pointer"] for warning in found["warnings"]] == ["/workflow"]
