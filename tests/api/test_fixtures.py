"""A finished run as a recording: what is in it, and what must not be."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from app.engines.recording import Recording
from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatRequest
from app.replay import examine
from tests.api.harness import PROVIDER_SECRET, Api, api, problem
from tests.api.test_batches import ended
from tests.engines.harness import llm, workflow

MAIL = "ada@example.org"
DOCUMENT = workflow(
    llm("greet", prompt="Greet {{ inputs.mail }}."),
    {"id": "loud", "type": "transform", "expression": "steps.greet.text | upper"},
    llm("check", prompt="Is this fine?\n{{ steps.loud.result }}"),
    inputs={
        "type": "object",
        "properties": {"mail": {"type": "string"}, "age": {"type": "integer"}, "list": {}},
    },
    outputs={"answer": "{{ steps.check.text }}", "to": "{{ inputs.mail }}"},
)


async def greeting(request: ChatRequest, context: CallContext) -> str:
    return f"Hello {request.messages[-1].content}"


async def refuse(request: ChatRequest, context: CallContext) -> str:
    raise PermanentError("content_filter", f"no, {PROVIDER_SECRET}")


async def never(request: ChatRequest, context: CallContext) -> str:
    await asyncio.Event().wait()
    return ""


async def exported(service: Api, run_id: str, **body: Any) -> Recording:
    answer = await service.client.post(f"/v1/runs/{run_id}/fixture", json=body)
    assert answer.status_code == 200, answer.text
    return Recording.model_validate_json(answer.content)


class TestRefusals:
    async def test_a_run_that_is_not_there_or_not_over_cannot_be_recorded(self) -> None:
        async with api(script=never) as service:
            unknown = "/v1/runs/0197d6a0-7c1e-7000-8000-000000000000/fixture"
            problem(await service.client.post(unknown), 404, "run_not_found")
            body = {"workflow": DOCUMENT, "inputs": {"mail": MAIL, "list": [1]}}
            accepted = (await service.client.post("/v1/runs", json=body)).json()
            path = accepted["links"]["self"]
            problem(await service.client.post(f"{path}/fixture"), 409, "run_not_ended")
            await service.client.post(f"{path}/cancel")
            await ended(service.client, accepted["id"])
            problem(await service.client.post(f"{path}/fixture"), 409, "run_not_replayable")

    @pytest.mark.parametrize(
        ("pointer", "words"),
        [
            ("/outputs/answer", "neither an input nor an answer"),
            ("/steps/greet/config/prompt", "neither an input nor an answer"),
            ("/inputs/mali", "'mail'"),
            ("/inputs/list/²", "no '²'"),
            ("/steps/greed/outputs/text", "'greet'"),
        ],
    )
    async def test_a_pointer_to_nothing_that_can_be_redacted_is_refused(
        self, pointer: str, words: str
    ) -> None:
        async with api() as service:
            run = await service.run(DOCUMENT, inputs={"mail": MAIL, "list": [1]})
            answer = await service.client.post(f"/v1/runs/{run['id']}/fixture", json={"redact": [pointer]})
            found = problem(answer, 422, "fixture_invalid")
            assert found.errors[0].pointer == "/redact/0"
            assert words in f"{found.errors[0].detail} {found.errors[0].hint}"

    async def test_a_redaction_that_changes_the_course_of_the_run_is_refused(self) -> None:
        document = workflow(
            llm("a"),
            llm("b", condition="inputs.mail == 'ada@example.org'"),
            llm("c", condition="not steps.b"),
        )
        document = workflow(llm("b", condition=f"inputs.mail != '{MAIL}'"), llm("c"))
        async with api() as service:
            run = await service.run(document, inputs={"mail": MAIL})
            path = f"/v1/runs/{run['id']}/fixture"
            answer = await service.client.post(path, json={"redact": ["/inputs/mail"]})
            assert "another course at step 'b'" in (problem(answer, 422, "fixture_invalid").detail or "")


class TestRecordings:
    async def test_what_was_taken_out_of_the_inputs_is_nowhere_in_the_answers_that_quote_it(self) -> None:
        async with api(script=greeting) as service:
            run = await service.run(DOCUMENT, inputs={"mail": MAIL, "list": ["Ada", MAIL + "!"]})
            recording = await exported(service, run["id"], redact=["/inputs/mail"])
        text = recording.model_dump_json()
        assert MAIL in orjson.dumps(run).decode()
        assert MAIL not in text
        assert MAIL.upper() not in text
        assert recording.steps["greet"].outputs is not None
        assert recording.steps["greet"].outputs["text"] == "Hello Greet [redacted]."
        assert recording.inputs["list"] == ["Ada", "[redacted]!"]

    async def test_an_answer_that_was_taken_out_is_not_in_one_that_quotes_it(self) -> None:
        async with api(script=greeting) as service:
            run = await service.run(
                workflow(llm("a", prompt="Tell me a secret"), llm("b", prompt="Repeat: {{ steps.a.text }}"))
            )
            recording = await exported(service, run["id"], redact=["/steps/a/outputs"])
        assert recording.steps["b"].outputs is not None
        assert recording.steps["b"].outputs["text"] == "Hello Repeat: [redacted]"
        assert recording.steps["b"].outputs["finish_reason"] == "stop"

    async def test_who_answered_and_what_it_took_is_replayed_and_other_fallbacks_are_told(self) -> None:
        def document(*models: str) -> dict[str, Any]:
            named = [{"provider": "own", "model": model} for model in models]
            asked = llm("a", fallbacks=named, response_schema={}, on_invalid={"repair_attempts": 1})
            said = "{{ steps.a.model }} after {{ steps.a.tried[0].model }}, {{ steps.a.repairs }}"
            return workflow(asked, outputs={"said": said})

        async def script(request: ChatRequest, context: CallContext) -> str:
            if request.model == "m":
                raise PermanentError("context_length", f"too long, {PROVIDER_SECRET}")
            return "{}" if len(request.messages) > 1 else "no JSON"

        async with api(script=script) as service:
            run = await service.run(document("larger"))
            recording = await exported(service, run["id"])
        assert run["outputs"] == {"said": "larger after m, 1"}
        assert PROVIDER_SECRET not in recording.model_dump_json()
        assert recording.steps["a"].billing is not None
        assert len(recording.steps["a"].billing["calls"]) == 2
        (same,) = await examine(orjson.dumps(document("larger")), [recording])
        (other,) = await examine(orjson.dumps(document("another")), [recording])
        assert same.differences == []
        assert "+    model: another" in other.differences[0].diff

    async def test_it_holds_inputs_prompts_answers_and_outputs_in_order(self) -> None:
        async with api(script=greeting) as service:
            run = await service.run(DOCUMENT, inputs={"mail": MAIL})
            recording = await exported(service, run["id"])
        assert recording.run.outputs == run["outputs"]
        assert recording.definition["steps"][0]["id"] == "greet"
        assert recording.inputs == {"mail": MAIL}
        assert list(recording.steps) == ["greet", "loud", "check"]
        greet, loud, check = recording.steps.values()
        assert greet.config["prompt"] == f"Greet {MAIL}."
        assert greet.hash is not None
        assert greet.outputs is not None
        assert greet.outputs["text"] == f"Hello Greet {MAIL}."
        assert greet.billing is not None
        assert (greet.billing["input_tokens"], greet.billing["output_tokens"]) == (3, 2)
        assert (loud.outputs, loud.config) == (None, None)
        assert check.config["prompt"] == f"Is this fine?\nHELLO GREET {MAIL.upper()}."

    async def test_what_is_pointed_at_is_nowhere_in_it(self) -> None:
        async with api(script=greeting) as service:
            run = await service.run(DOCUMENT, inputs={"mail": MAIL, "age": 36})
            body = {"redact": ["/inputs/*", "/steps/*/outputs/text"]}
            answer = await service.client.post(f"/v1/runs/{run['id']}/fixture", json=body)
            assert answer.status_code == 200, answer.text
        assert MAIL not in answer.text.lower()
        recording = Recording.model_validate_json(answer.content)
        assert recording.inputs == {"mail": "[redacted]", "age": 0}
        assert recording.steps["greet"].config["prompt"] == "Greet [redacted]."
        assert recording.steps["check"].config["prompt"] == "Is this fine?\n[REDACTED]"
        assert recording.run.outputs == {"answer": "[redacted]", "to": "[redacted]"}

    async def test_secrets_are_nowhere_in_it(self) -> None:
        async def leaking(request: ChatRequest, context: CallContext) -> str:
            return f"the key is {PROVIDER_SECRET}"

        document = workflow(llm("a", prompt="{{ inputs.password }} {{ inputs.deep }}"))
        deep: Any = PROVIDER_SECRET
        for _ in range(20):
            deep = [deep]
        inputs = {"password": "hunter2!", "deep": deep}
        async with api(script=leaking) as service:
            run = await service.run(document, inputs=inputs)
            answer = await service.client.post(f"/v1/runs/{run['id']}/fixture")
        assert answer.status_code == 200, answer.text
        assert PROVIDER_SECRET not in answer.text
        assert "hunter2!" not in answer.text

    async def test_a_failed_run_is_recorded_with_its_error(self) -> None:
        async with api(script=refuse) as service:
            run = await service.run(workflow(llm("a"), llm("b", prompt="{{ steps.a.text }}")))
            recording = await exported(service, run["id"])
        assert recording.run.status == "failed"
        step = recording.steps["a"]
        assert step.error is not None
        assert (step.status, step.error.error_class, step.error.message) == (
            "failed",
            "content_filter",
            "no, [redacted]",
        )
        assert list(recording.steps) == ["a"]

    async def test_people_and_clocks_are_recorded(self) -> None:
        document = workflow(
            {"id": "ok", "type": "approval", "message": "Send {{ inputs.what }}?"},
            {"id": "pause", "type": "wait", "seconds": 0.01, "depends_on": ["ok"]},
            llm("send", prompt="{{ steps.ok.action }} by {{ steps.ok.data.note }}", depends_on=["pause"]),
        )
        async with api() as service:
            body = {"workflow": document, "inputs": {"what": "it"}}
            run_id = (await service.client.post("/v1/runs", json=body)).json()["id"]
            approvals: list[Any] = []
            while not approvals:
                approvals = (await service.client.get("/v1/approvals")).json()["data"]
            answer = {"action": "approve", "data": {"note": "me"}}
            await service.client.post(f"/v1/approvals/{approvals[0]['id']}", json=answer)
            await ended(service.client, run_id)
            recording = await exported(service, run_id)
        assert list(recording.steps) == ["ok", "pause", "send"]
        ok = recording.steps["ok"]
        assert ok.config["message"] == "Send it?"
        assert ok.outputs == {"action": "approve", "data": {"note": "me"}, "by": "local"}
        assert recording.steps["send"].config["prompt"] == "approve by me"
