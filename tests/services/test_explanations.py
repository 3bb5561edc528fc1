"""For every state that a step can be in there is a reason, and a way back to its roots."""

from __future__ import annotations

from typing import Any

import pytest

from app.engines.embedded import EngineLimits
from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import WorkflowRow
from app.services.errors import StepNotFound
from tests.engines.harness import Bench, bench, llm, workflow
from tests.services.reading import statuses, stuck, transform, until, why

CHAIN = workflow(llm("a"), llm("b", depends_on="a"), llm("c", depends_on="b"))


async def failing(request: ChatRequest, context: CallContext) -> str:
    raise PermanentError("invalid_request", "no such model")


async def flaky(request: ChatRequest, context: CallContext) -> str:
    raise TemporaryError("rate_limit", "slow down")


def each(*steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "each", "type": "map", "items": "inputs.numbers", "as": "n", "steps": list(steps), **more}


async def ended(it: Bench, document: dict[str, Any], inputs: dict[str, Any] | None = None) -> str:
    run_id = await it.submit(document, inputs)
    await it.finish(run_id)
    return run_id


# --- unknown steps ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("anser", "did you mean 'answer'?"),
        ("each[0].halv", "did you mean 'each[0].half'?"),
        ("each.half", "did you mean 'each[0].half'?"),
        ("each[0]", "such as 'each[0].half'"),
        ("each[2].half", "'each' has 2 items, counted from 0"),
        ("answer[0]", "did you mean 'answer'?"),
        ("answer.x", "read the run"),
        ("each[00].half", "read the run"),
        ("", "read the run"),
        ("a b/../c", "read the run"),
        ("x" * 5000, "read the run"),
    ],
)
async def test_a_step_that_cannot_be_is_not_found_and_the_nearest_is_named(path: str, hint: str) -> None:
    document = workflow(each(transform("half", "n // 2")), transform("answer", "1"))
    async with bench() as it:
        run_id = await ended(it, document, {"numbers": [1, 2]})
        with pytest.raises(StepNotFound) as refused:
            await why(it, run_id, path)
    assert hint in str(refused.value)
    assert len(str(refused.value)) < 500


# --- not begun ----------------------------------------------------------------------------------------


async def test_a_run_that_waits_for_its_turn_explains_all_its_steps() -> None:
    async with bench(script=stuck, limits=EngineLimits(max_active_runs=1, poll_seconds=0.02)) as it:
        await it.submit(CHAIN)
        second = await it.submit(CHAIN, priority=3)
        answer = await why(it, second, "c")
    assert (answer.status, answer.reason, answer.details["priority"]) == ("pending", "run_pending", 3)


async def test_a_pending_step_names_what_it_waits_for_back_to_what_is_under_way() -> None:
    async with bench(script=stuck) as it:
        run_id = await it.submit(CHAIN)
        await until(it, run_id, statuses(a="running"))
        answer = await why(it, run_id, "c")
    assert (answer.status, answer.reason) == ("pending", "dependencies")
    assert answer.summary == "It waits for 'b' to end."
    assert answer.details["waits_for"] == [{"path": "b", "status": "pending"}]
    assert [(cause.path, cause.reason) for cause in answer.caused_by] == [
        ("b", "dependencies"),
        ("a", "running"),
    ]


async def test_a_step_of_a_run_that_is_paused_for_its_budget_says_how_to_go_on() -> None:
    document = workflow(llm("a", max_tokens=100), budget={"max_tokens": 50, "on_exceeded": "pause"})
    async with bench() as it:
        run_id = await it.submit(document)
        await until(it, run_id, lambda history: history.status == "paused")
        answer = await why(it, run_id, "a")
    assert (answer.reason, answer.details["pause_reason"]) == ("run_paused", "budget")
    assert "tokens" in answer.details["pause_detail"]
    assert answer.details["pause_detail"].rstrip(".") in answer.summary
    assert f"POST /v1/runs/{run_id}/resume" in answer.summary


