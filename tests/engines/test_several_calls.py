"""Attempts that ask several models, or one several times: budgets, bills, caches and replays of them."""

from __future__ import annotations

from typing import Any

import pytest

from app.engines.history import History
from app.engines.recovery import RunLoader
from app.ports.errors import ErrorClass, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatRequest, Usage
from app.ports.prices import Price, per_million
from app.providers.prices import ListPrices
from app.services.usage import usage_of
from app.steps.bounds import CALL_TOKENS, MESSAGE_TOKENS
from tests.engines.harness import Bench, bench, llm, workflow

PROMPT = "say something"
INPUT = CALL_TOKENS + MESSAGE_TOKENS + len(PROMPT)
PRICES = ListPrices(
    vendors={},
    own={
        "own/m": Price(rate=per_million(input=1.0, output=10.0)),
        "own/dear": Price(rate=per_million(input=100.0, output=1000.0)),
    },
)
"""A call takes 3 tokens in and 2 out: 23 and 2,300 microdollars."""
USD = 1e-6


def ask(step_id: str = "a", **more: Any) -> dict[str, Any]:
    """A step with a fallback that costs a hundred times as much."""
    fallbacks = [{"provider": "own", "model": "dear", "max_tokens": 50}]
    return llm(step_id, PROMPT, max_tokens=99, retry="never", **{"fallbacks": fallbacks, **more})


def failing(*models: str, error_class: ErrorClass = "rate_limit") -> Any:
    async def script(request: ChatRequest, context: CallContext) -> str:
        if request.model in models:
            kind = PermanentError if error_class in {"context_length", "invalid_request"} else TemporaryError
            raise kind(error_class, f"{request.model} is {error_class}")
        return f"by {request.model}"

    return script


async def correcting(request: ChatRequest, context: CallContext) -> str:
    """Answers rightly once it was told what is wrong."""
    return "{}" if len(request.messages) > 1 else "no JSON"


def charged(history: History, path: str = "a") -> tuple[int, float]:
    (attempt,) = history.steps[path].attempts
    assert attempt.charged is not None
    return attempt.charged["tokens"], attempt.charged["cost"] / 1e12


# --- budgets ------------------------------------------------------------------------------------------


async def test_all_the_calls_of_an_attempt_must_fit_before_the_first_is_made() -> None:
    most = (INPUT + 99) + (INPUT + 50)
    async with bench() as it:
        history = await it.run(workflow(ask(), budget={"max_tokens": most - 1}))
        assert history.failure is not None
        assert history.failure.error_class == "budget_exceeded"
        assert f"{most:,} tokens" in history.failure.message
        assert not it.chat.calls
        assert (await it.run(workflow(ask(), budget={"max_tokens": most}))).status == "completed"


async def test_the_price_of_every_model_is_reserved() -> None:
    worst = (INPUT * 1 + 99 * 10 + INPUT * 100 + 50 * 1000) * USD
    async with bench(prices=PRICES) as it:
        tight = await it.run(workflow(ask(), budget={"max_cost_usd": worst * 0.99}))
        assert tight.failure is not None
        assert tight.failure.error_class == "budget_exceeded"
        assert (await it.run(workflow(ask(), budget={"max_cost_usd": worst}))).status == "completed"
        unknown = ask(fallbacks=[{"provider": "own", "model": "nobody knows"}])
        refused = await it.run(workflow(unknown, budget={"max_cost_usd": 100.0}))
        assert refused.failure is not None
        assert refused.failure.error_class == "unknown_price"


async def test_repairs_are_reserved_and_charged_as_they_were_used() -> None:
    step = ask(fallbacks=[], response_schema={"type": "object"}, on_invalid={"repair_attempts": 5})
    async with bench(script=correcting, prices=PRICES) as it:
        refused = await it.run(workflow(step, budget={"max_tokens": 6 * (INPUT + 99)}))
        assert refused.failure is not None
        assert refused.failure.error_class == "budget_exceeded"
        history = await it.run(workflow(step, budget={"max_tokens": 100_000}))
        assert history.status == "completed"
        assert charged(history) == pytest.approx((10, 46 * USD))


