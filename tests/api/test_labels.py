"""Labels that only the service sets, and how many a run may have with them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.harness import Api, problem
from tests.engines.harness import llm, workflow

DOCUMENT = workflow(llm("a"))
SCHEDULE = {"name": "daily", "workflow": "test", "cron": "@daily"}


async def count_of_runs(client: httpx.AsyncClient) -> int:
    return len((await client.get("/v1/runs")).json()["data"])


@pytest.mark.parametrize("name", ["batch", "schedule", "scheduled_for"])
@pytest.mark.parametrize(
    ("path", "body", "under"),
    [
        ("/v1/runs", {"workflow": DOCUMENT, "labels": {"LABEL": "x"}}, "/labels"),
        ("/v1/workflows/test/runs", {"labels": {"LABEL": "x"}}, "/labels"),
        ("/v1/runs:batch", {"workflow": "test", "runs": [{}], "labels": {"LABEL": "x"}}, "/labels"),
        ("/v1/runs:batch", {"workflow": "test", "runs": [{}, {"labels": {"LABEL": "x"}}]}, "/runs/1/labels"),
        ("/v1/schedules", {**SCHEDULE, "labels": {"LABEL": "x"}}, "/labels"),
        ("/v1/runs/RUN/rerun", {"labels": {"LABEL": "x"}}, "/labels"),
    ],
)
async def test_labels_of_the_service_are_refused(
    service: Api, path: str, body: dict[str, Any], under: str, name: str
) -> None:
    client = service.client
    await client.post("/v1/workflows", json=DOCUMENT)
    run = await service.run(DOCUMENT)

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {name if key == "LABEL" else key: named(one) for key, one in value.items()}
        return [named(one) for one in value] if isinstance(value, list) else value

    answer = await client.post(path.replace("RUN", run["id"]), json=named(body))
    (one,) = problem(answer, 422, "labels_invalid").errors
    assert (one.pointer, one.hint) == (f"{under}/{name}", "choose another name")
    assert await count_of_runs(client) == 1
    assert (await client.get("/v1/schedules")).json()["data"] == []


async def test_a_batch_whose_runs_would_have_too_many_labels_is_refused_whole(
    client: httpx.AsyncClient,
) -> None:
    common = {f"common{n}": "x" for n in range(32)}
    own = {f"own{n}": "x" for n in range(32)}
    body: dict[str, Any] = {"workflow": DOCUMENT, "labels": common, "runs": [{}, {"labels": own}]}
    (one,) = problem(await client.post("/v1/runs:batch", json=body), 422, "labels_invalid").errors
    assert (one.pointer, one.hint) == ("/runs/1/labels", "set 63 at most")
    body = {"workflow": DOCUMENT, "labels": {**common, **own}, "runs": [{}]}
    (one,) = problem(await client.post("/v1/runs:batch", json=body), 422, "labels_invalid").errors
    assert one.pointer == "/labels"
    assert await count_of_runs(client) == 0
    del own["own0"]
    body = {"workflow": DOCUMENT, "labels": common, "runs": [{"labels": own}]}
    assert (await client.post("/v1/runs:batch", json=body)).status_code == 202