async def test_a_step_waits_for_its_turn_in_its_block_for_a_slot_or_for_the_end_of_a_pause() -> None:
    block = {"id": "fan", "type": "parallel", "max_concurrency": 1, "tasks": [llm("x"), llm("y")]}
    async with bench(script=stuck) as it:
        run_id = await it.submit(workflow(block))
        await until(it, run_id, statuses(**{"fan.x": "running"}))
        turn = await why(it, run_id, "fan.y")
        slots = await it.submit(workflow(llm("p"), llm("q"), max_concurrency=1))
        await until(it, slots, statuses(p="running"))
        slot = await why(it, slots, "q")
        await it.engine.pause(slots, reason="lunch")
        paused = await why(it, slots, "q")
    assert (turn.reason, turn.details["limit"], turn.details["ahead"]) == ("turn_in_block", 1, 0)
    assert [cause.path for cause in turn.caused_by] == ["fan.x"]
    assert (slot.reason, slot.details["limit"]) == ("run_slots", 1)
    assert [cause.path for cause in slot.caused_by] == ["p"]
    assert (paused.reason, paused.details) == ("run_paused", {"pause_reason": "lunch"})
    assert {turn.status, slot.status, paused.status} == {"pending"}


async def test_a_step_waits_for_a_slot_of_the_process() -> None:
    async with bench(script=stuck, attempt_slots=1) as it:
        run_id = await it.submit(workflow(llm("p"), llm("q")))
        await until(it, run_id, statuses(p="running"))
        answer = await why(it, run_id, "q")
    assert (answer.status, answer.reason) == ("pending", "process_slots")


# --- under way ----------------------------------------------------------------------------------------


async def test_a_running_step_tells_its_attempt_and_when_it_times_out() -> None:
    async with bench(script=stuck) as it:
        run_id = await it.submit(workflow(llm("a", timeout_seconds=60)))
        await until(it, run_id, statuses(a="running"))
        answer = await why(it, run_id, "a")
    assert (answer.status, answer.reason) == ("running", "running")
    assert (answer.details["attempt"], answer.details["tries_left"]) == (1, 2)
    assert answer.details["since"] < answer.details["times_out_at"]


async def test_a_retrying_step_tells_its_last_error_and_when_the_next_try_is_due() -> None:
    retry = {"max_attempts": 3, "initial_delay_ms": 60_000, "max_delay_ms": 60_000, "jitter": "none"}
    async with bench(script=flaky) as it:
        run_id = await it.submit(workflow(llm("a", retry=retry)))
        await until(it, run_id, statuses(a="retrying"))
        answer = await why(it, run_id, "a")
    assert (answer.status, answer.reason) == ("retrying", "retrying")
    assert answer.details["last_error"]["error_class"] == "rate_limit"
    assert (answer.details["tries_left"], answer.details["next_attempt"]) == (2, 2)
    assert answer.details["due_at"] in answer.summary


async def test_an_open_map_counts_its_items_and_names_what_is_under_way() -> None:
    document = workflow(each(llm("x"), max_concurrency=2))
    async with bench(script=stuck) as it:
        run_id = await it.submit(document, {"numbers": [1, 2, 3, 4, 5]})
        await until(it, run_id, statuses(**{"each[1].x": "running"}))
        answer = await why(it, run_id, "each")
        third = await why(it, run_id, "each[3].x")
    assert (answer.status, answer.reason) == ("running", "steps_within")
    assert answer.details["items"] == {"total": 5, "running": 2, "pending": 3}
    assert [cause.path for cause in answer.caused_by] == ["each[0].x", "each[1].x"]
    assert (third.status, third.reason) == ("pending", "item_not_begun")
    assert (third.details["item"], third.details["begun"]) == (3, 2)
    assert [cause.path for cause in third.caused_by] == ["each", "each[0].x", "each[1].x"]


async def test_a_waiting_step_tells_until_when() -> None:
    async with bench() as it:
        run_id = await it.submit(workflow({"id": "rest", "type": "wait", "seconds": 60}))
        await until(it, run_id, statuses(rest="waiting"))
        answer = await why(it, run_id, "rest")
    assert (answer.status, answer.reason) == ("waiting", "waiting_until")
    assert answer.details["until"] in answer.summary


async def test_an_approval_tells_who_may_answer_and_what_silence_means() -> None:
    ask = {
        "id": "ok",
        "type": "approval",
        "message": "send it?",
        "timeout_seconds": 60,
        "on_timeout": "reject",
    }
    async with bench() as it:
        run_id = await it.submit(workflow(ask))
        await until(it, run_id, statuses(ok="waiting"))
        answer = await why(it, run_id, "ok")
        (row,) = await it.store.approvals.list("default", statuses=frozenset({"pending"}), limit=9)
    assert (answer.status, answer.reason) == ("waiting", "approval")
    assert (answer.details["approval_id"], answer.details["message"]) == (row.id, "send it?")
    assert answer.details["roles"] == ["executor", "developer", "admin"]
    assert "silence means 'reject'" in answer.summary
    assert answer.see["approval"].id == row.id