@pytest.mark.parametrize(
    ("error_class", "tokens", "dollars"),
    [
        ("rate_limit", 5, 2300 * USD),
        ("context_length", 5, 2300 * USD),
        ("timeout", 5 + INPUT + 99, (2300 + INPUT + 990) * USD),
    ],
)
async def test_a_call_without_an_answer_is_charged_where_it_may_be_billed(
    error_class: ErrorClass, tokens: int, dollars: float
) -> None:
    async with bench(script=failing("m", error_class=error_class), prices=PRICES) as it:
        history = await it.run(workflow(ask(), budget={"max_tokens": 100_000}))
        assert charged(history) == pytest.approx((tokens, dollars))


async def test_where_nobody_answers_only_what_may_be_billed_is_charged() -> None:
    async with bench(script=failing("m", "dear"), prices=PRICES) as it:
        history = await it.run(workflow(ask(), budget={"max_tokens": 100_000}))
        assert history.status == "failed"
        assert charged(history) == (0, 0.0)
    async with bench(script=failing("m", "dear", error_class="connection"), prices=PRICES) as it:
        history = await it.run(workflow(ask(), budget={"max_tokens": 100_000}))
        assert charged(history)[0] == 2 * INPUT + 149


def refusing(*models: str) -> Any:
    """As a circuit breaker does: with the class of the failures that opened it, and no call."""

    async def script(request: ChatRequest, context: CallContext) -> str:
        if request.model in models:
            error = TemporaryError("server_error", f"{request.model} was not called")
            error.unsent = True
            raise error
        return f"by {request.model}"

    return script


@pytest.mark.parametrize("fallbacks", [[], [{"provider": "own", "model": "dear"}]])
async def test_calls_that_were_not_made_cost_nothing(fallbacks: list[Any]) -> None:
    async with bench(script=refusing("m", "dear"), prices=PRICES) as it:
        history = await it.run(workflow(ask(fallbacks=fallbacks), budget={"max_tokens": 100_000}))
        assert history.status == "failed"
        assert charged(history) == (0, 0.0)


async def test_a_call_that_was_not_made_leaves_the_next_ones_bill() -> None:
    async with bench(script=refusing("m"), prices=PRICES) as it:
        history = await it.run(workflow(ask(), budget={"max_tokens": 100_000}))
        assert charged(history) == pytest.approx((5, 2300 * USD))


async def test_a_call_that_ends_the_attempt_leaves_those_uncharged_that_were_not_made() -> None:
    async def broken(request: ChatRequest, context: CallContext) -> str:
        raise TemporaryError("connection", "the line broke")

    step = ask(fallbacks=[], response_schema={}, on_invalid={"repair_attempts": 3})
    async with bench(script=broken) as it:
        history = await it.run(workflow(step, budget={"max_tokens": 100_000}))
        assert charged(history)[0] < 3000
        (attempt,) = history.steps["a"].attempts
        assert attempt.reserved is not None
        assert attempt.reserved["tokens"] > 6000


async def test_tokens_that_were_not_counted_are_charged_as_their_model_was_bounded() -> None:
    async with bench(script=failing("m")) as it:
        it.chat.usage = lambda request, context: Usage(output_tokens=7)
        history = await it.run(workflow(ask(), budget={"max_tokens": 100_000}))
        assert charged(history)[0] == INPUT + 7


# --- bills --------------------------------------------------------------------------------------------


async def bill(it: Bench, step: dict[str, Any]) -> dict[str, Any]:
    billing = (await it.run(workflow(step))).steps["a"].billing
    assert billing is not None
    return dict(billing)


async def test_the_plain_bill_is_as_ever() -> None:
    async with bench(prices=PRICES) as it:
        found = await bill(it, ask())
    assert "calls" not in found
    assert (found["model"], found["cost_usd"]) == ("m", pytest.approx(23 * USD))


