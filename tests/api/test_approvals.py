"""Approvals over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.harness import api, approval_of, problem
from tests.engines.harness import workflow

FORM = {"type": "object", "required": ["note"], "properties": {"note": {"type": "string"}}}
ASK: dict[str, Any] = workflow(
    {"id": "ok", "type": "approval", "message": "Send it?", "form": FORM},
    outputs={"said": "{{ steps.ok.data.note | default('') }}"},
)
UNKNOWN = "0197d6a0-7c1e-7000-8000-00000000dead"


async def test_an_approval_that_is_not_there_is_not_found() -> None:
    async with api() as it:
        problem(await it.client.get(f"/v1/approvals/{UNKNOWN}"), 404, "approval_not_found")
        answer = await it.client.post(f"/v1/approvals/{UNKNOWN}", json={"action": "approve"})
        problem(answer, 404, "approval_not_found")


@pytest.mark.parametrize(
    ("data", "pointer"), [({}, "/data"), ({"note": 5}, "/data/note"), (None, "/data"), ("x", "/data")]
)
async def test_an_answer_that_does_not_fit_the_form_is_refused_and_changes_nothing(
    data: Any, pointer: str
) -> None:
    async with api() as it:
        approval = await approval_of(it, ASK)
        answer = await it.client.post(
            f"/v1/approvals/{approval['id']}", json={"action": "approve", "data": data}
        )
        told = problem(answer, 422, "answer_invalid")
        assert [one.pointer for one in told.errors] == [pointer]
        assert (await it.client.get(f"/v1/approvals/{approval['id']}")).json()["status"] == "pending"


async def test_an_answer_without_data_is_told_what_the_form_requires() -> None:
    async with api() as it:
        approval = await approval_of(it, ASK)
        answer = await it.client.post(f"/v1/approvals/{approval['id']}", json={"action": "approve"})
        told = problem(answer, 422, "answer_invalid")
        assert told.detail.endswith("the form is not filled in")
        (one,) = told.errors
        assert (one.pointer, one.detail) == ("/data", "the form is not filled in")
        assert one.hint == 'add "data": {"note": …}; the form requires \'note\''


async def test_an_answer_lets_the_run_go_on_and_a_second_one_is_refused() -> None:
    async with api() as it:
        approval = await approval_of(it, ASK)
        where = f"/v1/approvals/{approval['id']}"
        given = {"action": "approve", "data": {"note": "fine"}}
        first = await it.client.post(where, json=given)
        assert first.status_code == 200
        assert first.json()["answered_by"] == "local"
        assert (await it.client.get(where)).content == first.content
        problem(await it.client.post(where, json=given), 409, "approval_answered")
        run = (await it.client.get(f"/v1/runs/{approval['run_id']}")).json()
        async with asyncio.timeout(5):
            while run["status"] != "completed":
                run = (await it.client.get(f"/v1/runs/{approval['run_id']}")).json()
        assert run["outputs"] == {"said": "fine"}


async def test_an_answer_under_a_key_is_given_again() -> None:
    async with api() as it:
        approval = await approval_of(it, ASK)
        where, headers = f"/v1/approvals/{approval['id']}", {"Idempotency-Key": "k"}
        given = {"action": "reject"}
        first = await it.client.post(where, json=given, headers=headers)
        again = await it.client.post(where, json=given, headers=headers)
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["idempotency-replayed"] == "true"


async def test_an_approval_of_a_cancelled_run_is_gone() -> None:
    async with api() as it:
        approval = await approval_of(it, ASK)
        await it.client.post(f"/v1/runs/{approval['run_id']}/cancel")
        answer = await it.client.post(
            f"/v1/approvals/{approval['id']}", json={"action": "approve", "data": {"note": "x"}}
        )
        problem(answer, 410, "approval_expired")


async def test_pages_of_approvals_continue_where_the_last_one_ended() -> None:
    async with api() as it:
        ids = [(await approval_of(it, ASK))["id"] for _ in range(3)]
        page = (await it.client.get("/v1/approvals", params={"limit": 2})).json()
        rest = (
            await it.client.get("/v1/approvals", params={"limit": 2, "cursor": page["next_cursor"]})
        ).json()
        assert [one["id"] for one in page["data"] + rest["data"]] == ids
        assert rest["next_cursor"] is None