async def test_a_called_run_is_named() -> None:
    async with bench(script=stuck) as it:
        child = it.catalog.compile(workflow(llm("x")))
        row = WorkflowRow(
            tenant="default",
            name="child",
            version="1",
            revision=1,
            definition_hash=child.definition.hash,
            description=None,
        )
        await it.store.workflows.register(row, child.definition)
        run_id = await it.submit(workflow({"id": "call", "type": "workflow", "workflow": "child"}))
        history = await until(it, run_id, statuses(call="waiting"))
        answer = await why(it, run_id, "call")
    control = history.state.steps["call"].control
    assert control is not None
    assert (answer.status, answer.reason) == ("waiting", "child_run")
    assert answer.see["child"].id == answer.details["run_id"] == control.child


# --- ended --------------------------------------------------------------------------------------------


async def test_a_false_condition_is_told_with_its_operands() -> None:
    document = workflow(
        transform("a", "inputs.text"),
        transform("b", "1", condition="{{ outputs.a }} == 'x' and inputs.missing.deep == 3"),
    )
    async with bench() as it:
        run_id = await ended(it, document, {"text": "y" * 10_000})
        answer = await why(it, run_id, "b")
    assert (answer.status, answer.reason) == ("skipped", "condition")
    told = answer.details["condition"]
    assert told["source"] == "{{ outputs.a }} == 'x' and inputs.missing.deep == 3"
    assert told["source"] in answer.summary
    missing, text = told["operands"]
    assert missing == {"name": "inputs.missing.deep", "value": None, "present": False, "cut": False}
    assert (text["name"], text["present"], text["cut"]) == ("outputs.a", True, True)
    assert 400 < len(text["value"]) < 600


@pytest.mark.parametrize(
    ("condition", "warned"), [("inputs.go", True), ("{{ inputs.go }}", True), ("inputs.go == 'no'", False)]
)
async def test_a_condition_that_is_only_a_text_is_told_to_hold_whatever_it_says(
    condition: str, warned: bool
) -> None:
    document = workflow(transform("gated", "1", condition=condition))
    async with bench() as it:
        run_id = await ended(it, document, {"go": "no"})
        told = await why(it, run_id, "gated")
    assert told.reason == "completed"
    assert told.details["condition"]["operands"][0]["value"] == "no"
    assert ("whatever it says" in told.summary) is warned


async def test_the_operands_within_a_map_are_those_of_the_item() -> None:
    document = workflow(each(transform("big", "n", condition="n > 1")))
    async with bench() as it:
        run_id = await ended(it, document, {"numbers": [1, 2]})
        skipped, ran = await why(it, run_id, "each[0].big"), await why(it, run_id, "each[1].big")
    assert skipped.details["condition"]["operands"] == [
        {"name": "n", "value": 1, "present": True, "cut": False}
    ]
    assert (ran.status, ran.reason) == ("completed", "completed")


async def test_a_skip_is_followed_to_its_root() -> None:
    document = workflow(
        transform("a", "1", condition="false"),
        transform("b", "1", depends_on="a"),
        transform("c", "1", depends_on="b"),
    )
    async with bench() as it:
        answer = await why(it, await ended(it, document), "c")
    assert (answer.reason, answer.more_causes) == ("upstream_skipped", False)
    assert [(cause.path, cause.reason) for cause in answer.caused_by] == [
        ("b", "upstream_skipped"),
        ("a", "condition"),
    ]


async def test_a_failure_is_followed_into_the_block_and_out_of_it() -> None:
    document = workflow(
        each(llm("x"), max_concurrency=1),
        transform("b", "1", depends_on="each"),
        transform("c", "1", depends_on="b"),
        transform("tidy", "1", run_on="failure", depends_on="calm"),
        transform("calm", "1"),
    )
    async with bench(script=failing) as it:
        run_id = await ended(it, document, {"numbers": [1, 2]})
        answer = await why(it, run_id, "c")
        tidy = await why(it, run_id, "tidy")
        never = await why(it, run_id, "each[1].x")
    assert answer.reason == "upstream_failed"
    assert [(cause.path, cause.status, cause.reason) for cause in answer.caused_by] == [
        ("b", "skipped", "upstream_failed"),
        ("each", "failed", "failed_within"),
        ("each[0].x", "failed", "failed"),
    ]
    assert "no such model" in answer.caused_by[-1].summary
    assert (tidy.status, tidy.reason) == ("skipped", "run_on")
    assert (never.status, never.reason) == ("skipped", "item_not_begun")
    assert never.caused_by[0].path == "each[0].x"


