"""What is exported can be replayed: whatever a run did, its document passes on its own recording."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from app.engines.recording import Recording
from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import CallContext, ChatRequest
from app.replay import Verdict, examine
from tests.api.harness import Api, api
from tests.engines.harness import llm, workflow

NO_RETRY = {"max_attempts": 1}
GREET = workflow(llm("say", prompt="Hi {{ inputs.who }}"), name="greet", version="1")
MAP = workflow(
    {
        "id": "each",
        "type": "map",
        "items": "{{ inputs.words }}",
        "as": "word",
        "max_concurrency": 3,
        "on_item_error": "drop",
        "steps": [
            llm("say", prompt="{{ word }} {{ index }}", retry=NO_RETRY),
            {"id": "loud", "type": "transform", "expression": "steps.say.text | upper"},
        ],
    },
    llm("sum", prompt="{{ steps.each.results | tojson }}"),
)
DOCUMENTS: Mapping[str, dict[str, Any]] = {
    "map": MAP,
    "loop": workflow(
        {
            "id": "again",
            "type": "loop",
            "max_iterations": 3,
            "until": "loop.iteration >= 3",
            "steps": [llm("try", prompt="{{ loop.iteration }} {{ loop.last }}")],
        }
    ),
    "parallel": workflow(
        {"id": "both", "type": "parallel", "tasks": [llm("a"), llm("b", prompt="other")]},
        llm("c", prompt="{{ steps.both.a.text }} {{ steps.both.b.text }}"),
    ),
    "branch": workflow(
        llm("a"),
        {
            "id": "route",
            "type": "branch",
            "condition": "steps.a.text",
            "branches": {"a done": [llm("yes")]},
            "default": [llm("no")],
        },
    ),
    "on_error": workflow(
        llm("bad", prompt="bad", on_error={"action": "continue", "value": "none"}),
        llm("next", prompt="got {{ steps.bad.text }}"),
    ),
    "retries": workflow(llm("flaky", prompt="flaky")),
    "failure": workflow(
        llm("bad", prompt="bad"),
        llm("never", prompt="{{ steps.bad.text }}"),
        llm("beside", prompt="slow"),
        on_failure=[llm("alarm", prompt="{{ run.error.path }} failed")],
        **{"finally": [llm("tidy", prompt="{{ run.status }}")]},
    ),
    "skips": workflow(llm("a", condition="false"), llm("b", condition="true")),
    "short wait": workflow({"id": "w", "type": "wait", "seconds": 0.02}, llm("a", depends_on=["w"])),
    "block timeout": workflow(
        {
            "id": "block",
            "type": "parallel",
            "timeout_seconds": 0.2,
            "on_error": {"action": "continue", "value": {}},
            "tasks": [llm("a"), llm("stuck", prompt="stuck")],
        },
        llm("after", depends_on=["block"]),
    ),
    "attempt timeout": workflow(llm("stuck", prompt="stuck", timeout_seconds=0.1, retry=NO_RETRY)),
    "called": workflow(
        {"id": "call", "type": "workflow", "workflow": "greet", "inputs": {"who": "{{ inputs.who }}"}},
        {"id": "launch", "type": "workflow", "workflow": "greet", "inputs": {"who": "x"}, "wait": False},
        llm("after", prompt="{{ steps.call.say }} {{ steps.launch.run_id }}"),
    ),
    "run id": workflow(llm("a", prompt="{{ run.id }} {{ run.workflow }}")),
}


class Moods:
    """A model that does what its prompt says."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()

    async def __call__(self, request: ChatRequest, context: CallContext) -> str:
        prompt = str(request.messages[-1].content)
        self._calls[prompt] += 1
        if prompt.startswith("bad"):
            raise PermanentError("content_filter", "no")
        if prompt == "flaky" and self._calls[prompt] == 1:
            raise TemporaryError("server_error", "later")
        if prompt == "stuck":
            await asyncio.Event().wait()
        if prompt == "slow":
            await asyncio.sleep(0.05)
        return f"{context.path} done"


