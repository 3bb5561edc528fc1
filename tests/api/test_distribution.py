"""What a reader asks of a run with a distributed map, and of the runs of its items, over HTTP."""

from __future__ import annotations

from typing import Any

import orjson

from app.engines.recording import Recording
from app.replay import examine
from tests.api.harness import Api, api, problem
from tests.api.test_batches import ended
from tests.engines.harness import llm, workflow
from tests.services.reading import transform


def spread(**more: Any) -> dict[str, Any]:
    steps = [llm("say", "{{ item }} {{ inputs.k }}"), transform("out", "10 // item", depends_on="say")]
    each = {"id": "each", "type": "map", "items": "inputs.xs", "distribute": True, "steps": steps, **more}
    return workflow(each, outputs={"r": "{{ steps.each.results }}", "e": "{{ steps.each.errors }}"})


INPUTS = {"xs": [1, 0, 2], "k": "k"}
CONTINUES = spread(on_item_error="continue")


async def get(service: Api, path: str) -> Any:
    answer = await service.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def item_run(service: Api, run_id: str, index: int) -> dict[str, Any]:
    steps = (await get(service, f"/v1/runs/{run_id}?include=outputs"))["steps"]
    (step,) = [step for step in steps if step["path"] == f"each[{index}].run"]
    run: dict[str, Any] = await get(service, f"/v1/runs/{step['outputs']['run_id']}")
    return run


async def test_wrong_uses_are_refused_with_their_places() -> None:
    wrong = spread(distribute="yes")
    wrong["steps"].append({"id": "w", "type": "workflow", "workflow": "x", "distribute": False})
    async with api() as service:
        answer = await service.client.post("/v1/runs", json={"workflow": wrong})
        told = problem(answer, 422, "definition_invalid")
    assert [(one.pointer, bool(one.hint)) for one in told.errors] == [
        ("/workflow/steps/0/distribute", True),
        ("/workflow/steps/1/distribute", True),
    ]


async def test_a_plan_counts_the_steps_of_every_item() -> None:
    async with api() as service:
        answer = await service.client.post(
            "/v1/workflows/plan", json={"workflow": CONTINUES, "inputs": INPUTS}
        )
        assert answer.status_code == 200, answer.text
        planned = {step["step"]: step for step in answer.json()["steps"]}
    assert [*planned] == ["each", "each.say", "each.out"]
    assert planned["each.say"]["instances"] == 3
    assert "each item is a run of its own" in planned["each"]["notes"]


async def test_graphs_show_the_steps_of_the_definition_and_the_items_of_a_run() -> None:
    async with api() as service:
        document = {**CONTINUES, "name": "spread"}
        assert (await service.client.post("/v1/workflows", json=document)).status_code == 201
        drawn = await get(service, "/v1/workflows/spread/versions/1/graph")
        assert [node["id"] for node in drawn["nodes"]] == ["each", "each[].say", "each[].out"]
        listed = (await get(service, "/v1/workflows/spread"))["steps"]
        assert [step["id"] for step in listed] == ["each", "say", "out"]
        run = await service.run(CONTINUES, inputs=INPUTS)
        drawn = await get(service, f"/v1/runs/{run['id']}/graph")
        nodes = {node["id"]: (node["type"], node["status"]) for node in drawn["nodes"]}
        assert nodes["each[1]"] == ("item", "failed")
        assert nodes["each[1].run"] == ("item_run", "failed")
        item = await item_run(service, run["id"], 0)
        inner = await get(service, f"/v1/runs/{item['id']}/graph")
        assert [node["id"] for node in inner["nodes"]] == ["say", "out"]


async def test_why_an_item_failed_leads_to_its_run() -> None:
    async with api() as service:
        run = await service.run(CONTINUES, inputs=INPUTS)
        why = await get(service, f"/v1/runs/{run['id']}/steps/each[1].run/why")
        assert why["reason"] == "child_failed"
        child = why["details"]["run_id"]
        inner = await get(service, f"/v1/runs/{child}/steps/out/why")
        assert inner["details"]["error"]["error_class"] == "template"