async def test_tries_that_were_used_up_are_counted() -> None:
    async with bench(script=flaky) as it:
        answer = await why(it, await ended(it, workflow(llm("a"))), "a")
    assert (answer.status, answer.reason, answer.details["tries"]) == ("failed", "tries_used_up", 3)
    assert answer.summary == "It failed 3 of 3 times, the last time with 'rate_limit': slow down."


async def test_a_condition_that_cannot_be_evaluated_is_told() -> None:
    document = workflow(transform("a", "1", condition="inputs.n > 3"))
    async with bench() as it:
        answer = await why(it, await ended(it, document, {"n": "text"}), "a")
    assert (answer.status, answer.reason) == ("failed", "condition_failed")
    assert answer.details["condition"]["operands"][0]["value"] == "text"


async def test_a_value_that_stands_in_is_told_with_the_error() -> None:
    document = workflow(llm("a", on_error={"action": "continue", "value": "-"}))
    async with bench(script=failing) as it:
        answer = await why(it, await ended(it, document), "a")
    assert (answer.status, answer.reason) == ("completed", "recovered")
    assert answer.details["error"]["error_class"] == "invalid_request"


async def test_outputs_without_a_call_tell_where_they_come_from() -> None:
    document = workflow(llm("a", cache={"ttl_seconds": 60}))
    async with bench() as it:
        first = await ended(it, document)
        plain = await why(it, first, "a")
        cached = await why(it, await ended(it, document), "a")
        again = await it.submit(workflow(llm("a")), reuse=await ended(it, workflow(llm("a"))))
        await it.finish(again)
        reused = await why(it, again, "a")
    assert plain.reason == "completed"
    assert cached.reason == "from_cache"
    assert cached.details["saved"]["input_tokens"] == 3
    assert reused.reason == "reused"
    assert reused.see["source"].id == reused.details["run_id"]


async def test_an_answer_tells_who_did_not_give_it_and_what_it_took() -> None:
    async def script(request: ChatRequest, context: CallContext) -> str:
        if request.model == "m":
            raise PermanentError("context_length", "too long")
        return "{}" if len(request.messages) > 1 else "no JSON"

    named = [{"provider": "own", "model": "larger"}]
    asked: dict[str, Any] = {"response_schema": {}, "on_invalid": {"repair_attempts": 1}}
    async with bench(script=script) as it:
        run_id = await ended(it, workflow(llm("a", fallbacks=named, **asked)))
        answer = await why(it, run_id, "a")
    assert answer.summary == (
        "It completed after one repair of its answer, answered by 'larger' because these were not able to: "
        "'m' of 'own' (context_length)."
    )
    assert answer.details["answered"] == {"provider": "own", "model": "larger"}
    assert answer.details["tried"][0]["error_class"] == "context_length"
    assert answer.details["repairs"] == 1


async def test_an_unanswered_approval_and_an_answered_one() -> None:
    ask = {"id": "ok", "type": "approval", "message": "?"}
    async with bench() as it:
        silent = await why(it, await ended(it, workflow({**ask, "timeout_seconds": 0.05})), "ok")
        run_id = await it.submit(workflow(ask))
        await until(it, run_id, statuses(ok="waiting"))
        await it.engine.answer(run_id, "ok", action="approve", data=None, by="ann")
        await it.finish(run_id)
        answered = await why(it, run_id, "ok")
    assert (silent.status, silent.reason) == ("failed", "not_answered")
    assert (answered.details["action"], answered.details["by"]) == ("approve", "ann")


async def test_a_cancelled_run_gives_its_reason_to_all_that_it_ended() -> None:
    document = workflow(each(llm("x"), max_concurrency=1), transform("b", "1", depends_on="each"))
    async with bench(script=stuck) as it:
        run_id = await it.submit(document, {"numbers": [1, 2]})
        await until(it, run_id, statuses(**{"each[0].x": "running"}))
        await it.engine.cancel(run_id, reason="withdrawn")
        await it.finish(run_id)
        answers = [await why(it, run_id, path) for path in ("each", "each[0].x", "b")]
        never = await why(it, run_id, "each[1].x")
    assert {(answer.status, answer.reason) for answer in answers} == {("cancelled", "run_cancelled")}
    assert answers[0].summary == "The run was cancelled: withdrawn."
    assert (never.status, never.reason) == ("cancelled", "item_not_begun")