async def recorded(service: Api, document: dict[str, Any], **inputs: Any) -> Recording:
    run = await service.run(document, inputs=inputs)
    answer = await service.client.post(f"/v1/runs/{run['id']}/fixture")
    assert answer.status_code == 200, answer.text
    return Recording.model_validate_json(answer.content)


async def verdict(document: Any, recording: Recording) -> Verdict:
    (found,) = await examine(orjson.dumps(document), [recording])
    return found


def told(found: Verdict) -> list[tuple[str | None, str]]:
    return [(one.path, one.detail) for one in found.differences]


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_document_passes_on_the_recording_of_its_own_run(name: str) -> None:
    async with api(script=Moods()) as service:
        await service.client.post("/v1/workflows", json=GREET)
        words = [f"bad{n}" if n % 4 == 0 else f"w{n}" for n in range(12)]
        document = DOCUMENTS[name]
        recording = await recorded(service, document, words=words, who="Ada")
    found = await verdict(document, recording)
    assert told(found) == []
    assert found.renewed == recording


class TestDifferences:
    @pytest.fixture
    async def recording(self) -> Recording:
        async with api() as service:
            return await recorded(service, self.document())

    def document(self, *more: dict[str, Any], prompt: str = "b of {{ steps.a.text }}") -> dict[str, Any]:
        steps = [llm("a", prompt="one\ntwo\nthree"), llm("b", prompt=prompt), *more]
        return workflow(*steps, outputs={"text": "{{ steps.b.text }}"})

    async def test_another_prompt_is_told_with_its_diff(self, recording: Recording) -> None:
        document = self.document()
        document["steps"][0]["prompt"] = "one\n2\nthree"
        (one,) = (await verdict(document, recording)).differences
        assert one.path == "a"
        assert [line for line in one.diff if line[0] in "-+"][2:] == ["-    two", "+    2"]

    async def test_a_change_that_comes_out_the_same_is_none(self, recording: Recording) -> None:
        assert told(await verdict(self.document(prompt="b of {{ outputs.a }}"), recording)) == []

    async def test_a_step_that_is_new_has_no_answer(self, recording: Recording) -> None:
        found = await verdict(self.document(llm("c")), recording)
        assert found.renewed is None
        assert told(found)[0] == ("c", "asks for an answer (llm) that was not recorded: record a new run")

    async def test_a_step_that_is_gone_is_missed(self, recording: Recording) -> None:
        document = self.document()
        del document["steps"][0]
        document["steps"][0]["prompt"] = "b of a done"
        assert told(await verdict(document, recording)) == [
            ("a", "ran when it was recorded (llm) and does not run now")
        ]

    async def test_another_end_is_told(self, recording: Recording) -> None:
        document = self.document()
        document["outputs"] = {"text": "{{ steps.a.text }}"}
        (one,) = (await verdict(document, recording)).differences
        assert (one.path, one.detail) == (None, "the outputs of the run differ")
        assert [*one.diff][-2:] == ["-text: b done", "+text: a done"]

    async def test_a_transform_is_computed_and_may_fail(self, recording: Recording) -> None:
        parse = {"id": "t", "type": "transform", "function": "parse_json", "inputs": "{{ steps.a.text }}"}
        details = [detail for _, detail in told(await verdict(self.document(parse), recording))]
        assert any("the run had completed and has failed" in detail for detail in details)

    async def test_inputs_that_no_longer_fit_are_told(self, recording: Recording) -> None:
        document = {**self.document(), "inputs": {"type": "object", "required": ["lang"]}}
        ((path, detail),) = told(await verdict(document, recording))
        assert path is None
        assert "lang" in detail

    async def test_what_is_renewed_passes(self, recording: Recording) -> None:
        document = self.document(prompt="another prompt")
        found = await verdict(document, recording)
        assert found.renewed is not None
        assert found.renewed.steps["b"].config["prompt"] == "another prompt"
        assert found.renewed.steps["b"].outputs == recording.steps["b"].outputs
        assert told(await verdict(document, found.renewed)) == []