async def test_usage_names_the_runs_of_the_items() -> None:
    async with api() as service:
        run = await service.run(CONTINUES, inputs=INPUTS)
        usage = await get(service, f"/v1/runs/{run['id']}/usage")
        assert [child["path"] for child in usage["children"]] == [f"each[{n}].run" for n in range(3)]
        assert [child["calls"] for child in usage["children"]] == [1, 1, 1]


async def test_two_runs_and_two_items_are_compared_like_any_others() -> None:
    async with api() as service:
        first = await service.run(CONTINUES, inputs=INPUTS)
        second = await service.run(CONTINUES, inputs={**INPUTS, "xs": [1, 0, 5]})
        diff = await get(service, f"/v1/runs/{first['id']}/diff/{second['id']}")
        assert diff["definition"]["same"]
        a, b = [await item_run(service, run["id"], 2) for run in (first, second)]
        inner = await get(service, f"/v1/runs/{a['id']}/diff/{b['id']}")
        assert inner["definition"]["same"]
        assert not inner["inputs"]["same"]
        other = await service.run(workflow(transform("x", "1")))
        assert not (await get(service, f"/v1/runs/{a['id']}/diff/{other['id']}"))["definition"]["same"]


async def test_a_recording_replays_what_the_items_brought() -> None:
    async with api() as service:
        run = await service.run(CONTINUES, inputs=INPUTS)
        exported = await service.client.post(f"/v1/runs/{run['id']}/fixture")
        recording = Recording.model_validate_json(exported.content)
        assert recording.run.outputs == run["outputs"]
        assert recording.steps["each[0].run"].config == {"item": 1, "index": 0, "inputs": {"k": "k"}}
        (same,) = await examine(orjson.dumps(CONTINUES), [recording])
        assert same.differences == []
        asked = orjson.dumps(CONTINUES).replace(b"inputs.k", b"inputs.xs")
        (other,) = await examine(asked, [recording])
        assert [one.path for one in other.differences] == [f"each[{n}].run" for n in range(3)]
        item = await item_run(service, run["id"], 0)
        refused = await service.client.post(f"/v1/runs/{item['id']}/fixture")
        told = problem(refused, 409, "run_not_replayable")
        assert repr(run["id"]) in told.detail


async def test_a_retry_and_a_rerun_repeat_no_more_than_they_have_to() -> None:
    async with api() as service:
        failed = await service.run(spread(max_concurrency=1), inputs=INPUTS)
        assert failed["status"] == "failed"
        calls = service.bench.chat.calls
        assert calls["say"] == 2
        retried = await service.client.post(f"/v1/runs/{failed['id']}/retry")
        assert retried.status_code == 202, retried.text
        again = await ended(service.client, retried.json()["id"])
        assert (again["status"], calls["say"]) == ("failed", 2)
        done = await service.run(CONTINUES, inputs=INPUTS)
        assert calls["say"] == 5
        for start, made in (("out", 5), ("each.say", 8), ("each", 11)):
            body = {"from": start}
            answer = await service.client.post(f"/v1/runs/{done['id']}/rerun", json=body)
            assert answer.status_code == 202, answer.text
            rerun = await ended(service.client, answer.json()["id"])
            assert (rerun["outputs"], calls["say"]) == (done["outputs"], made), start


async def test_the_run_of_an_item_is_repeated_by_itself_within_what_it_takes() -> None:
    async with api() as service:
        run = await service.run(CONTINUES, inputs=INPUTS)
        item = await item_run(service, run["id"], 2)
        path = f"/v1/runs/{item['id']}/rerun"
        given = {"item": 5, "index": 2, "inputs": {"k": "k"}}
        answer = await service.client.post(path, json={"inputs": given})
        assert (await ended(service.client, answer.json()["id"]))["outputs"] == {"result": 2}
        problem(await service.client.post(path, json={"inputs": {"k": 1}}), 422, "inputs_invalid")
        other = {**workflow(transform("x", "1")), "version": "2"}
        assert (await service.client.post("/v1/workflows", json=other)).status_code == 201
        refused = problem(await service.client.post(path, json={"version": "2"}), 422, "unknown_step")
        assert refused.errors[0].pointer == "/version"