async def test_a_block_that_took_too_long_is_named_by_what_it_ended() -> None:
    document = workflow(each(llm("x"), timeout_seconds=0.1))
    async with bench(script=stuck) as it:
        run_id = await ended(it, document, {"numbers": [1]})
        inner, owner = await why(it, run_id, "each[0].x"), await why(it, run_id, "each")
    assert (inner.status, inner.reason, inner.details["owner"]) == ("cancelled", "block_timed_out", "each")
    assert inner.caused_by[0].path == "each"
    assert (owner.status, owner.reason) == ("failed", "failed")
    assert owner.details["error"]["error_class"] == "timeout"


# --- blocks that were not opened ----------------------------------------------------------------------

ROUTE = {
    "id": "route",
    "type": "branch",
    "condition": "inputs.kind",
    "branches": {"short": [transform("say", "1")], "long": [transform("say", "2"), transform("more", "3")]},
    "default": [transform("other", "4")],
}


async def test_a_case_that_was_not_taken_tells_which_one_was_and_why() -> None:
    async with bench() as it:
        run_id = await ended(it, workflow(ROUTE), {"kind": "short"})
        more, other = await why(it, run_id, "route.more"), await why(it, run_id, "route.other")
        say = await why(it, run_id, "route.say")
    assert (more.status, more.reason) == ("skipped", "other_case_taken")
    assert (more.details["taken"], more.details["cases"]) == ("short", ["long"])
    assert more.details["selector"]["operands"][0]["value"] == "short"
    assert other.details["cases"] == ["default"]
    assert (say.status, say.reason) == ("completed", "completed")


async def test_a_block_whose_owner_was_skipped_leads_to_the_reason() -> None:
    document = workflow(transform("a", "1", condition="false"), {**ROUTE, "depends_on": "a"})
    async with bench() as it:
        answer = await why(it, await ended(it, document, {"kind": "short"}), "route.say")
    assert (answer.status, answer.reason) == ("skipped", "block_not_begun")
    assert [cause.path for cause in answer.caused_by] == ["route", "a"]


async def test_a_selector_that_failed_took_no_case() -> None:
    async with bench() as it:
        answer = await why(it, await ended(it, workflow(ROUTE), {"kind": ["short"]}), "route.more")
    assert (answer.status, answer.reason) == ("skipped", "block_not_begun")
    assert answer.caused_by[0].status == "failed"


async def test_iterations_that_were_not_needed_and_steps_deep_within_them() -> None:
    inner = {**ROUTE, "condition": "'long'"}
    loop = {"id": "again", "type": "loop", "max_iterations": 5, "until": "true", "steps": [inner]}
    async with bench() as it:
        run_id = await ended(it, workflow(loop))
        beyond = await why(it, run_id, "again[3].route.say")
        wrong = await why(it, run_id, "again[0].route.other")
        with pytest.raises(StepNotFound, match="at most 5 iterations"):
            await why(it, run_id, "again[5].route.say")
    assert (beyond.status, beyond.reason) == ("skipped", "iteration_not_needed")
    assert beyond.summary == "The loop 'again' needed 1 of at most 5 iterations."
    assert (wrong.status, wrong.reason) == ("skipped", "other_case_taken")


async def test_stages_that_were_not_reached() -> None:
    handlers: dict[str, Any] = {"on_failure": [transform("alarm", "1")], "finally": [transform("tidy", "1")]}
    async with bench(script=stuck) as it:
        run_id = await it.submit(workflow(llm("a"), **handlers))
        await until(it, run_id, statuses(a="running"))
        answers = [await why(it, run_id, path) for path in ("on_failure.alarm", "finally.tidy")]
        done = await ended(it, workflow(transform("a", "1"), **handlers))
        alarm, tidy = await why(it, done, "on_failure.alarm"), await why(it, done, "finally.tidy")
    assert {(answer.status, answer.reason) for answer in answers} == {("pending", "stage_not_reached")}
    assert [cause.path for cause in answers[0].caused_by] == ["a"]
    assert (alarm.status, alarm.reason) == ("skipped", "stage_not_reached")
    assert (tidy.status, tidy.reason) == ("completed", "completed")