async def test_a_bill_of_several_calls_has_each_of_them_at_its_price() -> None:
    async def script(request: ChatRequest, context: CallContext) -> str:
        return "no JSON" if request.model == "m" else "{}"

    async with bench(script=script, prices=PRICES) as it:
        found = await bill(it, ask(response_schema={}))
    assert (found["provider"], found["model"]) == ("own", "dear")
    assert (found["input_tokens"], found["output_tokens"]) == (6, 4)
    assert found["cost_usd"] == pytest.approx(2323 * USD)
    assert [(one["asked_model"], one["cost_usd"]) for one in found["calls"]] == [
        ("m", pytest.approx(23 * USD)),
        ("dear", pytest.approx(2300 * USD)),
    ]


async def test_a_call_of_unknown_outcome_is_on_the_bill_and_in_no_sum() -> None:
    async with bench(script=failing("m", error_class="timeout"), prices=PRICES) as it:
        found = await bill(it, ask())
    assert found["cost_usd"] == pytest.approx(2300 * USD)
    assert found["input_tokens"] == 3
    assert [one.get("error_class") for one in found["calls"]] == ["timeout", None]


async def test_a_price_that_is_not_known_makes_the_sum_unknown() -> None:
    async def script(request: ChatRequest, context: CallContext) -> str:
        return "no JSON" if request.model == "m" else "{}"

    step = ask(response_schema={}, fallbacks=[{"provider": "own", "model": "odd"}])
    async with bench(script=script, prices=PRICES) as it:
        found = await bill(it, step)
    assert found["cost_usd"] is None


async def test_usage_goes_by_the_model_that_was_called_failed_attempts_included() -> None:
    async def script(request: ChatRequest, context: CallContext) -> str:
        return "no JSON" if request.model == "m" or context.attempt == 1 else "{}"

    step = {**ask(response_schema={}), "retry": {"max_attempts": 2, "initial_delay_ms": 1}}
    async with bench(script=script, prices=PRICES) as it:
        run_id = await it.submit(workflow(step))
        await it.finish(run_id)
        stored = await RunLoader(it.store, it.catalog).load(run_id)
        assert stored is not None
        usage = usage_of(stored, it.prices)
    assert {one.model: one.figures.calls for one in usage.models} == {"m": 2, "dear": 2}
    assert (usage.total.calls, usage.attempts) == (4, 2)
    assert usage.total.cost_usd == pytest.approx(4646 * USD)


# --- caches and runs that are repeated ----------------------------------------------------------------


async def test_the_cache_keeps_who_answered_and_what_all_calls_cost() -> None:
    step = ask(cache={"ttl_seconds": 60})
    async with bench(script=failing("m", error_class="timeout"), prices=PRICES) as it:
        first = (await it.run(workflow(step))).steps["a"]
        second = (await it.run(workflow(step))).steps["a"]
        assert it.chat.calls.total() == 2
    assert second.outputs == first.outputs
    assert second.outputs is not None
    assert second.outputs["tried"][0]["model"] == "m"
    assert second.source == {"cache": True, "saved": first.billing}


@pytest.mark.parametrize(
    "changes",
    [
        {"fallbacks": [{"provider": "own", "model": "other"}]},
        {"fallbacks": [{"provider": "own", "model": "dear"}]},
        {"fallbacks": []},
        {"on_invalid": {"repair_attempts": 1}},
    ],
)
async def test_other_fallbacks_or_repairs_are_another_question(changes: dict[str, Any]) -> None:
    steps = [
        ask(cache={"ttl_seconds": 60}, response_schema={"type": "string"}, **more) for more in ({}, changes)
    ]
    async with bench(script=_json) as it:
        hashes = [(await it.run(workflow(step))).steps["a"].content_hash for step in steps]
        assert it.chat.calls.total() == 2
    assert hashes[0] != hashes[1]


async def _json(request: ChatRequest, context: CallContext) -> str:
    return '"fine"'


async def test_a_repeated_run_takes_over_an_answer_with_what_it_took() -> None:
    async with bench(script=failing("m")) as it:
        first = await it.run(workflow(ask()))
        again = await it.finish(await it.submit(workflow(ask()), reuse=first.state.run_id))
        assert it.chat.calls.total() == 2
    assert again.steps["a"].outputs == first.steps["a"].outputs
