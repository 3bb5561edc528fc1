"""What a run used, over HTTP, and the budget of a submission."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.api.v1.schemas.runs import Run
from app.api.v1.schemas.usage import RunUsage
from app.ports.errors import TemporaryError
from app.ports.models import CallContext, ChatRequest, Usage
from app.ports.prices import Price, per_million
from app.providers.prices import ListPrices
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow
from tests.engines.test_waiting import until

PRICES = ListPrices(vendors={}, own={"own/m": Price(rate=per_million(input=1.0, output=10.0))})
"""A scripted call takes 3 tokens in and 2 out: 23 microdollars."""
CALL = 23e-6


async def script(request: ChatRequest, context: CallContext) -> str:
    if context.path == "flaky" and context.attempt == 1:
        raise TemporaryError("rate_limit", "slow down")
    return "no JSON" if context.path == "odd" and context.attempt == 1 and request.model != "m3" else "{}"


@pytest.fixture
async def service() -> AsyncIterator[Api]:
    async with api(script=script, prices=PRICES) as it:
        yield it


async def usage(service: Api, run_id: str) -> dict[str, Any]:
    answer = await service.client.get(f"/v1/runs/{run_id}/usage")
    assert answer.status_code == 200, answer.text
    RunUsage.model_validate(answer.json())
    found: dict[str, Any] = answer.json()
    return found


async def test_a_run_that_is_not_there_has_no_usage(service: Api) -> None:
    answer = await service.client.get("/v1/runs/0197d6a0-7c1e-7000-8000-000000000000/usage")
    problem(answer, 404, "run_not_found")


async def test_a_price_that_is_not_known_makes_the_cost_null(service: Api) -> None:
    run = await service.run(workflow(llm("a"), llm("b", model="dear")))
    found = await usage(service, run["id"])
    assert found["total"]["cost_usd"] is None
    assert found["unknown_prices"] == ["own/dear"]
    assert {model["model"]: model["cost_usd"] for model in found["models"]} == {
        "m": pytest.approx(CALL),
        "dear": None,
    }


async def test_tokens_that_no_vendor_counted_are_unknown_and_never_zero(service: Api) -> None:
    service.bench.chat.usage = lambda request, context: (
        Usage() if context.path == "a" else Usage(input_tokens=3)
    )
    run = await service.run(workflow(llm("a"), llm("b")))
    found = await usage(service, run["id"])
    steps = {step["step"]: (step["input_tokens"], step["output_tokens"]) for step in found["steps"]}
    assert steps == {"a": (None, None), "b": (3, None)}
    assert (found["total"]["input_tokens"], found["total"]["output_tokens"]) == (3, None)
    assert found["total"]["cost_usd"] is None
    assert found["unknown_prices"] == ["own/m"]
    answer = await service.client.get(f"/v1/runs/{run['id']}")
    assert answer.json()["usage"] == {"input_tokens": 3, "output_tokens": None}


async def test_a_run_without_calls_used_no_tokens(service: Api) -> None:
    run = await service.run(workflow({"id": "t", "type": "transform", "expression": "1"}))
    total = (await usage(service, run["id"]))["total"]
    assert {total[key] for key in ("calls", "input_tokens", "output_tokens", "cached_tokens")} == {0}


async def test_usage_is_summed_by_step_and_model_and_counts_answers_of_no_use(service: Api) -> None:
    each = {"id": "each", "type": "map", "items": [1, 2, 3], "steps": [llm("say")]}
    odd = llm("odd", response_schema={"type": "object"})
    run = await service.run(workflow(each, odd, llm("flaky")))
    found = await usage(service, run["id"])
    steps = {
        step["step"]: (step["instances"], step["attempts"], step["calls"], step["cost_usd"])
        for step in found["steps"]
    }
    assert steps == {
        "each.say": (3, 3, 3, pytest.approx(3 * CALL)),
        "odd": (1, 2, 2, pytest.approx(2 * CALL)),
        "flaky": (1, 2, 1, pytest.approx(CALL)),
    }
    assert found["total"] == {
        "calls": 6,
        "attempts": 7,
        "input_tokens": 18,
        "output_tokens": 12,
        "cached_tokens": None,
        "reasoning_tokens": None,
        "cost_usd": pytest.approx(6 * CALL),
    }
    assert found["budget"] is None


async def test_the_calls_of_one_attempt_count_by_their_models(service: Api) -> None:
    named = [{"provider": "own", "model": "dear"}, {"provider": "own", "model": "m3"}]
    run = await service.run(workflow(llm("odd", fallbacks=named, response_schema={"type": "object"})))
    found = await usage(service, run["id"])
    assert {model["model"]: model["calls"] for model in found["models"]} == {"m": 1, "dear": 1, "m3": 1}
    assert found["unknown_prices"] == ["own/dear", "own/m3"]
    answer = await service.client.get(f"/v1/runs/{run['id']}")
    (step,) = Run.model_validate(answer.json()).steps
    assert step.usage is not None
    assert [call.asked_model for call in step.usage.calls or ()] == ["m", "dear", "m3"]


async def test_what_the_cache_saved_is_told_apart(service: Api) -> None:
    document = workflow(llm("a", cache={"ttl_seconds": 60}))
    await service.run(document)
    run = await service.run(document)
    found = await usage(service, run["id"])
    assert (found["total"]["calls"], found["total"]["cost_usd"]) == (0, 0.0)
    assert (found["saved"]["calls"], found["saved"]["cost_usd"]) == (1, pytest.approx(CALL))


async def test_called_runs_stand_beside_and_count_in_the_budget(service: Api) -> None:
    child = {"name": "child", "steps": [llm("x")]}
    assert (await service.client.post("/v1/workflows", json=child)).status_code == 201
    call = {"id": "c", "type": "workflow", "workflow": "child"}
    run = await service.run(workflow(call, llm("a")), budget={"max_tokens": 10_000})
    found = await usage(service, run["id"])
    assert found["total"]["calls"] == 1
    (beside,) = found["children"]
    assert (beside["path"], beside["calls"], beside["cost_usd"]) == ("c", 1, pytest.approx(CALL))
    assert beside["links"]["usage"] == f"/v1/runs/{beside['run_id']}/usage"
    assert found["budget"] == {
        "max_cost_usd": None,
        "max_tokens": 10_000,
        "on_exceeded": "fail",
        "charged_tokens": 10,
        "charged_cost_usd": pytest.approx(2 * CALL),
    }


async def test_a_budget_that_bounds_nothing_is_refused(service: Api) -> None:
    body = {"workflow": workflow(llm("a")), "budget": {"on_exceeded": "pause"}}
    answer = await service.client.post("/v1/runs", json=body)
    (error,) = problem(answer, 422, "invalid_request").errors
    assert error.pointer == "/budget"


@pytest.mark.parametrize("by_name", [True, False])
async def test_a_submission_may_have_a_budget(service: Api, by_name: bool) -> None:
    document = {"name": "test", "steps": [llm("a")]}
    body: dict[str, Any] = {"budget": {"max_cost_usd": 0.000001}}
    if by_name:
        assert (await service.client.post("/v1/workflows", json=document)).status_code == 201
        answer = await service.client.post("/v1/workflows/test/runs?wait=10", json=body)
    else:
        answer = await service.client.post("/v1/runs?wait=10", json={"workflow": document, **body})
    run = answer.json()
    assert run["status"] == "failed"
    assert run["error"]["error_class"] == "budget_exceeded"


async def test_a_run_paused_for_its_budget_is_resumed_with_another(service: Api) -> None:
    body = {"workflow": workflow(llm("a")), "budget": {"max_tokens": 10, "on_exceeded": "pause"}}
    run = (await service.client.post("/v1/runs", json=body)).json()
    paused = await until(service.bench, run["id"], lambda history: history.state.paused)
    assert paused.state.pause_reason == "budget"
    raised = {"budget": {"max_tokens": 10_000}}
    answer = await service.client.post(f"/v1/runs/{run['id']}/resume", json=raised)
    assert answer.status_code == 202, answer.text
    history = await service.bench.finish(run["id"])
    assert history.status == "completed"
    found = await usage(service, run["id"])
    assert found["budget"]["max_tokens"] == 10_000
