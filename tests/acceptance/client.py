"""A caller of the service, as the documentation describes one: HTTP, JSON and nothing of our own code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Self

import httpx

ENDED = {"completed", "failed", "cancelled", "timed_out"}


class Caller:
    """Talks to one service."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.http.close()

    def register(self, document: str | bytes) -> httpx.Response:
        """POST a document in YAML."""
        headers = {"content-type": "application/yaml"}
        return self.http.post("/v1/workflows", content=document, headers=headers)

    def validate(self, document: str) -> httpx.Response:
        """Check a document in YAML."""
        headers = {"content-type": "application/yaml"}
        return self.http.post("/v1/workflows/validate", content=document, headers=headers)

    def submit(
        self,
        workflow: str | Mapping[str, Any],
        inputs: Mapping[str, Any] | None = None,
        *,
        wait: int | None = None,
        key: str | None = None,
        **more: Any,
    ) -> httpx.Response:
        """Run a registered workflow or a definition."""
        return self.http.post(
            "/v1/runs",
            json={"workflow": workflow, "inputs": inputs or {}, **more},
            params={} if wait is None else {"wait": wait},
            headers={} if key is None else {"idempotency-key": key},
        )

    def run(
        self, workflow: str | Mapping[str, Any], inputs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run to the end."""
        response = self.submit(workflow, inputs, wait=60)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    def get(self, run_id: str, **params: str) -> dict[str, Any]:
        """Read a run."""
        body: dict[str, Any] = self.http.get(f"/v1/runs/{run_id}", params=params).raise_for_status().json()
        return body

    def events(self, run_id: str, **params: str) -> Iterator[dict[str, Any]]:
        """Follow a run as lines of JSON until the stream ends."""
        headers = {"accept": "application/x-ndjson"}
        with self.http.stream("GET", f"/v1/runs/{run_id}/events", headers=headers, params=params) as stream:
            assert stream.status_code == 200
            for line in stream.iter_lines():
                if line.strip():
                    yield json.loads(line)

    def until_ended(self, run_id: str) -> dict[str, Any]:
        """Follow a run to its end and read it."""
        for _ in self.events(run_id):
            pass
        run = self.get(run_id)
        assert run["status"] in ENDED
        return run

    def post(self, path: str, body: object = None, *, expect: int, key: str | None = None) -> dict[str, Any]:
        """POST JSON; the body of the answer, which has this status."""
        headers = {} if key is None else {"idempotency-key": key}
        answer = self.http.post(path, json={} if body is None else body, headers=headers)
        assert answer.status_code == expect, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def begin(
        self, workflow: str | Mapping[str, Any], inputs: Mapping[str, Any] | None = None, **more: Any
    ) -> str:
        """The id of a run that was accepted."""
        answer = self.submit(workflow, inputs, **more)
        assert answer.status_code == 202, answer.text
        run_id: str = answer.json()["id"]
        return run_id

    def reached(self, run_id: str, kind: str, *, path: str | None = None) -> dict[str, Any]:
        """The first event of this type, as soon as there is one."""
        for event in self.events(run_id, types=kind):
            if event["type"] == kind and path in {None, event["path"]}:
                return event
        raise AssertionError(f"run {run_id} ended without {kind} of {path}: {self.get(run_id)}")
