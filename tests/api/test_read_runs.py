"""Reading: pages that neither skip nor repeat, tags that tell what changed."""

from __future__ import annotations

import asyncio

import httpx
from structlog.testing import capture_logs

from app.api.v1.schemas.runs import Run, RunList
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import Definition, JournalRow, WorkflowRow
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow

DOCUMENT = workflow(llm("a"), llm("b", "{{ steps.a.text }}"))


async def submitted(client: httpx.AsyncClient, **more: object) -> str:
    answer = await client.post("/v1/runs", json={"workflow": DOCUMENT, **more})
    return str(answer.json()["id"])


async def test_a_run_that_this_version_cannot_read_is_the_services_fault(service: Api) -> None:
    run = await service.run(DOCUMENT)
    journal = service.bench.store.journal
    seq = len(await journal.read(run["id"])) + 1
    await journal.append([JournalRow(run_id=run["id"], seq=seq, type="FromTheFuture", payload=b"{}", at=1.0)])
    with capture_logs() as lines:
        answer = await service.client.get(run["links"]["self"])
    assert "FromTheFuture" not in problem(answer, 500, "run_unreadable").detail
    (line,) = [line for line in lines if line["event"] == "request.crashed"]
    assert "FromTheFuture" in str(line["exc_info"])


async def test_a_stored_definition_that_is_no_longer_understood_is_no_fault_of_the_caller(
    service: Api,
) -> None:
    document = b'{"name": "old", "steps": [{"id": "a", "type": "of_another_age"}]}'
    row = WorkflowRow(
        tenant="default",
        name="old",
        version="1",
        revision=1,
        definition_hash="0" * 64,
        description=None,
        labels={},
        created_at=1.0,
    )
    await service.bench.store.workflows.register(row, Definition(hash="0" * 64, document=document))
    problem(await service.client.get("/v1/workflows/old"), 500, "definition_unreadable")
    for path, body in (("/v1/runs", {"workflow": "old"}), ("/v1/workflows/old/runs", {})):
        problem(await service.client.post(path, json=body), 500, "definition_unreadable")


async def test_a_cursor_of_other_filters_is_refused(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await submitted(client, labels={"team": "a"})
    cursor = (await client.get("/v1/runs?limit=2")).json()["next_cursor"]
    for query in ("label=team:a", "workflow=test", "status=failed", "created_after=2026-01-01T00:00:00Z"):
        problem(await client.get(f"/v1/runs?limit=2&cursor={cursor}&{query}"), 400, "invalid_cursor")
    problem(await client.get(f"/v1/runs?cursor={cursor[:-2]}"), 400, "invalid_cursor")
    problem(await client.get(f"/v1/workflows?cursor={cursor}"), 400, "invalid_cursor")


async def test_pages_neither_skip_nor_repeat_while_runs_arrive(client: httpx.AsyncClient) -> None:
    ids = [await submitted(client) for _ in range(7)]
    seen: list[str] = []
    url: str | None = "/v1/runs?limit=3&workflow=test"
    while url:
        answer = await client.get(url)
        page = RunList.model_validate_json(answer.content)
        seen += [run.id for run in page.data]
        await submitted(client)
        link = answer.headers.get("link")
        assert (link is None) == (page.next_cursor is None)
        url = link.removeprefix("<").partition(">")[0] if link else None
        assert link is None or link.endswith('>; rel="next"')
    assert seen == ids[::-1]


async def test_filters_must_all_hold(service: Api) -> None:
    client = service.client
    red = await submitted(client, labels={"team": "a", "colour": "red"})
    blue = await submitted(client, labels={"team": "a", "colour": "blue:ish"})
    for run_id in (red, blue):
        await service.bench.finish(run_id)

    async def listed(query: str) -> list[str]:
        return [run["id"] for run in (await client.get(f"/v1/runs?{query}")).json()["data"]]

    assert await listed("label=team:a") == [blue, red]
    assert await listed("label=team:a&label=colour:red") == [red]
    assert await listed("label=colour:blue:ish") == [blue]
    assert await listed("label=colour:green") == []
    assert await listed("status=failed,cancelled") == []
    assert await listed("status=failed&status=completed") == [blue, red]
    assert await listed("workflow=other") == []
    created = (await client.get(f"/v1/runs/{blue}")).json()["created_at"]
    assert await listed(f"created_before={created}") == [red]
    assert await listed(f"created_after={created}") == []


async def test_an_unchanged_run_is_not_sent_again(client: httpx.AsyncClient) -> None:
    run_id = (await client.post("/v1/runs?wait=9", json={"workflow": DOCUMENT})).json()["id"]
    first = await client.get(f"/v1/runs/{run_id}")
    again = await client.get(f"/v1/runs/{run_id}", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    for other in ('"1"', '"999999999"', '"0"', "*x", f"{first.headers['etag']}x", '"7.outputs"'):
        answer = await client.get(f"/v1/runs/{run_id}", headers={"if-none-match": other})
        assert answer.status_code == 200, other
    several = f'"x", W/{first.headers["etag"]}'
    assert (await client.get(f"/v1/runs/{run_id}", headers={"if-none-match": several})).status_code == 304
    more = await client.get(
        f"/v1/runs/{run_id}?include=outputs", headers={"if-none-match": first.headers["etag"]}
    )
    assert more.status_code == 200


async def test_the_tag_changes_with_the_run() -> None:
    hold = asyncio.Event()

    async def held(request: ChatRequest, context: CallContext) -> str:
        await hold.wait()
        return "done"

    async with api(script=held) as service:
        run_id = await submitted(service.client)
        await service.bench.chat.started.wait()
        first = await service.client.get(f"/v1/runs/{run_id}")
        assert first.json()["status"] == "running"
        hold.set()
        await service.bench.finish(run_id)
        last = await service.client.get(
            f"/v1/runs/{run_id}", headers={"if-none-match": first.headers["etag"]}
        )
        assert (last.status_code, last.json()["status"]) == (200, "completed")


async def test_outputs_and_attempts_come_when_asked_for(client: httpx.AsyncClient) -> None:
    run_id = (await client.post("/v1/runs?wait=9", json={"workflow": DOCUMENT})).json()["id"]
    plain = Run.model_validate_json((await client.get(f"/v1/runs/{run_id}")).content)
    assert not plain.steps[0].model_fields_set & {"outputs", "attempts"}
    for query in ("include=outputs,attempts", "include=outputs&include=attempts"):
        full = Run.model_validate_json((await client.get(f"/v1/runs/{run_id}?{query}")).content)
        step = full.steps[0]
        assert step.outputs is not None
        assert step.outputs["text"] == "a done"
        assert step.attempts is not None
        assert [attempt.outcome for attempt in step.attempts] == ["succeeded"]
    assert plain.usage.input_tokens == 6
    assert plain.steps[1].usage is not None
